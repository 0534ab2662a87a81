//! Functions to call by name.

use std::env;

#[unsafe(no_mangle)]
pub extern "C" fn add(a: i32, b: i32) -> i32 {
    a.wrapping_add(b)
}

#[unsafe(no_mangle)]
pub extern "C" fn twice(number: i64) -> i64 {
    number * 2
}

#[unsafe(no_mangle)]
pub extern "C" fn half(number: f32) -> f32 {
    number / 2.0
}

#[unsafe(no_mangle)]
pub extern "C" fn scale(factor: f64, number: i64) -> f64 {
    factor * number as f64
}

#[unsafe(no_mangle)]
pub extern "C" fn greet() {
    let args: Vec<String> = env::args().skip(1).collect();
    println!("hello {} {}", env::var("NAME").unwrap_or_default(), args.join(" "));
}

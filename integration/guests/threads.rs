//! Threads, each way in which they can go.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;
use std::{env, process};

fn main() {
    match env::args().nth(1).as_deref() {
        Some("count") => count(),
        Some("many") => many(),
        Some("exit") => in_a_thread(|| process::exit(7)),
        Some("panic") => in_a_thread(|| panic!("as asked")),
        Some("leave") => {
            thread::spawn(spin);
            thread::spawn(|| thread::sleep(Duration::from_secs(600)));
        }
        Some("spin") => {
            thread::spawn(spin);
            println!("ready");
            spin();
        }
        Some("read") => read(),
        Some("files") => files(),
        Some("grow") => grow(),
        other => panic!("unknown request {other:?}"),
    }
}

fn spin() {
    loop {
        std::hint::black_box(0);
    }
}

fn count() {
    let (atomic, locked) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(0)));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (atomic, locked) = (atomic.clone(), locked.clone());
            thread::spawn(move || {
                for _ in 0..10_000 {
                    atomic.fetch_add(1, Ordering::Relaxed);
                    *locked.lock().expect("no thread panics") += 1;
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
    println!("{} {}", atomic.load(Ordering::Relaxed), locked.lock().expect("no thread panics"));
}

/// One after the other, and until there is no room for another.
fn many() {
    let sum: u32 = (0..500).map(|n| thread::spawn(move || n).join().expect("no panic")).sum();
    println!("sum {sum}");
    let mut sleeping = 0;
    while thread::Builder::new().spawn(|| thread::sleep(Duration::from_secs(600))).is_ok() {
        sleeping += 1;
    }
    println!("{sleeping} at once");
}

/// The main thread waits for ever.
fn in_a_thread(end: fn()) {
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        end();
    });
    thread::sleep(Duration::from_secs(600));
}

/// A thread that waits for input holds up no other.
fn read() {
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        sender.send(()).expect("the other side waits");
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).expect("read");
        println!("read {text:?}");
    });
    receiver.recv().expect("the reader lives");
    thread::sleep(Duration::from_millis(100));
    println!("ready");
    reader.join().expect("no panic");
}

fn files() {
    let threads: Vec<_> = (0..4)
        .map(|n| {
            thread::spawn(move || {
                let name = format!("/file{n}");
                let mut file = std::fs::File::create(&name).expect("create");
                (0..1000).for_each(|line| writeln!(file, "{n} {line}").expect("write"));
                std::fs::read_to_string(&name).expect("read").lines().count()
            })
        })
        .collect();
    let lines: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    println!("{lines} lines");
}

fn grow() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = Vec::new();
        if block.try_reserve_exact(1 << 20).is_err() {
            break;
        }
        block.resize(1 << 20, 1_u8);
        taken.push(block);
    }
    println!("refused after {} MiB", taken.len());
}

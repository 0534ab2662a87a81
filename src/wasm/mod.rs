//! Compiling, caching and running wasm. Knows wasmtime, and neither the command line nor
//! containerd.

pub mod cache;
pub mod call;
pub mod command;
pub mod compile;
pub mod engine;
pub mod http;
pub mod inspect;
pub mod limits;
pub mod memory_file;
pub mod module;
pub mod p1;
pub mod stdio;
pub mod threads;

//! Links the binaries at a fixed address.
//!
//! Every command is a new process, and relocating a position-independent binary of this size takes
//! half of its start and makes the pages it touches private to each container. The heap, the
//! stacks and all machine code of guests keep their random addresses. docs/benchmarks.md has the
//! numbers.

fn main() {
    println!("cargo::rustc-link-arg-bins=-no-pie");
    println!("cargo::rerun-if-changed=build.rs");
}

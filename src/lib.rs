//! `runwasm`: WebAssembly and Linux containers side by side, from one OCI runtime.
//!
//! Imports go one way: the binaries use [`cli`], which uses [`container`], which
//! uses [`wasm`] and [`oci`], which use [`sys`]; only [`sys`] may be unsafe.

pub mod cli;
pub mod container;
pub mod error;
pub mod oci;
pub mod sys;
pub mod wasm;

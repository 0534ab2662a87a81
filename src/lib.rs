//! `runwasm`: WebAssembly and Linux containers side by side, from one OCI runtime.
//!
//! Imports go one way: the binaries use [`cli`] and [`shim`]; [`cli`] uses [`container`], which
//! uses [`wasm`] and [`oci`], which use [`config`] and [`sys`]; only [`sys`] may be unsafe. [`image`] knows files and
//! is used by [`cli`] and [`container`]. [`shim`] uses none of them: it runs the command line.

pub mod cli;
pub mod config;
pub mod container;
pub mod error;
pub mod image;
pub mod oci;
pub mod shim;
pub mod sys;
pub mod wasm;

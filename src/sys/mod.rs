//! The only module that may use `unsafe`: thin, checked wrappers around what the standard
//! library, nix and wasmtime offer only as unsafe calls.
#![allow(unsafe_code)]

pub mod artefact;
pub mod descriptors;
pub mod device_filter;
pub mod environment;
pub mod fork;
pub mod identity;
pub mod loopback;
pub mod names;
pub mod pidfd;
pub mod priority;
pub mod readiness;
pub mod seal;
pub mod signals;
pub mod terminal;
pub mod title;

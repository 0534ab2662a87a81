//! Loading machine code that the compile cache has verified.

use std::fs::File;
use std::os::fd::AsRawFd;

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// Maps a compiled core module. The file's pages are shared with every other process that
/// maps it.
///
/// # Errors
/// When the artefact was made by another wasmtime, for another CPU, or with other settings.
pub fn map_module(engine: &Engine, artefact: &File) -> wasmtime::Result<Module> {
    // SAFETY: artefacts come only from `wasm::cache`, which takes none from images: it made the
    // file itself, checks its owner, mode and checksum on every open, and never modifies a file
    // in place.
    unsafe { Module::deserialize_file(engine, descriptor_path(artefact)) }
}

/// Maps a compiled component. See [`map_module`].
///
/// # Errors
/// As [`map_module`].
pub fn map_component(engine: &Engine, artefact: &File) -> wasmtime::Result<Component> {
    // SAFETY: as in `map_module`.
    unsafe { Component::deserialize_file(engine, descriptor_path(artefact)) }
}

/// A path that opens exactly this open file, whatever its name refers to by now.
fn descriptor_path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

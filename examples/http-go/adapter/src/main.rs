//! Writes the adapter that makes a component of a WASI 0.1 library to standard output.

use std::io::{self, Write};

use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;

fn main() -> io::Result<()> {
    io::stdout().write_all(WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
}

//! Telling what kind of file an entrypoint is.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::rootfs::head;

/// Text modules are written by hand; a larger one is not text.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// What the first bytes of a file say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A core WebAssembly module.
    Module,
    /// A component.
    Component,
    /// The text format; it parses.
    Text,
    /// `\0asm`, but too short or with an unknown version.
    Malformed,
    /// Fewer bytes than `\0asm`, and all of them its beginning.
    Truncated,
    /// Machine code made by wasmtime. Never run: it would be native code from a stranger.
    Precompiled,
    /// An ELF file.
    Elf,
    /// A `#!` script.
    Script,
    /// No bytes at all.
    Empty,
    /// Printable text.
    PlainText,
    /// Anything else.
    Other,
}

impl Format {
    /// Recognises `file`; `text` says whether its name allows the text format (`*.wat`).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of(file: &File, text: bool) -> io::Result<Self> {
        let head = head::<8>(file)?;
        Ok(match head.as_slice() {
            [] => Self::Empty,
            b"\0asm\x01\0\0\0" => Self::Module,
            b"\0asm\x0d\0\x01\0" => Self::Component,
            [0, b'a', b's', b'm', ..] => Self::Malformed,
            start if b"\0asm".starts_with(start) => Self::Truncated,
            // e_ident[EI_OSABI] of the object files wasmtime writes (ELFOSABI_WASMTIME).
            [0x7f, b'E', b'L', b'F', _, _, _, 200, ..] => Self::Precompiled,
            [0x7f, b'E', b'L', b'F', ..] => Self::Elf,
            [b'#', b'!', ..] => Self::Script,
            _ if text && text_to_binary(file).is_ok() => Self::Text,
            text if text.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
                Self::PlainText
            }
            _ => Self::Other,
        })
    }

    /// Whether this is something the wasm engine is asked to run.
    pub fn is_wasm(self) -> bool {
        matches!(self, Self::Module | Self::Component | Self::Text | Self::Malformed)
    }

    /// The words an error uses for it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Module => "a WebAssembly module",
            Self::Component => "a WebAssembly component",
            Self::Text => "a WebAssembly text module",
            Self::Malformed => "a truncated or malformed WebAssembly file",
            Self::Truncated => "a truncated WebAssembly file",
            Self::Precompiled => "a precompiled module",
            Self::Elf => "an ELF file",
            Self::Script => "a #! script",
            Self::Empty => "empty",
            Self::PlainText => "plain text",
            Self::Other => "neither WebAssembly nor an executable format",
        }
    }
}

/// Parses the text format into the binary one.
///
/// # Errors
/// When the file is larger than 16 MiB, cannot be read, or does not parse; the text names line
/// and column.
pub fn text_to_binary(file: &File) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    if size > MAX_TEXT_BYTES {
        return Err(io::Error::other(format!("{size} bytes of text, more than 16 MiB")));
    }
    let mut text = vec![0; size as usize];
    file.read_exact_at(&mut text, 0)?;
    let binary = wat::parse_bytes(&text).map_err(io::Error::other)?;
    Ok(binary.into_owned())
}

/// Reads a whole file from its start.
///
/// # Errors
/// The error of read(2).
pub fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(file.metadata()?.len() as usize);
    io::Seek::rewind(&mut &*file)?;
    (&*file).read_to_end(&mut bytes)?;
    Ok(bytes)
}

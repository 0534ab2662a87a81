//! Guest programs: WebAssembly text, and small programs in Rust, C and Go built on first use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::command::Cmd;
use super::{Result, suite};

/// A program for a wasm container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guest {
    /// `guests/NAME.wat` as a binary module.
    Wat(&'static str),
    /// `guests/NAME.wat` as it is.
    WatText(&'static str),
    /// `guests/NAME.rs` as a module for WASI 0.1.
    Module(&'static str),
    /// `guests/NAME.rs` as a component for WASI 0.2.
    Component(&'static str),
    /// `guests/NAME.rs` for WASI 0.1 with threads.
    Threads(&'static str),
    /// `guests/NAME.c` for WASI 0.1.
    C(&'static str),
    /// `guests/NAME.go` for WASI 0.1.
    Go(&'static str),
    /// `guests/NAME.rs` as a library: functions to call by name.
    RustLibrary(&'static str),
    /// `guests/NAME.c` as a library.
    CLibrary(&'static str),
    /// `guests/NAME.go` as a library.
    GoLibrary(&'static str),
}

/// The program that does what its first argument says, on WASI 0.1.
pub const PROBE: Guest = Guest::Module("probe");
/// The same program as a WASI 0.2 component.
pub const PROBE_COMPONENT: Guest = Guest::Component("probe");

impl Guest {
    /// The program's bytes.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        match self {
            Self::Wat(name) => {
                Ok(wat::parse_file(source(&format!("{name}.wat"))).map_err(|e| e.to_string())?)
            }
            Self::WatText(name) => Ok(fs::read(source(&format!("{name}.wat")))?),
            _ => Ok(fs::read(self.built()?)?),
        }
    }

    /// The built file. One trial builds; the others that want the same wait for it.
    fn built(&self) -> Result<PathBuf> {
        static BUILT: OnceLock<Mutex<BTreeMap<Guest, PathBuf>>> = OnceLock::new();
        let built = BUILT.get_or_init(Mutex::default);
        let mut built = built.lock().map_err(|_| "a guest could not be built")?;
        if let Some(file) = built.get(self) {
            return Ok(file.clone());
        }
        let file = suite::new_dir("guest")?.join("guest.wasm");
        let limit = Duration::from_secs(300);
        self.compiler(&file).limit(limit).run()?.success()?;
        built.insert(*self, file.clone());
        Ok(file)
    }

    fn compiler(&self, output: &Path) -> Cmd {
        match self {
            Self::Module(name) => rustc("wasm32-wasip1", name).arg(output),
            Self::Threads(name) => rustc("wasm32-wasip1-threads", name).arg(output),
            Self::Component(name) => rustc("wasm32-wasip2", name).arg(output),
            Self::RustLibrary(name) => {
                rustc("wasm32-wasip1", name).arg(output).arg("--crate-type=cdylib")
            }
            Self::C(name) => clang(name).arg(output),
            Self::CLibrary(name) => clang(name).arg(output).arg("-mexec-model=reactor"),
            Self::Go(name) => go(name, output, "exe"),
            Self::GoLibrary(name) => go(name, output, "c-shared"),
            Self::Wat(_) | Self::WatText(_) => unreachable!("text needs no compiler"),
        }
    }
}

fn rustc(target: &str, name: &str) -> Cmd {
    Cmd::new("rustc")
        .args(["--edition=2024", "-Copt-level=2", "-Cstrip=symbols", "--target", target])
        .arg(source(&format!("{name}.rs")))
        .arg("-o")
}

fn clang(name: &str) -> Cmd {
    Cmd::new("clang")
        .args(["--target=wasm32-wasi", "-O2", "-Wall", "-Werror"])
        // The C library's poll keeps all it is asked on the stack, which has 64 KiB otherwise.
        .arg("-Wl,-z,stack-size=1048576")
        .arg(source(&format!("{name}.c")))
        .arg("-o")
}

fn go(name: &str, output: &Path, mode: &str) -> Cmd {
    Cmd::new("go")
        .args(["build", "-ldflags=-s -w", "-buildmode", mode, "-o"])
        .arg(output)
        .arg(source(&format!("{name}.go")))
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm")
}

/// A file beside the guests.
pub fn source(name: &str) -> PathBuf {
    suite::repository().join("integration/guests").join(name)
}

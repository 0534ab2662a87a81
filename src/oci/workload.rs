//! Is it wasm? One decision, made once, with its reason.
//!
//! | # | condition (first match wins) | workload |
//! |---|---|---|
//! | 1 | `io.kubernetes.cri.container-type=sandbox` | Linux |
//! | 2 | `run.oci.handler` is `wasm`, `wasm-smart` or `wasmtime` | wasm if the entrypoint is a wasm file, else Linux |
//! | 3 | `run.oci.handler` is anything else | error |
//! | 4 | `module.wasm.image/variant` is `compat` or `compat-smart` | as 2 |
//! | 5 | the entrypoint is a wasm file | wasm |
//! | 6 | there is no such file, and the image is a wasm OCI artifact | wasm |
//! | 7 | otherwise | Linux |

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

use super::annotations::{CRI_CONTAINER_TYPE, HANDLER, VARIANT};
use super::rootfs::{Found, Rootfs};
use super::wasm_file::Format;
use crate::error::{Context, Error, ErrorKind, Result};

/// How a container's process runs, and why.
#[derive(Debug)]
pub struct Decision {
    /// Wasm or Linux.
    pub workload: Workload,
    /// For the log and for `state`: the annotation or the file that decided.
    pub reason: String,
}

/// What to run.
#[derive(Debug)]
pub enum Workload {
    /// An ordinary program, by execve.
    Linux,
    /// A wasm file, in wasmtime.
    Wasm(WasmFile),
}

/// A wasm file found inside the root file system.
#[derive(Debug)]
pub struct WasmFile {
    /// Its path inside the container.
    pub path: PathBuf,
    /// The file, open for reading.
    pub file: File,
    /// Module, component or text.
    pub format: Format,
    /// The function named by a `#func` suffix, called instead of `_start`.
    pub export: Option<String>,
}

/// Finds a program in the image of a container whose root file system does not have it: its path
/// and the file.
pub type Artifact<'a> = &'a dyn Fn(&str) -> Result<Option<(PathBuf, File)>>;

/// Decides how the process of `spec` runs. Pure: it reads the spec, files below `rootfs` and
/// `artifact`, and changes nothing.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for an unknown handler, for a precompiled module, and, where
/// an annotation asks for wasm, for a `.wasm` or `.wat` entrypoint that is none.
pub fn decide(spec: &Spec, rootfs: &Rootfs, artifact: Artifact<'_>) -> Result<Decision> {
    let annotation = |key: &str| spec.annotations().as_ref()?.get(key).map(String::as_str);
    if annotation(CRI_CONTAINER_TYPE) == Some("sandbox") {
        return Ok(linux(format!("annotation {CRI_CONTAINER_TYPE}=sandbox")));
    }
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::invalid("config.json: process is missing; a container needs it"))?;
    let asked = match (annotation(HANDLER), annotation(VARIANT)) {
        (Some(handler @ ("wasm" | "wasm-smart" | "wasmtime")), _) => {
            Some(format!("annotation {HANDLER}={handler}"))
        }
        (Some(other), _) => {
            return Err(Error::invalid(format!(
                "annotation {HANDLER}={other:?} names an unknown handler; use wasm, wasm-smart or wasmtime"
            )));
        }
        (None, Some(variant @ ("compat" | "compat-smart"))) => {
            Some(format!("annotation {VARIANT}={variant}"))
        }
        (None, _) => None,
    };
    decide_by_entrypoint(process, rootfs, artifact, asked)
}

/// Decides by the program of `process` alone, for an exec into a wasm container.
///
/// # Errors
/// As [`decide`].
pub fn decide_exec(process: &Process, rootfs: &Rootfs, artifact: Artifact<'_>) -> Result<Decision> {
    decide_by_entrypoint(process, rootfs, artifact, None)
}

fn linux(reason: String) -> Decision {
    Decision { workload: Workload::Linux, reason }
}

fn decide_by_entrypoint(
    process: &Process,
    rootfs: &Rootfs,
    artifact: Artifact<'_>,
    asked: Option<String>,
) -> Result<Decision> {
    let because = |what: String| match &asked {
        Some(annotation) => format!("{annotation} and {what}"),
        None => what,
    };
    let Some(entrypoint) = find_entrypoint(process, rootfs)? else {
        if let Some(file) = find_in_artifact(process, artifact)? {
            let path = file.path.display();
            let reason = format!("{path} is {} of a wasm artifact", file.format.describe());
            return Ok(Decision { reason: because(reason), workload: Workload::Wasm(file) });
        }
        return Ok(linux(because("the entrypoint is not a readable file".into())));
    };
    let path = entrypoint.path.display().to_string();
    let format = entrypoint.format;
    if format.is_wasm() {
        let reason = because(format!("{path} is {}", format.describe()));
        let Entrypoint { path, found, export, .. } = entrypoint;
        let workload = Workload::Wasm(WasmFile { path, file: found.file, format, export });
        return Ok(Decision { workload, reason });
    }
    if format == Format::Precompiled {
        return Err(Error::invalid(format!(
            "{path} is a precompiled module; machine code is not accepted from images, ship the .wasm file"
        )));
    }
    if asked.is_some() && has_wasm_name(&entrypoint.path) {
        return Err(Error::invalid(format!(
            "{path} is named like a WebAssembly file but is {}; {} asks for wasm",
            format.describe(),
            asked.as_deref().unwrap_or_default()
        )));
    }
    Ok(linux(because(format!("{path} is {}", format.describe()))))
}

struct Entrypoint {
    path: PathBuf,
    found: Found,
    format: Format,
    export: Option<String>,
}

fn has_wasm_name(path: &Path) -> bool {
    matches!(path.extension().and_then(OsStr::to_str), Some("wasm" | "wat"))
}

/// Finds the entrypoint as written, then, if there is no such file, without its `#func` suffix.
fn find_entrypoint(process: &Process, rootfs: &Rootfs) -> Result<Option<Entrypoint>> {
    let Some(program) = process.args().as_ref().and_then(|args| args.first()) else {
        return Ok(None);
    };
    let program = match program.as_str() {
        // What Istio's images hold: one file, and no entrypoint.
        "/" => "/plugin.wasm",
        program => program,
    };
    if let Some((path, found, format)) = look_up(program, process, rootfs)? {
        return Ok(Some(Entrypoint { path, found, format, export: None }));
    }
    let Some((file, export)) = program.rsplit_once('#').filter(|(_, export)| !export.is_empty())
    else {
        return Ok(None);
    };
    let entrypoint = look_up(file, process, rootfs)?;
    Ok(entrypoint.map(|(path, found, format)| Entrypoint {
        path,
        found,
        format,
        export: Some(export.to_owned()),
    }))
}

/// The file of the artifact that the program names, with a `#func` suffix or without.
fn find_in_artifact(process: &Process, artifact: Artifact<'_>) -> Result<Option<WasmFile>> {
    let Some(program) = process.args().as_ref().and_then(|args| args.first()) else {
        return Ok(None);
    };
    let (name, export) = match program.rsplit_once('#') {
        Some((name, export)) if !export.is_empty() => (name, Some(export.to_owned())),
        _ => (program.as_str(), None),
    };
    let Some((path, file)) = artifact(name)? else { return Ok(None) };
    let format = Format::of(&file, false)
        .context(ErrorKind::InvalidArgument, || format!("read {}", path.display()))?;
    if !format.is_wasm() {
        return Err(Error::invalid(format!(
            "{}, a wasm layer of the image, is {}",
            path.display(),
            format.describe()
        )));
    }
    Ok(Some(WasmFile { path, file, format, export }))
}

/// Finds `program` as execvp(3) would inside the container. Images often hold wasm files without
/// the execute bit, and crun runs them, so a wasm file needs none.
fn look_up(
    program: &str,
    process: &Process,
    rootfs: &Rootfs,
) -> Result<Option<(PathBuf, Found, Format)>> {
    let cwd = process.cwd();
    if program.contains('/') {
        return open(cwd.join(program), rootfs);
    }
    let env = process.env().as_deref().unwrap_or_default();
    let search = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
    for dir in search.split(':').filter(|dir| !dir.is_empty()) {
        if let Some(hit) = open(cwd.join(dir).join(program), rootfs)?
            && (hit.1.executable || hit.2.is_wasm())
        {
            return Ok(Some(hit));
        }
    }
    // `ENTRYPOINT ["app.wasm"]` means the file beside the working directory.
    let path = cwd.join(program);
    if has_wasm_name(&path) { open(path, rootfs) } else { Ok(None) }
}

fn open(path: PathBuf, rootfs: &Rootfs) -> Result<Option<(PathBuf, Found, Format)>> {
    let Some(found) = rootfs.find(&path) else {
        return Ok(None);
    };
    let path = super::rootfs::normalise(&path);
    let text = path.extension().is_some_and(|extension| extension == "wat");
    let format = Format::of(&found.file, text)
        .context(ErrorKind::InvalidArgument, || format!("read {}", path.display()))?;
    Ok(Some((path, found, format)))
}

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;

//! What a wasm file is and needs, and whether this runtime has it: found without compiling it.

mod imports;
mod proposals;
pub mod worlds;

use std::collections::BTreeSet;

use serde::Serialize;
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::{EntityType, Types};
use wasmparser::{MemoryType, Parser, Payload, TypeRef, Validator, WasmFeatures};
use wasmtime::Module;

use super::compile::profile;
use super::engine::for_compiling;
use crate::error::{Context, ErrorKind, Result};

/// The size of a page of linear memory that has not said otherwise.
const PAGE: u64 = 64 << 10;
/// The handlers of `wasi:http`, which make a component a server.
const HANDLERS: [&str; 2] = ["wasi:http/incoming-handler@", "wasi:http/handler@"];

/// Everything that is found out about a wasm file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `module` or `component`.
    pub kind: &'static str,
    /// What running it means.
    pub role: Role,
    /// The versions of WASI that it is built for: `0.0` (`wasi_unstable`), `0.1`, `0.2`, `0.3`.
    pub wasi: Vec<&'static str>,
    /// What it needs, by module or interface.
    pub imports: Vec<Import>,
    /// What it offers.
    pub exports: Vec<String>,
    /// The proposals to WebAssembly that it uses, by the names of wasmparser's features.
    pub proposals: Vec<String>,
    /// Its linear memories, those of the modules within a component included.
    pub memories: Vec<Memory>,
    /// Why this runtime cannot run it; each is a sentence.
    pub problems: Vec<String>,
}

/// What running a file means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It is run from beginning to end.
    Command,
    /// It answers HTTP requests.
    Server,
    /// It has functions to be called: `FILE#FUNCTION` runs one.
    Library,
}

/// A module, interface or function that a file imports.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// Its name.
    pub name: String,
    /// The functions and resources of it that are needed; none for one that has types alone.
    pub items: Vec<String>,
    /// What of this runtime satisfies it, where it satisfies any of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Those `items` that nothing here satisfies, with the reason.
    pub missing: Vec<String>,
    /// If anything is missing: the world or the host that provides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world: Option<String>,
}

/// A linear memory.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// What it starts with, in bytes.
    pub minimum: u64,
    /// The most it grows to, in bytes, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<u64>,
    /// Whether threads share it.
    pub shared: bool,
}

impl From<MemoryType> for Memory {
    fn from(ty: MemoryType) -> Self {
        let page = ty.page_size_log2.map_or(PAGE, |log2| 1 << log2.min(16));
        let bytes = |pages: u64| pages.saturating_mul(page);
        Self { minimum: bytes(ty.initial), maximum: ty.maximum.map(bytes), shared: ty.shared }
    }
}

/// Looks into `wasm`, a binary module or component that messages call `name`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when it is not valid; the text names the offset.
pub fn inspect(wasm: &[u8], name: &str) -> Result<Report> {
    let report = check(wasm, name)?;
    Ok(Report { proposals: proposals::used(wasm), ..report })
}

/// As [`inspect`], without the proposals, which take the longest to find.
///
/// # Errors
/// As [`inspect`].
pub fn check(wasm: &[u8], name: &str) -> Result<Report> {
    let types = Validator::new_with_features(WasmFeatures::all())
        .validate_all(wasm)
        .context(ErrorKind::InvalidArgument, || format!("{name} is not valid WebAssembly"))?;
    let outline = outline(wasm, &types)
        .context(ErrorKind::InvalidArgument, || format!("{name} is not valid WebAssembly"))?;
    let imports =
        imports::resolve(wasm, &types, &outline).os(|| "look up what this runtime provides")?;
    let mut report = Report {
        kind: if outline.component { "component" } else { "module" },
        role: outline.role,
        wasi: wasi_versions(&outline),
        imports,
        proposals: Vec::new(),
        memories: outline.memories,
        exports: outline.exports,
        problems: Vec::new(),
    };
    report.problems = problems(&report, wasm, &outline.modules)?;
    Ok(report)
}

/// What the sections of a file say.
struct Outline {
    component: bool,
    imports: Vec<String>,
    exports: Vec<String>,
    memories: Vec<Memory>,
    /// Where the core modules of a component are; the file itself, if it is one.
    modules: Vec<std::ops::Range<usize>>,
    role: Role,
}

fn outline(wasm: &[u8], types: &Types) -> wasmparser::Result<Outline> {
    let mut outline = Outline {
        component: Parser::is_component(wasm),
        imports: Vec::new(),
        exports: Vec::new(),
        memories: Vec::new(),
        modules: Vec::new(),
        role: Role::Library,
    };
    if !outline.component {
        outline.modules.push(0..wasm.len());
    }
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ModuleSection { unchecked_range, .. } => {
                depth += 1;
                outline.modules.push(unchecked_range);
            }
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::MemorySection(section) => {
                for memory in section {
                    outline.memories.push(memory?.into());
                }
            }
            Payload::ImportSection(section) if depth == 0 => {
                for import in section.into_imports() {
                    let import = import?;
                    if let TypeRef::Memory(memory) = import.ty {
                        outline.memories.push(memory.into());
                    }
                    if !outline.imports.iter().any(|name| name == import.module) {
                        outline.imports.push(import.module.to_owned());
                    }
                }
            }
            Payload::ExportSection(section) if depth == 0 => {
                for export in section {
                    outline.exports.push(export?.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    outline.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    outline.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    // Types that a component names for others are nothing that it needs or does.
    outline.imports.retain(|name| !is_type(types, name));
    outline.role = role(&outline, types);
    Ok(outline)
}

fn is_type(types: &Types, import: &str) -> bool {
    let item = types.as_ref().component_item_for_import(import);
    item.is_some_and(|item| matches!(item.ty, ComponentEntityType::Type { .. }))
}

fn role(outline: &Outline, types: &Types) -> Role {
    let exports = |prefix: &str| outline.exports.iter().any(|name| name.starts_with(prefix));
    if outline.component {
        return match HANDLERS.into_iter().any(exports) {
            true => Role::Server,
            false if exports("wasi:cli/run@") => Role::Command,
            false => Role::Library,
        };
    }
    let start = types.as_ref().core_exports().into_iter().flatten();
    let mut start = start.filter(|(name, _)| *name == "_start");
    match start.any(|(_, ty)| matches!(ty, EntityType::Func(_) | EntityType::FuncExact(_))) {
        true => Role::Command,
        false => Role::Library,
    }
}

fn wasi_versions(outline: &Outline) -> Vec<&'static str> {
    let version = |name: &String| match name.as_str() {
        "wasi_unstable" if !outline.component => Some("0.0"),
        "wasi_snapshot_preview1" if !outline.component => Some("0.1"),
        name if name.starts_with("wasi:") && name.contains("@0.2.") => Some("0.2"),
        name if name.starts_with("wasi:") && name.contains("@0.3.") => Some("0.3"),
        _ => None,
    };
    let names = outline.imports.iter().chain(&outline.exports);
    let versions: BTreeSet<_> = names.filter_map(version).collect();
    versions.into_iter().collect()
}

/// Why it cannot be run here.
fn problems(
    report: &Report,
    wasm: &[u8],
    modules: &[std::ops::Range<usize>],
) -> Result<Vec<String>> {
    let mut problems: Vec<String> = report.imports.iter().filter_map(Import::problem).collect();
    if report.role == Role::Library {
        problems.push(match report.kind {
            "component" => "it exports neither wasi:cli/run nor a handler of wasi:http".to_owned(),
            _ => "it exports no function `_start`; FILE#NAME calls another function".to_owned(),
        });
    }
    let engine = for_compiling(profile(wasm))?;
    for module in modules {
        let module = wasm.get(module.clone()).unwrap_or_default();
        if let Err(error) = Module::validate(&engine, module) {
            problems.push(format!("the engine does not take it: {error:#}").replace('\n', " "));
        }
    }
    Ok(problems)
}

impl Import {
    /// A sentence about what is missing, if anything is.
    fn problem(&self) -> Option<String> {
        let world = self.world.as_deref()?;
        let what = match &self.provider {
            // A whole interface, or a function at the top of a component.
            None if self.name.contains(':') || self.missing == [self.name.as_str()] => {
                self.name.clone()
            }
            _ => format!("{} of {}", self.missing.join(", "), self.name),
        };
        Some(format!("nothing here provides {what}; it is of {world}"))
    }
}

#[cfg(test)]
mod tests;

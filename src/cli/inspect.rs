//! `inspect`: what a wasm file, or the wasm files of an image, need and whether they run here.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde::Serialize;

use super::state::print_json;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::image::archive::Archive;
use crate::image::store::{Blobs, manifests, read, verified};
use crate::image::{REFERENCE, layer, wasm};
use crate::oci::wasm_file::{Format, read_all, text_to_binary};
use crate::wasm::inspect::{Import, Memory, Report, Role, inspect as look_into};

/// The largest file that is looked into, in bytes.
const MAX_FILE: u64 = 1 << 30;
/// The largest configuration of an image, in bytes.
const MAX_CONFIG: u64 = 4 << 20;
/// How many names of a list a person is shown.
const SHOWN: usize = 8;

/// What to look into.
#[derive(clap::Args, Debug)]
pub struct Inspect {
    /// A WebAssembly module or component, or an OCI archive of images
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A wasm file and what was found.
#[derive(Serialize)]
struct Finding {
    file: String,
    #[serde(flatten)]
    report: Report,
}

/// An image of an archive.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    digest: String,
    /// `image` has a root file system, `artifact` has wasm files for layers.
    form: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    entrypoint: Vec<String>,
    files: Vec<Finding>,
}

/// Looks into a file and prints what it found.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when it is neither valid wasm nor an OCI archive.
pub fn inspect(options: &Inspect) -> Result<()> {
    let shown = options.file.display().to_string();
    let file = File::open(&options.file).context(ErrorKind::InvalidArgument, || shown.clone())?;
    match read_wasm(&file, &options.file)? {
        Some(bytes) => {
            let finding = Finding { report: look_into(&bytes, &shown)?, file: shown };
            match options.json {
                true => print_json(&finding),
                false => print(&describe(&finding)),
            }
        }
        None => {
            let images = images(&Archive::open(file, shown)?)?;
            match options.json {
                true => print_json(&serde_json::json!({ "images": images })),
                false => print(&images.iter().map(describe_image).collect::<Vec<_>>().join("\n")),
            }
        }
    }
}

/// The binary wasm in `file`; none if it may be an archive.
///
/// # Errors
/// When it is neither.
pub fn read_wasm(file: &File, path: &Path) -> Result<Option<Vec<u8>>> {
    let shown = path.display();
    let text = path.extension().is_some_and(|extension| extension == "wat");
    let format = Format::of(file, text).os(|| format!("read {shown}"))?;
    let size = file.metadata().os(|| format!("look at {shown}"))?.len();
    match format {
        Format::Text => {
            let binary = text_to_binary(file);
            binary.map(Some).context(ErrorKind::InvalidArgument, || shown.to_string())
        }
        _ if format.is_wasm() && size > MAX_FILE => {
            Err(Error::invalid(format!("{shown} has {size} bytes, more than 1 GiB")))
        }
        _ if format.is_wasm() => read_all(file).map(Some).os(|| format!("read {shown}")),
        // A tar file begins with the name of its first entry.
        Format::PlainText | Format::Other => Ok(None),
        _ => Err(Error::invalid(format!(
            "{shown} is {}; give a WebAssembly file or an OCI archive",
            format.describe()
        ))),
    }
}

fn images(archive: &Archive) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for named in archive.images()? {
        let name = named.annotations().as_ref().and_then(|all| all.get(REFERENCE).cloned());
        for (descriptor, manifest) in manifests(archive, &named)? {
            images.push(image(archive, name.clone(), &descriptor, &manifest)?);
        }
    }
    if images.is_empty() {
        return Err(Error::invalid(format!("{} holds no image", archive.name())));
    }
    Ok(images)
}

fn image(
    archive: &Archive,
    name: Option<String>,
    descriptor: &Descriptor,
    manifest: &ImageManifest,
) -> Result<Image> {
    // Of an artifact it may be anything.
    let config = read(archive, manifest.config(), MAX_CONFIG)?;
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
    let platform = match (config["os"].as_str(), config["architecture"].as_str()) {
        (Some(os), Some(architecture)) => Some(format!("{os}/{architecture}")),
        _ => None,
    };
    let words = |key: &str| {
        let words = config["config"][key].as_array().into_iter().flatten();
        words.filter_map(|word| word.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let layers = wasm::layers(manifest);
    let mut files = Vec::new();
    for layer in &layers {
        let file = layer.title.clone().unwrap_or_else(|| layer.descriptor.digest().to_string());
        let bytes = read(archive, &layer.descriptor, MAX_FILE)?;
        files.push(Finding { report: look_into(&bytes, &file)?, file });
    }
    for layer in manifest.layers().iter().filter(|layer| is_file_system(layer.media_type())) {
        let blob = verified(archive, layer, u64::MAX)?;
        let name = format!("{}: layer {}", archive.name(), layer.digest());
        let reader = blob.reader().os(|| format!("read {name}"))?;
        for (file, bytes) in layer::wasm_files(reader, layer.media_type(), &name)? {
            files.push(Finding { report: look_into(&bytes, &file)?, file });
        }
    }
    Ok(Image {
        name,
        digest: descriptor.digest().to_string(),
        form: if layers.is_empty() { "image" } else { "artifact" },
        platform,
        entrypoint: [words("Entrypoint"), words("Cmd")].concat(),
        files,
    })
}

fn is_file_system(kind: &MediaType) -> bool {
    kind.as_ref().contains(".tar")
}

fn print(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").os(|| "write to standard output")
}

fn describe_image(image: &Image) -> String {
    let platform = image.platform.as_deref().unwrap_or("no platform");
    let name = image.name.as_deref().unwrap_or("(no name)");
    let mut lines = vec![format!("{name}: {}, {platform}, {}", image.form, image.digest)];
    if !image.entrypoint.is_empty() {
        lines.push(format!("entrypoint: {}", image.entrypoint.join(" ")));
    }
    if image.files.is_empty() {
        lines.push("no WebAssembly files: it runs as a Linux container".to_owned());
    }
    lines.extend(image.files.iter().map(describe));
    lines.join("\n")
}

/// What was found, a fact a line.
fn describe(finding: &Finding) -> String {
    let Finding { file, report } = finding;
    let role = match report.role {
        Role::Command => "a command",
        Role::Server => "a server of HTTP",
        Role::Library => "a library",
    };
    let wasi = match report.wasi.as_slice() {
        [] => "without WASI".to_owned(),
        versions => format!("WASI {}", versions.join(" and ")),
    };
    let runs = if report.problems.is_empty() { "runs here" } else { "does not run here" };
    let mut lines = vec![format!("{file}: a {}, {role}, {wasi}; {runs}", report.kind)];
    lines.extend(report.problems.iter().map(|problem| format!("  problem    {problem}")));
    lines.extend(report.imports.iter().map(|import| format!("  import     {}", line(import))));
    lines.extend(report.memories.iter().map(|memory| format!("  memory     {}", range(memory))));
    let lists = [("export", &report.exports), ("proposals", &report.proposals)];
    for (title, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        lines.push(format!("  {title:<10} {}", first_of(list)));
    }
    lines.join("\n")
}

fn line(import: &Import) -> String {
    let state = match (&import.provider, import.missing.as_slice()) {
        (_, missing @ [_, ..]) => format!("MISSING: {}", first_of(missing)),
        (Some(provider), []) if *provider != import.name => format!("provided by {provider}"),
        (Some(_), []) => "provided".to_owned(),
        (None, []) => "types only".to_owned(),
    };
    format!("{}: {state}", import.name)
}

/// The first names, and how many there are besides.
fn first_of(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn range(memory: &Memory) -> String {
    let maximum = match memory.maximum {
        Some(maximum) => format!("at most {}", super::cache::bytes(maximum)),
        None => "no maximum".to_owned(),
    };
    let shared = if memory.shared { ", shared" } else { "" };
    format!("{} at first, {maximum}{shared}", super::cache::bytes(memory.minimum))
}

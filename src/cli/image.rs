//! `image`: an OCI archive of a wasm file, without a builder.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use oci_spec::distribution::Reference;

use super::inspect::read_wasm;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::image::archive::{Archive, plain};
use crate::image::build::{Form, Image, Source, write};
use crate::image::layer;
use crate::wasm::inspect::{Report, check as look_into};

/// What to make.
#[derive(clap::Args, Debug)]
pub struct MakeImage {
    /// The WebAssembly module or component that the image runs
    pub file: PathBuf,
    /// Where to write the OCI archive
    #[arg(long, short, value_name = "ARCHIVE")]
    pub output: PathBuf,
    /// The image's name; `latest` if it has no tag, `localhost` if it has no registry
    #[arg(long, short, value_name = "NAME")]
    pub tag: String,
    /// Another file or directory and its path in the image; of an artifact, another wasm file
    #[arg(long = "file", value_name = "SOURCE[:PATH]")]
    pub files: Vec<String>,
    /// A variable of the environment
    #[arg(long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Make an artifact, whose layers are wasm files: cncf, or krustlet's older form
    #[arg(long, value_enum, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "cncf")]
    pub artifact: Option<Artifact>,
    /// An OCI archive whose images, for other platforms, come into the same index
    #[arg(long, value_name = "ARCHIVE")]
    pub index_with: Option<PathBuf>,
}

/// The forms of artifacts.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Artifact {
    /// `application/vnd.wasm.config.v0+json` with `application/wasm`.
    Cncf,
    /// `application/vnd.wasm.config.v1+json` with `application/vnd.wasm.content.layer.v1+wasm`.
    Krustlet,
}

/// Makes the image that `options` describe, and warns of what keeps it from running.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for a file that is no wasm, a name that is none, and options
/// that do not go together.
pub fn image(options: &MakeImage) -> Result<()> {
    let name = full_name(&options.tag)?;
    check(options)?;
    let shown = options.file.display().to_string();
    let (program, report) = wasm(&options.file)?;
    for problem in &report.problems {
        eprintln!("warning: {shown} will not run: {problem}");
    }
    let file_name = options.file.file_stem().and_then(|name| name.to_str());
    let file_name = file_name
        .ok_or_else(|| Error::invalid(format!("{shown}: the name of the file is not UTF-8")))?;
    let program = Source {
        path: format!("{file_name}.wasm"),
        file: layer::File { executable: true, bytes: program },
    };
    let mut files = Vec::new();
    for file in &options.files {
        add_files(file, options.artifact.is_some(), &mut files)?;
    }
    let mut paths: Vec<_> =
        files.iter().chain([&program]).map(|source| source.path.as_str()).collect();
    paths.sort_unstable();
    if let Some([path, _]) = paths.array_windows().find(|[one, other]| one == other) {
        return Err(Error::invalid(format!("the image would have two files at /{path}")));
    }
    let form = match options.artifact {
        None => Form::RootFs,
        Some(Artifact::Krustlet) => Form::Krustlet,
        Some(Artifact::Cncf) if report.kind == "module" => Form::Cncf("wasip1"),
        Some(Artifact::Cncf) => Form::Cncf("wasip2"),
    };
    let others = options.index_with.as_deref().map(open_archive).transpose()?;
    let image = Image { program, files, env: options.env.clone(), form };
    write(image, &name, others.as_ref(), &options.output)
}

/// The name with its registry and its tag.
fn full_name(tag: &str) -> Result<String> {
    let malformed = || format!("--tag {tag:?} is no name of an image");
    let first = tag.split('/').next().unwrap_or_default();
    let has_registry = tag.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let full = if has_registry { tag.to_owned() } else { format!("localhost/{tag}") };
    let reference: Reference = full.parse().context(ErrorKind::InvalidArgument, malformed)?;
    if reference.digest().is_some() {
        return Err(Error::invalid(format!("{}: it cannot have a digest", malformed())));
    }
    Ok(reference.whole())
}

fn check(options: &MakeImage) -> Result<()> {
    if options.artifact.is_some() && !options.env.is_empty() {
        return Err(Error::invalid("--env: an artifact has no environment; leave out --artifact"));
    }
    match options.env.iter().find(|pair| pair.split_once('=').is_none_or(|(key, _)| key.is_empty()))
    {
        Some(pair) => Err(Error::invalid(format!("--env {pair:?}: write KEY=VALUE"))),
        None => Ok(()),
    }
}

/// The binary wasm of a file, and what was found in it.
fn wasm(path: &Path) -> Result<(Vec<u8>, Report)> {
    let shown = path.display().to_string();
    let file = File::open(path).context(ErrorKind::InvalidArgument, || shown.clone())?;
    let bytes = read_wasm(&file, path)?
        .ok_or_else(|| Error::invalid(format!("{shown} is not a WebAssembly file")))?;
    let report = look_into(&bytes, &shown)?;
    Ok((bytes, report))
}

fn open_archive(path: &Path) -> Result<Archive> {
    let shown = path.display().to_string();
    let file = File::open(path).context(ErrorKind::InvalidArgument, || shown.clone())?;
    Archive::open(file, shown)
}

/// Adds what `argument`, `SOURCE` or `SOURCE:PATH`, names. A source without a path keeps its name.
fn add_files(argument: &str, artifact: bool, files: &mut Vec<Source>) -> Result<()> {
    let wrong = |what: String| Error::invalid(format!("--file {argument:?}: {what}"));
    let (source, path) = match argument.rsplit_once(':') {
        Some((source, path)) => (Path::new(source), Some(path)),
        None => (Path::new(argument), None),
    };
    let path = match path {
        Some(path) => plain(Path::new(path)),
        None => source.file_name().and_then(|name| name.to_str()).map(str::to_owned),
    };
    let path = path.filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| wrong("name a path within the image".to_owned()))?;
    if artifact {
        let (bytes, _) = wasm(source)?;
        files.push(Source { path, file: layer::File { executable: true, bytes } });
        return Ok(());
    }
    add_tree(source, path, files).map_err(|error| wrong(error.to_string()))
}

fn add_tree(source: &Path, path: String, files: &mut Vec<Source>) -> Result<()> {
    let shown = || source.display().to_string();
    let metadata = fs::symlink_metadata(source).context(ErrorKind::InvalidArgument, shown)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(source).os(shown)? {
            let entry = entry.os(shown)?;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| {
                Error::invalid(format!("{} is not UTF-8", entry.path().display()))
            })?;
            add_tree(&entry.path(), format!("{path}/{name}"), files)?;
        }
        return Ok(());
    }
    if !metadata.is_file() {
        return Err(Error::invalid(format!(
            "{} is neither a file nor a directory; images are made of these",
            shown()
        )));
    }
    let bytes = fs::read(source).os(shown)?;
    let executable = metadata.permissions().mode() & 0o111 != 0;
    files.push(Source { path, file: layer::File { executable, bytes } });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_podman_does() {
        let full = |tag| full_name(tag).map_err(|error| error.to_string());
        assert_eq!(full("hello").as_deref(), Ok("localhost/hello:latest"));
        assert_eq!(full("team/hello:1").as_deref(), Ok("localhost/team/hello:1"));
        assert_eq!(full("registry.example/a").as_deref(), Ok("registry.example/a:latest"));
        assert_eq!(full("localhost:5000/a:2").as_deref(), Ok("localhost:5000/a:2"));
        assert!(full("Not A Name").unwrap_err().contains("\"Not A Name\""));
    }
}

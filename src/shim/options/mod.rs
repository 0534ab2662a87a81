//! What containerd's runtime options and the node's configuration ask of the shim.

mod messages;
#[cfg(test)]
mod tests;

use std::path::Path;

use containerd_shim::protos::protobuf::well_known_types::any::Any;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::config::{Config, SYSTEM_FILE};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::shim::options::messages::{RUNC, RuntimeOptions, TOML, from_runc, name};

/// In the bundle from before a container is made until it is removed in good order: as long as
/// it exists, the `delete` action that follows a dead shim has something to clean up.
const FILE: &str = "options.json";
/// What becomes [`FILE`] once it is whole.
const DRAFT: &str = ".options.json";

/// The options of one container, from runc's `Options` or from a TOML body, over those in the
/// section `[shim]` of the configuration file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Options {
    /// The OCI runtime to run instead of `runwasm`: a path, or a name in `PATH`.
    pub binary_name: String,
    /// The runtime's root directory, to which the namespace is added.
    pub root: String,
    /// Let systemd make the cgroups.
    pub systemd_cgroup: bool,
    /// Change the root by `chroot` and a move mount; for a root on a ramdisk.
    pub no_pivot_root: bool,
    /// Keep the session keyring.
    pub no_new_keyring: bool,
    /// The cgroup to put the shim into.
    pub shim_cgroup: String,
    /// Owner of the stdio FIFOs.
    pub io_uid: u32,
    /// Group of the stdio FIFOs.
    pub io_gid: u32,
    /// The configuration file to read instead of /etc/runwasm/config.toml.
    pub config_file: String,
    /// Settings of the configuration file's sections of these names, stronger than the file.
    #[serde(rename = "cache")]
    pub cache: Table,
    #[serde(rename = "compile")]
    #[allow(missing_docs, reason = "as above")]
    pub compile: Table,
    #[serde(rename = "guest")]
    #[allow(missing_docs, reason = "as above")]
    pub guest: Table,
    #[serde(rename = "http")]
    #[allow(missing_docs, reason = "as above")]
    pub http: Table,
    #[serde(rename = "listen")]
    #[allow(missing_docs, reason = "as above")]
    pub listen: Table,
}

/// The sections of the configuration file that options may have.
const SECTIONS: [&str; 5] = ["cache", "compile", "guest", "http", "listen"];

/// A text with options in TOML, and what an error calls it.
struct Text {
    text: String,
    origin: String,
}

impl Text {
    /// Reads the text as a `T`, or fails with the line and the key.
    fn parse<T: for<'de> Deserialize<'de>>(&self) -> Result<T> {
        toml::from_str(&self.text).map_err(|error| {
            let before = |span: std::ops::Range<usize>| &self.text[..span.start];
            let line = error.span().map_or(1, |span| 1 + before(span).matches('\n').count());
            let reason = error.message().trim().replace('\n', ", ");
            Error::invalid(format!("{}, line {line}: {reason}", self.origin))
        })
    }

    /// Checks that the text holds options, and reads it as a table: that tells what is set.
    fn options(&self) -> Result<Table> {
        self.parse::<Options>()?;
        self.parse()
    }
}

/// The configuration file, as far as it is about the shim.
#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    shim: Options,
}

impl Options {
    /// Reads the options among the messages that came with the `start` action, of which there may
    /// be others.
    pub fn from_extensions(extensions: &[Any]) -> Result<Self> {
        Self::from_any(extensions.iter().find(|any| [RUNC, TOML].contains(&name(any))))
    }

    /// Reads the options that containerd attached to a request, if any, and the configuration
    /// file, whose options are weaker.
    pub fn from_any(any: Option<&Any>) -> Result<Self> {
        Self::layered(any, SYSTEM_FILE.as_ref())
    }

    fn layered(any: Option<&Any>, system_file: &Path) -> Result<Self> {
        let given = match any.filter(|any| !any.type_url.is_empty()) {
            None => Table::new(),
            Some(any) => match name(any) {
                RUNC => from_runc(&any.value)?,
                TOML => from_runtime_options(&any.value)?,
                other => {
                    return Err(Error::invalid(format!(
                        "runtime options: unknown type {other:?}, expected {RUNC} or {TOML}"
                    )));
                }
            },
        };
        let file = given.get("ConfigFile").and_then(Value::as_str).filter(|file| !file.is_empty());
        let mut options = match file {
            Some(file) => from_file(file.as_ref())?,
            None if system_file.exists() => from_file(system_file)?,
            None => Table::new(),
        };
        options.extend(given);
        let options: Self = options.try_into().context(
            ErrorKind::InvalidArgument,
            || "runtime options: they do not go with the configuration file",
        )?;
        options.check_settings()?;
        Ok(options)
    }

    fn sections(&self) -> [(&'static str, &Table); 4] {
        let tables = [&self.cache, &self.compile, &self.guest, &self.http, &self.listen];
        std::array::from_fn(|index| (SECTIONS[index], tables[index]))
    }

    /// The settings that are for the runtime, each as `SECTION.KEY=VALUE`.
    pub fn settings(&self) -> Vec<String> {
        let settings = self.sections().into_iter().flat_map(|(section, table)| {
            table.iter().map(move |(key, value)| {
                let value = match value {
                    // Text that reads as something else is quoted.
                    Value::String(text) => format!("{text:?}"),
                    Value::Integer(number) => number.to_string(),
                    Value::Float(number) => number.to_string(),
                    Value::Boolean(truth) => truth.to_string(),
                    // No setting has such a value; it was refused before.
                    Value::Datetime(_) | Value::Array(_) | Value::Table(_) => String::new(),
                };
                format!("{section}.{key}={value}")
            })
        });
        settings.collect()
    }

    /// Reads the settings as the runtime will, so that a mistake is told before anything is made.
    fn check_settings(&self) -> Result<()> {
        for (section, table) in self.sections() {
            let settings = Table::from_iter([(section.to_owned(), Value::Table(table.clone()))]);
            Config::deserialize(settings).map_err(|error| {
                let reason = error.message().trim().replace('\n', ", ");
                Error::invalid(format!("runtime options, section [{section}]: {reason}"))
            })?;
        }
        Ok(())
    }

    /// Writes the options into the bundle, all or nothing: the shim may be killed meanwhile.
    pub fn save(&self, bundle: &Path) -> Result<()> {
        let (path, draft) = (bundle.join(FILE), bundle.join(DRAFT));
        let text = serde_json::to_vec(self).os(|| "encode the runtime options")?;
        std::fs::write(&draft, text)
            .and_then(|()| std::fs::rename(&draft, &path))
            .os(|| format!("write {}", path.display()))
    }

    /// Reads back what [`Options::save`] wrote.
    pub fn load(bundle: &Path) -> Result<Option<Self>> {
        let path = bundle.join(FILE);
        match std::fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).os(|| format!("read {}", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).os(|| format!("read {}", path.display())),
        }
    }

    /// Removes what [`Options::save`] wrote: the container is removed, nothing is left to do.
    pub fn forget(bundle: &Path) {
        // A file that stays costs a needless clean-up, no more.
        drop(std::fs::remove_file(bundle.join(FILE)));
    }
}

/// `runtimeoptions.v1.Options`: a TOML text, or the path of a TOML file (containerd 1.6 knows
/// only the path).
fn from_runtime_options(value: &[u8]) -> Result<Table> {
    let RuntimeOptions { path, body } = RuntimeOptions::parse(value)?;
    if !body.is_empty() {
        return Text { text: body, origin: "runtime options".into() }.options();
    }
    if path.is_empty() {
        return Ok(Table::new());
    }
    let text = std::fs::read_to_string(&path).context(ErrorKind::InvalidArgument, || {
        format!("runtime options: cannot read ConfigPath {path}")
    })?;
    Text { text, origin: path }.options()
}

/// The section `[shim]` of a configuration file. The other sections are the runtime's to read.
fn from_file(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path)
        .context(ErrorKind::InvalidArgument, || format!("read {}", path.display()))?;
    let text = Text { text, origin: path.display().to_string() };
    text.parse::<File>()?;
    let mut file: Table = text.parse()?;
    let Some(Value::Table(shim)) = file.remove("shim") else { return Ok(Table::new()) };
    // They would be about the file itself.
    match SECTIONS.iter().chain(&["ConfigFile"]).find(|key| shim.contains_key(**key)) {
        Some(key) => Err(Error::invalid(format!("{}: {key} cannot be in [shim]", path.display()))),
        None => Ok(shim),
    }
}

//! Settings of the node and of a container.
//!
//! From the weakest to the strongest: the defaults, the configuration file, `--set` on the command
//! line (which is how the shim hands on containerd's runtime options), and the container's
//! annotations.

mod listen;

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};
use toml::{Table, Value};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::oci::annotations::{ARTIFACT, PREFIX, WORKLOAD};
use crate::sys::identity;
pub use listen::{Address, Addresses, Listen, Listener};

/// The node's configuration.
pub const SYSTEM_FILE: &str = "/etc/runwasm/config.toml";

/// The sections whose settings a container may have of its own. The others protect the node.
const OF_CONTAINERS: [&str; 3] = ["guest", "http", "listen"];
/// A key that is short for another.
const SHORT: (&str, &str) = ("listen", "listen.addresses");

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The compile cache.
    pub cache: Cache,
    /// The compiler.
    pub compile: Compile,
    /// What a wasm guest may use.
    pub guest: Guest,
    /// What serves HTTP.
    pub http: Http,
    /// Listeners that a module is handed.
    pub listen: Listen,
    /// Defaults of the shim's options, which the shim reads.
    pub shim: Table,
}

/// `[cache]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Without the cache every start compiles.
    pub enabled: bool,
    /// Where it is, if not in the usual place.
    pub directory: Option<PathBuf>,
    /// The most it holds; the least recently used entries go first.
    pub size: Size,
}

impl Default for Cache {
    fn default() -> Self {
        Self { enabled: true, directory: None, size: Size(4 << 30) }
    }
}

/// `[compile]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compile {
    /// The most memory, as address space, that compiling one module may take.
    pub memory: Size,
    /// The longest, in seconds, that compiling one module may take. One of 69 MB takes less than
    /// a minute on two cores.
    pub timeout: u64,
    /// How many cores it may use; half of them if not set, so that a burst of new modules does
    /// not starve the node.
    pub cores: Option<NonZeroUsize>,
    /// The largest module that is compiled.
    pub module: Size,
}

impl Default for Compile {
    fn default() -> Self {
        Self { memory: Size(8 << 30), timeout: 600, cores: None, module: Size(1 << 30) }
    }
}

impl Compile {
    /// How many cores to use on this machine.
    pub fn cores(&self) -> usize {
        let half = || std::thread::available_parallelism().map_or(1, |all| (all.get() / 2).max(1));
        self.cores.map_or_else(half, NonZeroUsize::get)
    }
}

/// `[guest]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guest {
    /// The most memory of a guest: linear memories and tables together. What the container's
    /// memory limit leaves bounds it as well.
    pub memory: Option<Size>,
    /// Whether it may have threads and the memory that they share.
    pub threads: bool,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where to listen, if neither this nor `WASMTIME_HTTP_PROXY_SOCKET_ADDR` in the container's
    /// environment says so: `0.0.0.0:8080`.
    pub listen: Option<SocketAddr>,
    /// How many connections may wait to be accepted; `WASMTIME_HTTP_BACKLOG` or
    /// `WASMTIME_HTTP_PROXY_BACKLOG` in the environment if not set, else 1024.
    pub backlog: Option<u32>,
    /// The most requests at once; more are answered 503.
    pub requests: u32,
    /// The longest, in seconds, that a request may take until its response begins, and the
    /// guest's work for it after that.
    pub timeout: u64,
    /// The largest request body; a larger one is answered 413.
    pub body: Size,
    /// How many requests an instance serves that may serve several (WASI 0.3).
    pub reuse: usize,
    /// The longest, in seconds, that requests may go on after SIGTERM.
    pub drain: u64,
    /// Whether each request is logged on standard error.
    pub access_log: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: None,
            backlog: None,
            requests: 512,
            timeout: 60,
            body: Size(1 << 30),
            reuse: 128,
            drain: 10,
            access_log: false,
        }
    }
}

/// A number of bytes: in the file an integer, or text such as `"64MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// Reads a number of bytes, with or without a unit.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "KiB" | "Ki" => 1 << 10,
            "MiB" | "Mi" => 1 << 20,
            "GiB" | "Gi" => 1 << 30,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(factor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let size = match &value {
            Value::Integer(bytes) => u64::try_from(*bytes).ok().map(Self),
            Value::String(text) => Self::parse(text),
            _ => None,
        };
        size.ok_or_else(|| {
            let found = match &value {
                Value::Integer(number) => number.to_string(),
                Value::String(text) => format!("{text:?}"),
                other => format!("a value of type {}", other.type_str()),
            };
            de::Error::custom(format!("{found} is no size: write bytes, or a text like \"64MiB\""))
        })
    }
}

/// Where settings come from, besides a container's annotations.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Sources {
    /// Configuration file, instead of /etc/runwasm/config.toml
    // Unlike the usual one, it must exist.
    #[arg(long = "config", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Change a setting of the configuration file, such as compile.timeout=60
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl Sources {
    /// The settings for a container with these annotations.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] naming the file and line, option or annotation.
    pub fn load(&self, annotations: Option<&HashMap<String, String>>) -> Result<Config> {
        let mut merged = self.read_file()?;
        for setting in &self.set {
            let origin = format!("--set {setting}");
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| Error::invalid(format!("{origin}: write it as KEY=VALUE")))?;
            overlay(&mut merged, layer(key, value, &origin)?);
        }
        let mut annotations: Vec<_> = annotations.into_iter().flatten().collect();
        annotations.sort();
        for (name, value) in annotations {
            if let Some(key) = name
                .strip_prefix(PREFIX)
                .filter(|_| !name.starts_with(WORKLOAD) && name != ARTIFACT)
            {
                overlay(&mut merged, annotation(key, value, name)?);
            }
        }
        check(&merged, "settings")
    }

    fn read_file(&self) -> Result<Table> {
        let usual = usual_file();
        let path = self.file.as_ref().unwrap_or(&usual);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.file.is_none() => {
                return Ok(Table::new());
            }
            Err(error) => {
                return Err(error)
                    .context(ErrorKind::InvalidArgument, || format!("read {}", path.display()));
            }
        };
        let parsed = toml::from_str::<Config>(&text).and_then(|_| text.parse());
        parsed.map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            let reason = error.message().trim().replace('\n', ", ");
            Error::invalid(format!("{}, line {line}: {reason}", path.display()))
        })
    }
}

/// A user's own file comes before the system's.
fn usual_file() -> PathBuf {
    let system = PathBuf::from(SYSTEM_FILE);
    if identity::is_host_root() {
        return system;
    }
    let own = identity::user_dir("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("config.toml"));
    own.filter(|path| path.exists()).unwrap_or(system)
}

fn annotation(key: &str, value: &str, name: &str) -> Result<Table> {
    let section = key.split('.').next().unwrap_or_default();
    if !OF_CONTAINERS.contains(&section) {
        return Err(Error::invalid(format!(
            "annotation {name}: unknown, or not a container's to set; those of {} are",
            OF_CONTAINERS.map(|section| format!("{PREFIX}{section}.*")).join(", ")
        )));
    }
    layer(key, value, &format!("annotation {name}={value}"))
}

/// One setting as a table of its own, checked, so that an error names where it came from.
fn layer(key: &str, value: &str, origin: &str) -> Result<Table> {
    let key = if key == SHORT.0 { SHORT.1 } else { key };
    let value = toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let nested = key
        .rsplit('.')
        .fold(value, |value, part| Value::Table(Table::from_iter([(part.to_owned(), value)])));
    let table = nested.as_table().cloned().unwrap_or_default();
    check(&table, origin)?;
    Ok(table)
}

fn check(table: &Table, origin: impl Display) -> Result<Config> {
    Config::deserialize(table.clone()).map_err(|error| {
        Error::invalid(format!("{origin}: {}", error.message().trim().replace('\n', ", ")))
    })
}

/// Puts the settings of `upper` over those of `lower`.
fn overlay(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above),
            (_, value) => drop(lower.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str, set: &[&str]) -> (tempfile::TempDir, Sources) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        let set = set.iter().map(|&setting| setting.to_owned()).collect();
        (dir, Sources { file: Some(file), set })
    }

    fn load(text: &str, set: &[&str], annotations: &[(&str, &str)]) -> Result<Config> {
        let (_dir, sources) = sources(text, set);
        let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        sources.load(Some(&annotations.iter().map(owned).collect()))
    }

    fn refused(text: &str, set: &[&str], annotations: &[(&str, &str)]) -> String {
        load(text, set, annotations).unwrap_err().to_string()
    }

    #[test]
    fn the_stronger_source_wins() {
        let memory = |text, set, annotations| load(text, set, annotations).unwrap().guest.memory;
        let file = "[guest]\nmemory = 1\n[compile]\ntimeout = 5";
        let annotation = ("runwasm.guest.memory", "3MiB");
        assert_eq!(memory("", &[], &[]), None);
        assert_eq!(memory(file, &[], &[]), Some(Size(1)));
        assert_eq!(memory(file, &["guest.memory=2"], &[]), Some(Size(2)));
        assert_eq!(memory(file, &["guest.memory=2"], &[annotation]), Some(Size(3 << 20)));
        let config = load(file, &["guest.memory=2", "cache.enabled=false"], &[]).unwrap();
        assert_eq!((config.compile.timeout, config.cache.enabled), (5, false));
        assert_eq!(config.compile.memory, Compile::default().memory);
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_named_with_its_source() {
        let error = refused("\n[compile]\nsped = 1", &[], &[]);
        assert!(error.contains("config.toml, line 3: unknown field `sped`"), "{error}");
        let error = refused("[cache]\nsize = \"4 parsecs\"", &[], &[]);
        assert!(error.contains("line 2: \"4 parsecs\" is no size"), "{error}");
        let error = refused("[cache", &[], &[]);
        assert!(error.contains("config.toml, line 1"), "{error}");
        let error = refused("", &["compile.cores=0"], &[]);
        assert!(error.contains("--set compile.cores=0"), "{error}");
        let error = refused("", &["compile"], &[]);
        assert!(error.contains("KEY=VALUE"), "{error}");
        let error = refused("", &[], &[("runwasm.guest.memory", "much")]);
        assert!(error.contains("annotation runwasm.guest.memory=much"), "{error}");
    }

    #[test]
    fn a_container_sets_only_what_is_its_own() {
        let error = refused("", &[], &[("runwasm.cache.size", "0")]);
        assert!(error.contains("runwasm.cache.size"), "{error}");
        assert!(load("", &[], &[("runwasm.workload", "wasm"), ("other", "x")]).is_ok());
    }

    #[test]
    fn a_file_that_was_asked_for_must_exist() {
        let sources = Sources { file: Some("/nonexistent/config.toml".into()), set: Vec::new() };
        assert!(sources.load(None).unwrap_err().to_string().contains("/nonexistent/config.toml"));
    }

    #[test]
    fn sizes_have_units() {
        let sizes = ["7", "7B", "7KiB", "7Mi", "7 GiB"].map(|text| Size::parse(text).unwrap().0);
        assert_eq!(sizes, [7, 7, 7 << 10, 7 << 20, 7 << 30]);
        for text in ["", "x", "-1", "1.5GiB", "1TB", "99999999999GiB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }
}

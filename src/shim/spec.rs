//! What the shim itself reads of the OCI spec.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Context, ErrorKind, Result};

/// The parts of a bundle's `config.json` that the shim needs; the runtime reads the rest.
#[derive(Debug, Deserialize)]
pub struct Config {
    /// The annotations.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
    #[serde(default)]
    linux: Linux,
}

#[derive(Debug, Deserialize, Default)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

impl Config {
    /// Reads the config of `bundle`.
    pub fn read(bundle: &Path) -> Result<Self> {
        let path = bundle.join("config.json");
        let text = std::fs::read(&path).os(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text)
            .context(ErrorKind::InvalidArgument, || format!("{} is malformed", path.display()))
    }

    /// Whether the container has a process namespace of its own, so that the kernel ends all of
    /// its processes with the first one.
    pub fn has_private_pids(&self) -> bool {
        self.linux.namespaces.iter().any(|ns| ns.kind == "pid" && ns.path.is_empty())
    }
}

/// The process of an exec request, with the terminal that the request asks for.
pub fn with_terminal(process: &[u8], terminal: bool) -> Result<Vec<u8>> {
    let kind = ErrorKind::InvalidArgument;
    let mut process: Map<String, Value> = serde_json::from_slice(process)
        .context(kind, || "the process to exec is no JSON object")?;
    process.insert("terminal".into(), terminal.into());
    serde_json::to_vec(&process).context(kind, || "encode the process to exec")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_pid_namespace_is_private() {
        let private = |namespaces: &str| {
            let text = format!(r#"{{"linux":{{"namespaces":{namespaces}}}}}"#);
            serde_json::from_str::<Config>(&text).unwrap().has_private_pids()
        };
        assert!(private(r#"[{"type":"mount"},{"type":"pid"}]"#));
        assert!(!private(r#"[{"type":"mount"}]"#));
        assert!(!private(r#"[{"type":"pid","path":"/proc/1/ns/pid"}]"#));
        assert!(!serde_json::from_str::<Config>("{}").unwrap().has_private_pids());
    }

    #[test]
    fn the_request_decides_about_the_terminal() {
        let process = with_terminal(br#"{"args":["a"],"terminal":true}"#, false).unwrap();
        assert_eq!(process, br#"{"args":["a"],"terminal":false}"#);
        assert!(with_terminal(b"[]", false).is_err());
        assert!(with_terminal(b"", true).is_err());
    }
}

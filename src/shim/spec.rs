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
    #[serde(default)]
    process: Process,
}

#[derive(Debug, Deserialize, Default)]
struct Process {
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    cwd: String,
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

impl Config {
    /// Whether there is something in `rootfs` that may be the container's program. Links are not
    /// followed, and mounts not looked at: this says where it is worth looking further.
    pub fn has_program(&self, rootfs: &Path) -> bool {
        let Process { args, env, cwd } = &self.process;
        let Some(program) = args.first() else { return true };
        let path = env.iter().find_map(|pair| pair.strip_prefix("PATH="));
        let directories = match program.contains('/') {
            true => "",
            false => path.unwrap_or_default(),
        };
        std::iter::once("").chain(directories.split(':')).any(|directory| {
            let path = Path::new(cwd).join(directory).join(program);
            let path = rootfs.join(path.strip_prefix("/").unwrap_or(&path));
            path.symlink_metadata().is_ok_and(|found| !found.is_dir())
        })
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
    fn a_program_is_looked_for_where_it_may_be() {
        let rootfs = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(rootfs.path().join("opt/bin")).unwrap();
        std::fs::write(rootfs.path().join("opt/bin/app"), "").unwrap();
        let has = |program: &str, cwd: &str| {
            let process = serde_json::json!(
                {"args": [program], "cwd": cwd, "env": ["PATH=/bin:/opt/bin"]});
            let config = serde_json::json!({ "process": process });
            let config: Config = serde_json::from_value(config).unwrap();
            config.has_program(rootfs.path())
        };
        assert!(has("/opt/bin/app", "/") && has("app", "/") && has("./bin/app", "/opt"));
        assert!(!has("/app", "/") && !has("other", "/") && !has("/", "/"));
    }

    #[test]
    fn the_request_decides_about_the_terminal() {
        let process = with_terminal(br#"{"args":["a"],"terminal":true}"#, false).unwrap();
        assert_eq!(process, br#"{"args":["a"],"terminal":false}"#);
        assert!(with_terminal(b"[]", false).is_err());
        assert!(with_terminal(b"", true).is_err());
    }
}

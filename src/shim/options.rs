//! What containerd's runtime options ask of the shim.

use std::path::Path;

use containerd_shim::api::Options as RuncOptions;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{CodedInputStream, Message};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, ErrorKind, Result};

/// In the bundle from before a container is made until it is removed in good order: as long as
/// it exists, the `delete` action that follows a dead shim has something to clean up.
const FILE: &str = "options.json";

/// The options of one container, from runc's `Options` or from a TOML body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

const RUNC: &str = "containerd.runc.v1.Options";
const TOML: &str = "runtimeoptions.v1.Options";

impl Options {
    /// Reads the options among the messages that came with the `start` action, of which there may
    /// be others.
    pub fn from_extensions(extensions: &[Any]) -> Result<Self> {
        Self::from_any(extensions.iter().find(|any| [RUNC, TOML].contains(&name(any))))
    }

    /// Reads the options that containerd attached to a request, if any.
    pub fn from_any(any: Option<&Any>) -> Result<Self> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::default());
        };
        match name(any) {
            RUNC => Self::from_runc(&any.value),
            TOML => Self::from_runtime_options(&any.value),
            other => Err(Error::invalid(format!(
                "runtime options: unknown type {other:?}, expected {RUNC} or {TOML}"
            ))),
        }
    }

    fn from_runc(value: &[u8]) -> Result<Self> {
        let runc = RuncOptions::parse_from_bytes(value).context(
            ErrorKind::InvalidArgument,
            || "runtime options: not a valid containerd.runc.v1.Options message",
        )?;
        Ok(Self {
            binary_name: runc.binary_name,
            root: runc.root,
            systemd_cgroup: runc.systemd_cgroup,
            no_pivot_root: runc.no_pivot_root,
            no_new_keyring: runc.no_new_keyring,
            shim_cgroup: runc.shim_cgroup,
            io_uid: runc.io_uid,
            io_gid: runc.io_gid,
        })
    }

    /// `runtimeoptions.v1.Options`: a TOML text, or the path of a TOML file (containerd 1.6
    /// knows only the path).
    fn from_runtime_options(value: &[u8]) -> Result<Self> {
        let RuntimeOptions { path, body } = RuntimeOptions::parse(value)?;
        if !body.is_empty() {
            return Self::from_toml(&body, "runtime options");
        }
        if path.is_empty() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(&path).context(ErrorKind::InvalidArgument, || {
            format!("runtime options: cannot read ConfigPath {path}")
        })?;
        Self::from_toml(&text, &path)
    }

    fn from_toml(text: &str, origin: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            Error::invalid(format!("{origin}, line {line}: {}", error.message().trim()))
        })
    }

    /// Writes the options into the bundle.
    pub fn save(&self, bundle: &Path) -> Result<()> {
        let path = bundle.join(FILE);
        let text = serde_json::to_vec(self).os(|| "encode the runtime options")?;
        std::fs::write(&path, text).os(|| format!("write {}", path.display()))
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

/// The message's name, which may have a host before it.
fn name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

/// The fields of `runtimeoptions.v1.Options` in use. The bindings have no such message.
#[derive(Default)]
struct RuntimeOptions {
    path: String,
    body: String,
}

impl RuntimeOptions {
    fn parse(value: &[u8]) -> Result<Self> {
        let kind = ErrorKind::InvalidArgument;
        let malformed = || "runtime options: not a valid runtimeoptions.v1.Options message";
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).context(kind, malformed);
        let mut options = Self::default();
        let mut input = CodedInputStream::from_bytes(value);
        while let Some(tag) = input.read_raw_tag_or_eof().context(kind, malformed)? {
            // Length-delimited fields: the number in the upper bits, wire type 2 in the lower.
            match (tag >> 3, tag & 7) {
                (2, 2) => options.path = text(input.read_bytes().context(kind, malformed)?)?,
                (3, 2) => options.body = text(input.read_bytes().context(kind, malformed)?)?,
                // Field 1 is the type URL of the body, which is TOML for every type.
                (_, 2) => drop(input.read_bytes().context(kind, malformed)?),
                _ => return Err(Error::invalid(malformed())),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any { type_url: type_url.into(), value, ..Default::default() }
    }

    fn toml_body(text: &str) -> Any {
        let mut value = vec![1 << 3 | 2, 1, b'x', 3 << 3 | 2, text.len() as u8];
        value.extend_from_slice(text.as_bytes());
        any("runtimeoptions.v1.Options", value)
    }

    #[test]
    fn reads_runc_options_and_no_options() {
        let runc = RuncOptions { systemd_cgroup: true, root: "/r".into(), ..Default::default() };
        let value = runc.write_to_bytes().unwrap();
        for url in ["containerd.runc.v1.Options", "type.googleapis.com/containerd.runc.v1.Options"]
        {
            let options = Options::from_any(Some(&any(url, value.clone()))).unwrap();
            assert!(options.systemd_cgroup);
            assert_eq!(options.root, "/r");
        }
        let others = [any("x.y.Z", vec![1]), any("containerd.runc.v1.Options", value)];
        assert!(Options::from_extensions(&others).unwrap().systemd_cgroup);
        assert_eq!(Options::from_extensions(&others[..1]).unwrap(), Options::default());
        assert_eq!(Options::from_any(None).unwrap(), Options::default());
        assert_eq!(Options::from_any(Some(&Any::default())).unwrap(), Options::default());
    }

    #[test]
    fn reads_a_toml_body_and_names_an_unknown_key() {
        let options = Options::from_any(Some(&toml_body("SystemdCgroup = true\n"))).unwrap();
        assert!(options.systemd_cgroup);
        let error = Options::from_any(Some(&toml_body("Root='/r'\nFoo = 1\n"))).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        assert!(error.to_string().contains("Foo"), "{error}");
        assert!(Options::from_any(Some(&toml_body("SystemdCgroup = 'yes'"))).is_err());
    }

    #[test]
    fn reads_a_toml_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("o.toml");
        let path = file.to_str().unwrap();
        let mut value = vec![2 << 3 | 2, path.len() as u8];
        value.extend_from_slice(path.as_bytes());
        let any = any("runtimeoptions.v1.Options", value);
        assert!(Options::from_any(Some(&any)).unwrap_err().to_string().contains(path));
        std::fs::write(&file, "BinaryName = \"crun\"").unwrap();
        assert_eq!(Options::from_any(Some(&any)).unwrap().binary_name, "crun");
    }

    #[test]
    fn refuses_other_types_and_garbage() {
        let error = Options::from_any(Some(&any("a.b.Options", vec![]))).unwrap_err();
        assert!(error.to_string().contains("a.b.Options"), "{error}");
        assert!(Options::from_any(Some(&any("runtimeoptions.v1.Options", vec![0xff]))).is_err());
        assert!(Options::from_any(Some(&any("runtimeoptions.v1.Options", vec![26, 99]))).is_err());
    }

    #[test]
    fn survives_the_bundle() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Options::load(dir.path()).unwrap(), None);
        let options = Options { no_pivot_root: true, ..Default::default() };
        options.save(dir.path()).unwrap();
        assert_eq!(Options::load(dir.path()).unwrap(), Some(options));
        Options::forget(dir.path());
        assert_eq!(Options::load(dir.path()).unwrap(), None);
    }
}

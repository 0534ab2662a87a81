//! What is read from where, what is refused, and what is documented.

use std::collections::BTreeSet;

use containerd_shim::api::Options as RuncOptions;
use containerd_shim::protos::protobuf::Message;

use super::*;

fn any(type_url: &str, value: Vec<u8>) -> Any {
    Any { type_url: type_url.into(), value, ..Default::default() }
}

fn toml_body(text: &str) -> Any {
    let mut value = vec![1 << 3 | 2, 1, b'x', 3 << 3 | 2, text.len() as u8];
    value.extend_from_slice(text.as_bytes());
    any("runtimeoptions.v1.Options", value)
}

/// The options with a node's configuration file that says `file`.
fn layered(any: Option<&Any>, file: &str) -> Result<Options> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, file).unwrap();
    Options::layered(any, &path)
}

fn from_any(any: &Any) -> Result<Options> {
    layered(Some(any), "")
}

#[test]
fn reads_runc_options_and_no_options() {
    let runc =
        RuncOptions { systemd_cgroup: true, root: "/r".into(), io_uid: 7, ..Default::default() };
    let value = runc.write_to_bytes().unwrap();
    for url in ["containerd.runc.v1.Options", "type.googleapis.com/containerd.runc.v1.Options"] {
        let options = from_any(&any(url, value.clone())).unwrap();
        let expected =
            Options { systemd_cgroup: true, root: "/r".into(), io_uid: 7, ..Default::default() };
        assert_eq!(options, expected);
    }
    let others = [any("x.y.Z", vec![1]), any("containerd.runc.v1.Options", value)];
    assert!(Options::from_extensions(&others).unwrap().systemd_cgroup);
    assert!(!Options::from_extensions(&others[..1]).unwrap().systemd_cgroup);
    assert_eq!(layered(None, "").unwrap(), Options::default());
    assert_eq!(from_any(&Any::default()).unwrap(), Options::default());
    let absent = Path::new("/nonexistent/config.toml");
    assert_eq!(Options::layered(None, absent).unwrap(), Options::default());
}

#[test]
fn reads_a_toml_body_and_names_an_unknown_key() {
    assert!(from_any(&toml_body("SystemdCgroup = true\n")).unwrap().systemd_cgroup);
    let error = from_any(&toml_body("Root='/r'\nFoo = 1\n")).unwrap_err().to_string();
    assert!(error.contains("runtime options, line 2: unknown field `Foo`"), "{error}");
    assert!(from_any(&toml_body("SystemdCgroup = 'yes'")).is_err());
}

#[test]
fn reads_a_toml_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("o.toml");
    let path = file.to_str().unwrap();
    let mut value = vec![2 << 3 | 2, path.len() as u8];
    value.extend_from_slice(path.as_bytes());
    let any = any("runtimeoptions.v1.Options", value);
    assert!(from_any(&any).unwrap_err().to_string().contains(path));
    std::fs::write(&file, "BinaryName = \"crun\"").unwrap();
    assert_eq!(from_any(&any).unwrap().binary_name, "crun");
}

#[test]
fn options_are_stronger_than_the_configuration_file() {
    let file = "[guest]\nmemory = 1\n[shim]\nSystemdCgroup = true\nRoot = '/file'\nIoGid = 5";
    let options = layered(None, file).unwrap();
    assert!(options.systemd_cgroup);
    assert_eq!(options.root, "/file");
    let body = toml_body("SystemdCgroup = false\nRoot = '/body'");
    let options = layered(Some(&body), file).unwrap();
    assert!(!options.systemd_cgroup);
    assert_eq!((options.root.as_str(), options.io_gid), ("/body", 5));
    let runc = RuncOptions { root: "/runc".into(), ..Default::default() };
    let runc = any("containerd.runc.v1.Options", runc.write_to_bytes().unwrap());
    let options = layered(Some(&runc), file).unwrap();
    // In runc's message "false" cannot be told from "not set".
    assert!(options.systemd_cgroup);
    assert_eq!(options.root, "/runc");
}

#[test]
fn a_mistake_in_the_configuration_file_is_named() {
    let error = layered(None, "[shim]\n\nSystemdCgruop = true").unwrap_err().to_string();
    assert!(error.contains("config.toml, line 3: unknown field `SystemdCgruop`"), "{error}");
    let error = from_any(&toml_body("ConfigFile = '/nonexistent/c'")).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/c"), "{error}");
}

#[test]
fn settings_of_the_runtime_are_handed_on() {
    let body = "[guest]\nmemory = '64MiB'\n[compile]\ntimeout = 9\n[cache]\nenabled = false";
    let options = from_any(&toml_body(body)).unwrap();
    let expected = ["cache.enabled=false", "compile.timeout=9", "guest.memory=\"64MiB\""];
    assert_eq!(options.settings(), expected);
    let error = from_any(&toml_body("[guest]\nmemroy = 1")).unwrap_err().to_string();
    assert!(error.contains("[guest]: unknown field `memroy`"), "{error}");
    let error = from_any(&toml_body("[compile]\ntimeout = []")).unwrap_err().to_string();
    assert!(error.contains("[compile]"), "{error}");
}

#[test]
fn refuses_other_types_and_garbage() {
    let error = from_any(&any("a.b.Options", vec![])).unwrap_err();
    assert!(error.to_string().contains("a.b.Options"), "{error}");
    assert!(from_any(&any("runtimeoptions.v1.Options", vec![0xff])).is_err());
    assert!(from_any(&any("runtimeoptions.v1.Options", vec![26, 99])).is_err());
}

#[test]
fn survives_the_bundle() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Options::load(dir.path()).unwrap(), None);
    let options = from_any(&toml_body("NoPivotRoot = true\n[guest]\nmemory = 5")).unwrap();
    options.save(dir.path()).unwrap();
    assert_eq!(Options::load(dir.path()).unwrap(), Some(options));
    Options::forget(dir.path());
    assert_eq!(Options::load(dir.path()).unwrap(), None);
}

#[test]
fn the_section_of_the_shim_is_not_about_the_file() {
    for key in ["ConfigFile = 'x'", "guest.memory = 1"] {
        let error = layered(None, &format!("[shim]\n{key}")).unwrap_err().to_string();
        assert!(error.contains("cannot be in [shim]"), "{error}");
    }
}

/// The keys that a type knows: a key that it does not know is refused with all that it does.
fn keys_of<T: for<'de> Deserialize<'de>>(section: &str) -> BTreeSet<String> {
    let text = format!("{section}nosuch = 1");
    let Err(error) = toml::from_str::<T>(&text) else { panic!("{text} was read") };
    let message = error.message();
    let expected = message.split("expected").nth(1).unwrap_or_else(|| panic!("{message}"));
    let quoted = expected.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// The keys in the first column of the tables of a document's section.
fn documented(section: &str) -> BTreeSet<String> {
    let text = include_str!("../../../docs/configuration.md");
    let start = text.find(section).unwrap_or_else(|| panic!("no {section}"));
    let text = &text[start + section.len()..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_key_is_documented() {
    let mut keys = BTreeSet::new();
    for section in keys_of::<Config>("") {
        match section.as_str() {
            // The shim's options have a table of their own.
            "shim" => drop(keys.insert("shim.…".to_owned())),
            _ => {
                let of_section = keys_of::<Config>(&format!("[{section}]\n"));
                keys.extend(of_section.iter().map(|key| format!("{section}.{key}")));
            }
        }
    }
    assert_eq!(documented("## `/etc/runwasm/config.toml`"), keys);
    assert_eq!(documented("## Shim options"), keys_of::<Options>(""));
}

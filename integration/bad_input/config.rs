//! Bundles whose config.json is malformed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::well_told;
use crate::harness::bundle::Bundle;
use crate::harness::container::tidied;
use crate::harness::{Result, trials};

/// A change that makes a good configuration bad: name, what the message names, the change.
type Case = (&'static str, &'static str, fn(&mut Value));

/// What runc refuses too.
const STANDARD: &[Case] = &[
    ("no_process", "process", |c| remove(c, "process")),
    ("no_root", "root", |c| remove(c, "root")),
    ("no_args", "args", |c| remove(&mut c["process"], "args")),
    ("empty_args", "args", |c| c["process"]["args"] = json!([])),
    ("args_is_text", "args", |c| c["process"]["args"] = json!("sh")),
    ("args_of_numbers", "args", |c| c["process"]["args"] = json!([1, 2])),
    ("env_is_text", "env", |c| c["process"]["env"] = json!("A=b")),
    ("relative_cwd", "cwd", |c| c["process"]["cwd"] = json!("some/where")),
    ("no_cwd", "cwd", |c| remove(&mut c["process"], "cwd")),
    ("uid_is_text", "uid", |c| c["process"]["user"]["uid"] = json!("root")),
    ("uid_is_negative", "uid", |c| c["process"]["user"]["uid"] = json!(-1)),
    ("uid_is_too_large", "uid", |c| c["process"]["user"]["uid"] = json!(1_u64 << 40)),
    ("unknown_namespace", "nosuch", |c| add_namespace(c, "nosuch")),
    ("duplicate_namespace", "namespace", |c| add_namespace(c, "mount")),
    ("namespace_path_is_missing", "/no/such/ns", |c| {
        c["linux"]["namespaces"][1] = json!({"type": "network", "path": "/no/such/ns"});
    }),
    ("unknown_rlimit", "RLIMIT_NOSUCH", |c| rlimit(c, "RLIMIT_NOSUCH", 1, 1)),
    ("rlimit_soft_above_hard", "RLIMIT_NOFILE", |c| rlimit(c, "RLIMIT_NOFILE", 20, 10)),
    ("root_is_missing", "rootfs-nosuch", |c| c["root"]["path"] = json!("rootfs-nosuch")),
    ("root_is_a_file", "config.json", |c| c["root"]["path"] = json!("config.json")),
    ("mounts_is_an_object", "mounts", |c| c["mounts"] = json!({"a": 1})),
    ("unknown_mount_type", "nosuchfs", |c| mount(c, "nosuchfs", "none", "/data")),
    ("mount_source_is_missing", "/no/such/source", |c| {
        mount(c, "bind", "/no/such/source", "/data")
    }),
    ("unknown_root_propagation", "rootfsPropagation", |c| {
        c["linux"]["rootfsPropagation"] = json!("rnosuch");
    }),
    ("unknown_seccomp_action", "SCMP_ACT_NOSUCH", |c| {
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_NOSUCH"});
    }),
];

/// What runc 1.1 lets pass, or fails at without a trace in its log.
const OURS: &[Case] = &[
    ("unknown_capability", "CAP_NOSUCH", |c| {
        c["process"]["capabilities"]["bounding"] = json!(["CAP_NOSUCH"]);
    }),
    ("no_oci_version", "ociVersion", |c| remove(c, "ociVersion")),
    ("foreign_oci_version", "ociVersion", |c| c["ociVersion"] = json!("9.0.0")),
    ("empty_command", "args", |c| c["process"]["args"] = json!([""])),
    ("nul_in_env", "env", |c| c["process"]["env"] = json!(["PATH=/bin", "A=a\0b"])),
    ("nul_in_args", "args", |c| c["process"]["args"] = json!(["sh", "a\0b"])),
    ("duplicate_rlimit", "RLIMIT_CORE", |c| {
        rlimit(c, "RLIMIT_CORE", 0, 0);
        rlimit(c, "RLIMIT_CORE", 1, 1);
    }),
];

fn remove(value: &mut Value, key: &str) {
    value.as_object_mut().expect("the default has an object here").remove(key);
}

fn add(array: &mut Value, item: Value) {
    array.as_array_mut().expect("the default has an array here").push(item);
}

fn add_namespace(config: &mut Value, kind: &str) {
    add(&mut config["linux"]["namespaces"], json!({"type": kind}));
}

fn rlimit(config: &mut Value, kind: &str, soft: u64, hard: u64) {
    add(&mut config["process"]["rlimits"], json!({"type": kind, "soft": soft, "hard": hard}));
}

fn mount(config: &mut Value, kind: &str, source: &str, destination: &str) {
    let options = if kind == "bind" { json!(["rbind"]) } else { json!([]) };
    let mount =
        json!({"type": kind, "source": source, "destination": destination, "options": options});
    add(&mut config["mounts"], mount);
}

pub fn tests() -> Vec<Trial> {
    let mut tests = trials!["bad_input": config_is_missing, config_is_truncated, config_is_empty,
        config_is_a_directory, bundle_is_missing,
        pid_file_cannot_be_written, console_socket_is_missing];
    tests.extend(STANDARD.iter().map(as_trial));
    tests
}

pub fn our_tests() -> Vec<Trial> {
    let mut tests = trials!["bad_input": config_is_no_object, config_is_huge, config_is_deep, config_is_not_utf8,
        bundle_path_is_not_utf8];
    tests.extend(OURS.iter().map(as_trial));
    tests
}

fn as_trial((name, needle, change): &'static Case) -> Trial {
    Trial::test(format!("bad_input::{name}"), move || {
        refused(Bundle::sleeper()?.edit(change), &[], needle)
    })
}

fn refused(bundle: Bundle, options: &[&str], needle: &str) -> Result {
    let create = bundle.make("create", options)?;
    check(&bundle, create.run(), needle)
}

fn check(bundle: &Bundle, output: Result<crate::harness::command::Output>, needle: &str) -> Result {
    let output = tidied(bundle, output)?;
    let log = fs::read_to_string(bundle.log_file()).unwrap_or_default();
    well_told(&output, &log, needle)
}

/// A bundle whose configuration is `bytes`.
fn refused_text(bytes: &[u8]) -> Result {
    let bundle = Bundle::sleeper()?;
    fs::write(bundle.dir().join("config.json"), bytes)?;
    let began = Instant::now();
    let create = bundle.runtime("create").arg("--bundle").arg(bundle.dir()).arg(&bundle.id);
    check(&bundle, create.run(), "config.json")?;
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    Ok(())
}

fn good() -> Result<String> {
    Ok(Bundle::sleeper()?.config.to_string())
}

fn config_is_missing() -> Result {
    let bundle = Bundle::sleeper()?;
    let create = bundle.runtime("create").arg("--bundle").arg(bundle.dir()).arg(&bundle.id);
    check(&bundle, create.run(), "config.json")
}

fn config_is_truncated() -> Result {
    let text = good()?;
    for length in [1, text.len() / 2, text.len() - 1] {
        refused_text(&text.as_bytes()[..length])?;
    }
    Ok(())
}

fn config_is_empty() -> Result {
    refused_text(b"")
}

fn config_is_no_object() -> Result {
    for text in ["null", "[]", "7", "\"text\"", "{} {}"] {
        refused_text(text.as_bytes())?;
    }
    Ok(())
}

fn config_is_a_directory() -> Result {
    let bundle = Bundle::sleeper()?;
    fs::create_dir(bundle.dir().join("config.json"))?;
    let create = bundle.runtime("create").arg("--bundle").arg(bundle.dir()).arg(&bundle.id);
    check(&bundle, create.run(), "config.json")
}

fn bundle_is_missing() -> Result {
    let bundle = Bundle::sleeper()?;
    let create = bundle.runtime("create").args(["--bundle", "/no/such/bundle", &bundle.id]);
    check(&bundle, create.run(), "/no/such/bundle")
}

fn pid_file_cannot_be_written() -> Result {
    refused(Bundle::sleeper()?, &["--pid-file", "/no/such/dir/pid"], "/no/such/dir/pid")
}

fn console_socket_is_missing() -> Result {
    refused(
        Bundle::sleeper()?.terminal(),
        &["--console-socket", "/no/such/socket"],
        "/no/such/socket",
    )
}

fn bundle_path_is_not_utf8() -> Result {
    let bundle = Bundle::sleeper()?;
    bundle.write()?;
    let strange = bundle.dir().join(OsStr::from_bytes(b"b\xff"));
    fs::create_dir(&strange)?;
    fs::copy(bundle.dir().join("config.json"), strange.join("config.json"))?;
    fs::create_dir(strange.join("rootfs"))?;
    let create = bundle.runtime("create").arg("--bundle").arg(&strange).arg(&bundle.id);
    check(&bundle, create.run(), "not UTF-8")
}

fn config_is_huge() -> Result {
    let mut text = good()?;
    text.push_str(&" ".repeat(100 << 20));
    refused_text(text.as_bytes())
}

fn config_is_deep() -> Result {
    refused_text(format!("{{\"a\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000)).as_bytes())
}

fn config_is_not_utf8() -> Result {
    let text = good()?;
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused_text(&utf16)?;
    refused_text(&text.replace("sleep", "sl\u{1}ep").into_bytes())?;
    let mut bytes = text.into_bytes();
    let middle = bytes.len() / 2;
    bytes[middle] = 0xff;
    refused_text(&bytes)
}

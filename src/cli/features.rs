//! `features`: what engines ask before they use a runtime (runtime-spec, `features.md`).

use serde_json::json;

use super::state::print_json;
use crate::error::Result;
use crate::oci::annotations::{HANDLER, VARIANT};
use crate::wasm::engine::WASMTIME_VERSION;

/// Prints the features as JSON.
///
/// # Errors
/// When standard output is closed.
pub fn features() -> Result<()> {
    let capabilities: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    print_json(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": oci_spec::runtime::VERSION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
        ],
        "mountOptions": [
            "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "iversion",
            "lazytime", "loud", "mand", "noatime", "nodev", "nodiratime", "noexec", "noiversion",
            "nolazytime", "nomand", "norelatime", "nostrictatime", "nosuid", "private", "rbind",
            "relatime", "remount", "ro", "rprivate", "rro", "rshared", "rslave", "runbindable", "rw",
            "shared", "silent", "slave", "strictatime", "suid", "sync", "unbindable",
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {
                "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": false,
            },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE",
                    "SCMP_ACT_TRAP",
                ],
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": false},
            "intelRdt": {"enabled": true},
            "mountExtensions": {"idmap": {"enabled": false}},
        },
        "annotations": {
            "org.opencontainers.runwasm.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runwasm.wasmtime": WASMTIME_VERSION,
            "org.opencontainers.runwasm.checkpoint.enabled": "false",
            // crun's name for it, which engines already look for.
            "run.oci.crun.wasm": "true",
        },
        "potentiallyUnsafeConfigAnnotations": [HANDLER, VARIANT],
    }))
}

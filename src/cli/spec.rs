//! `spec`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use liboci_cli::Spec as Args;
use nix::unistd::{getegid, geteuid};
use oci_spec::runtime::Spec;

use crate::error::{Context, ErrorKind, Result};

/// Writes a default `config.json` into the bundle directory: `sh` in a container as runc's
/// default has it.
///
/// # Errors
/// When there is one already.
pub fn spec(args: &Args) -> Result<()> {
    let mut spec = if args.rootless {
        Spec::rootless(geteuid().as_raw(), getegid().as_raw())
    } else {
        Spec::default()
    };
    spec.set_hostname(Some(env!("CARGO_PKG_NAME").to_owned()));
    if let Some(process) = spec.process_mut() {
        process.set_terminal(Some(true));
        // As runc's default since CVE-2022-29162; without inheritable ones, ambient ones are none.
        let capabilities = process.capabilities().clone().map(|mut capabilities| {
            capabilities.set_inheritable(None).set_ambient(None);
            capabilities
        });
        process.set_capabilities(capabilities);
    }
    let path = args.bundle.as_deref().unwrap_or(Path::new(".")).join("config.json");
    let text = serde_json::to_string_pretty(&spec).os(|| "encode the spec")?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .context(ErrorKind::InvalidArgument, || format!("create {}", path.display()))?;
    writeln!(file, "{text}").os(|| format!("write {}", path.display()))
}

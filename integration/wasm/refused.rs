//! Modules that cannot be loaded fail create, with a sentence that names file and reason.

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::guests::{Guest, PROBE};
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["wasm": unknown_import_fails_create, truncated_module_fails_create,
        damaged_module_fails_create, malformed_text_fails_create, module_without_start_fails_create,
        unknown_component_import_fails_create, missing_entrypoint_fails_create]
}

/// Create must fail for a file of these bytes, naming it and the reason, in one line.
fn refused(path: &str, bytes: &[u8], reason: &str) -> Result {
    let output = Bundle::empty(&[path])?.file(path, bytes)?.create_fails()?;
    let output = output.refused(path)?.refused(reason)?;
    assert_eq!(output.stderr.trim_end().lines().count(), 1, "{}", output.stderr);
    Ok(())
}

fn unknown_import_fails_create() -> Result {
    refused("/app/mystery.wasm", &Guest::Wat("mystery").bytes()?, "mystery")
}

fn truncated_module_fails_create() -> Result {
    let bytes = PROBE.bytes()?;
    for length in [8 + 4, bytes.len() / 2, bytes.len() - 1] {
        refused("/probe.wasm", &bytes[..length], "")?;
    }
    Ok(())
}

fn damaged_module_fails_create() -> Result {
    let mut bytes = Guest::Wat("hello").bytes()?;
    // The number of the first section: there is none of this kind.
    bytes[8] = 0x7f;
    refused("/hello.wasm", &bytes, "")?;
    refused("/version.wasm", b"\0asm\x09\0\0\0", "version")
}

fn malformed_text_fails_create() -> Result {
    let bundle = Bundle::empty(&["/bad.wat"])?.file("/bad.wat", b"(module (func)")?;
    bundle.annotation("run.oci.handler", "wasm").create_fails()?.refused("bad.wat")?;
    Ok(())
}

fn module_without_start_fails_create() -> Result {
    refused("/reactor.wasm", &Guest::Wat("reactor").bytes()?, "_start")
}

fn unknown_component_import_fails_create() -> Result {
    let text = "(component (import \"mystery:package/thing@1.0.0\" (instance)))";
    let bytes = wat::parse_str(text).map_err(|error| error.to_string())?;
    refused("/mystery.wasm", &bytes, "")
}

fn missing_entrypoint_fails_create() -> Result {
    let bundle = Bundle::empty(&["/nosuch.wasm"])?;
    bundle.create_fails()?.refused("exec: \"/nosuch.wasm\": no such file or directory")?;
    Ok(())
}

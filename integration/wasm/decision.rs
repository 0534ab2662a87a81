//! Wasm or Linux: the rows of the table, seen from outside.

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::guests::{Guest, PROBE};
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["wasm": sandbox_is_linux, handler_runs_wasm, handler_runs_a_linux_sidecar,
        unknown_handler_is_an_error, compat_runs_wasm_and_linux, no_annotation_goes_by_content,
        named_wasm_but_is_none, named_wasm_without_annotation_is_linux,
        entrypoint_is_found_on_path, entrypoint_through_links, entrypoint_relative_to_cwd,
        state_tells_the_reason]
}

const HANDLER: &str = "run.oci.handler";
const VARIANT: &str = "module.wasm.image/variant";
const KIND: &str = "io.kubernetes.cri.container-type";
const HELLO: Guest = Guest::Wat("hello");

/// All annotations under which an entrypoint may be wasm.
const WASM: [(&str, &str); 5] = [
    (HANDLER, "wasm"),
    (HANDLER, "wasm-smart"),
    (HANDLER, "wasmtime"),
    (VARIANT, "compat"),
    (VARIANT, "compat-smart"),
];

/// The workload `state` tells of a created container, and why.
fn workload(bundle: Bundle) -> Result<(String, String)> {
    let container = Container::create(bundle)?;
    let state = container.state()?;
    container.kill("KILL")?;
    container.wait()?;
    container.delete()?;
    let annotation = |key: &str| state["annotations"][key].as_str().unwrap_or_default().to_owned();
    Ok((annotation("runwasm.workload"), annotation("runwasm.workload.reason")))
}

fn sandbox_is_linux() -> Result {
    let bundle = Bundle::sleeper()?.annotation(KIND, "sandbox").annotation(HANDLER, "wasm");
    assert_eq!(workload(bundle)?.0, "linux");
    // Even an unknown handler is none of a sandbox's business.
    let bundle = Bundle::sleeper()?.annotation(KIND, "sandbox").annotation(HANDLER, "other");
    assert_eq!(workload(bundle)?.0, "linux");
    Ok(())
}

fn handler_runs_wasm() -> Result {
    for (key, value) in WASM {
        let bundle = Bundle::wasm(&HELLO, &["/hello.wasm"])?.annotation(key, value);
        assert_eq!(bundle.run()?.success()?.text(), "hello\n", "{key}={value}");
    }
    Ok(())
}

fn handler_runs_a_linux_sidecar() -> Result {
    for (key, value) in WASM {
        let bundle = Bundle::sh("env; echo linux")?.env(&["PATH=/bin", "A=1"]);
        let bundle = bundle.annotation(key, value);
        let run = bundle.make("run", &[])?.env("HOST_VARIABLE", "leak").run()?.success()?;
        let lines = run.lines();
        assert_eq!(lines.last().map(String::as_str), Some("linux"), "{key}={value}");
        assert!(lines.contains(&"A=1".to_owned()), "{lines:?}");
        assert!(!run.text().contains("HOST_VARIABLE"), "{lines:?}");
    }
    Ok(())
}

fn unknown_handler_is_an_error() -> Result {
    for handler in ["wasmedge", "krun", ""] {
        let bundle = Bundle::wasm(&HELLO, &["/hello.wasm"])?.annotation(HANDLER, handler);
        let output = bundle.create_fails()?.refused(HANDLER)?;
        assert!(output.stderr.contains(handler), "{}", output.stderr);
    }
    Ok(())
}

fn compat_runs_wasm_and_linux() -> Result {
    let bundle = Bundle::wasm(&HELLO, &["/hello"])?.annotation(VARIANT, "compat");
    assert_eq!(workload(bundle)?.0, "wasm");
    let bundle = Bundle::sleeper()?.annotation(VARIANT, "compat");
    assert_eq!(workload(bundle)?.0, "linux");
    Ok(())
}

fn no_annotation_goes_by_content() -> Result {
    for path in ["/hello.wasm", "/hello", "/bin/hello.elf"] {
        assert_eq!(workload(Bundle::wasm(&HELLO, &[path])?)?.0, "wasm", "{path}");
    }
    assert_eq!(workload(Bundle::wasm(&Guest::WatText("hello"), &["/hello.wat"])?)?.0, "wasm");
    assert_eq!(workload(Bundle::wasm(&Guest::Wat("exit-component"), &["/c"])?)?.0, "wasm");
    assert_eq!(workload(Bundle::sleeper()?)?.0, "linux");
    Ok(())
}

/// An ELF header as wasmtime writes it before machine code: its own OS/ABI number, 200.
fn precompiled() -> Vec<u8> {
    let mut header = vec![0; 128];
    header[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 200]);
    header
}

fn named_wasm_but_is_none() -> Result {
    let busybox = std::fs::read("/bin/busybox")?;
    let precompiled = precompiled();
    let contents: [(&[u8], &str); 5] = [
        (&busybox, "ELF"),
        (b"just some text\n", "text"),
        (b"", "empty"),
        (b"\0as", "truncated"),
        (&precompiled, "precompiled"),
    ];
    for (content, what) in contents {
        for (key, value) in [(HANDLER, "wasm"), (VARIANT, "compat")] {
            let bundle = Bundle::empty(&["/app.wasm"])?.file("/app.wasm", content)?;
            let output = bundle.annotation(key, value).create_fails()?;
            output.refused("app.wasm")?.refused(what)?;
        }
    }
    Ok(())
}

fn named_wasm_without_annotation_is_linux() -> Result {
    let script = b"#!/bin/sh\necho linux\n";
    let bundle = Bundle::linux(&["/run.wasm"])?.file("/run.wasm", script)?;
    assert_eq!(bundle.run()?.success()?.text(), "linux\n");
    Ok(())
}

fn entrypoint_is_found_on_path() -> Result {
    let bundle = Bundle::wasm(&HELLO, &["/opt/tools/hello"])?.args(&["hello"]);
    let bundle = bundle.env(&["PATH=/nowhere:/opt/tools"]);
    assert_eq!(bundle.run()?.success()?.text(), "hello\n");
    let missing = Bundle::wasm(&HELLO, &["/opt/tools/hello"])?.args(&["hello"]);
    missing.create_fails()?.refused("exec: \"hello\": executable file not found in $PATH")?;
    Ok(())
}

fn entrypoint_through_links() -> Result {
    let bundle = Bundle::wasm(&HELLO, &["/real/hello.wasm"])?;
    let bundle = bundle.link("/bin/second", "../real/hello.wasm")?.link("/first", "/bin/second")?;
    assert_eq!(bundle.args(&["/first"]).run()?.success()?.text(), "hello\n");
    // Links are followed inside the root: a file of the host is not to be had.
    let outside = Bundle::wasm(&HELLO, &["/hello.wasm"])?;
    let target = outside.rootfs().join("hello.wasm").to_string_lossy().into_owned();
    let bundle = Bundle::empty(&["/link.wasm"])?.link("/link.wasm", &target)?;
    bundle.create_fails()?.refused("link.wasm")?;
    Ok(())
}

fn entrypoint_relative_to_cwd() -> Result {
    let bundle = Bundle::wasm(&PROBE, &["/app/probe.wasm"])?.cwd("/app");
    let output = bundle.args(&["./probe.wasm", "args"]).run()?.success()?;
    assert_eq!(output.lines(), ["[./probe.wasm]", "[args]"]);
    Ok(())
}

fn state_tells_the_reason() -> Result {
    let (kind, reason) = workload(Bundle::wasm(&HELLO, &["/hello.wasm"])?)?;
    assert_eq!(kind, "wasm");
    assert!(reason.contains("hello.wasm"), "{reason}");
    let (_, reason) = workload(Bundle::sleeper()?.annotation(VARIANT, "compat"))?;
    assert!(reason.contains(VARIANT), "{reason}");
    let (_, reason) = workload(Bundle::sleeper()?.annotation(KIND, "sandbox"))?;
    assert!(reason.contains("sandbox"), "{reason}");
    Ok(())
}

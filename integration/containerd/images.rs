//! Images for several platforms, and artifacts, of which containerd unpacks nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::command::Cmd;
use crate::harness::containerd::{Generation, RUNTIME, Server, trials_on};
use crate::harness::guests::{Guest, PROBE, PROBE_COMPONENT};
use crate::harness::task::Task;
use crate::harness::{Result, audit, docs, runtime, suite};

pub fn tests(generation: Generation) -> Vec<Trial> {
    trials_on!(generation => platform_chooses, artifacts_run, layers_are_told_apart,
        an_artifact_in_an_index, exec_in_an_artifact, artifacts_that_cannot_run, damaged_blobs,
        ctr_refuses_artifacts_as_documented, a_plugin_without_an_entrypoint, docs_images)
}

/// The example: one Go program for both platforms.
fn platform_chooses(server: &Arc<Server>) -> Result {
    import(server, &example("multi-platform")?, &["--all-platforms"])?;
    let image = "localhost/multi-platform:latest";
    for (flags, wanted) in [
        (&["--platform", "wasi/wasm"][..], "wasip1/wasm with 1 arguments\n"),
        (&["--platform", "linux/amd64"], "linux/amd64 with 1 arguments\n"),
        (&[], "linux/amd64 with 1 arguments\n"),
    ] {
        // For `ctr` the command takes the place of the entrypoint too.
        let program = if wanted.starts_with("wasip1") { "/platform.wasm" } else { "/platform" };
        let id = suite::unique_id();
        let run = ["run", "--rm", "--runtime", RUNTIME].iter().chain(flags);
        let run = server.ctr(run.chain(&[image, &id, program, "one"])).run()?.success()?;
        assert_eq!(run.text(), wanted, "{flags:?}");
        audit::nothing_left_of(&id)?;
    }
    Ok(())
}

fn example(name: &str) -> Result<PathBuf> {
    let file = suite::repository().join(format!("target/images/{name}.tar"));
    if file.exists() { Ok(file) } else { Err("run `make images` first".into()) }
}

fn import(server: &Server, archive: &PathBuf, flags: &[&str]) -> Result {
    let import = server.ctr(["image", "import"].iter().chain(flags)).arg(archive);
    import.run()?.success().map(drop)
}

/// Makes an artifact of `guest` and imports it; the name.
fn artifact(server: &Server, guest: Guest, options: &[&str]) -> Result<String> {
    let (dir, name) = (suite::new_dir("artifact")?, suite::unique_id());
    let (wasm, archive) = (dir.join("probe.wasm"), dir.join("artifact.tar"));
    fs::write(&wasm, guest.bytes()?)?;
    let cmd = runtime::cmd().arg("image").arg(&wasm).args(["--tag", &name, "--output"]);
    cmd.arg(&archive).args(options).run()?.success()?;
    import(server, &archive, &["--no-unpack", "--all-platforms"])?;
    Ok(format!("localhost/{name}:latest"))
}

/// `ctr run` of an artifact on an empty root directory.
fn run(
    server: &Arc<Server>,
    image: &str,
    args: &[&str],
) -> Result<crate::harness::command::Output> {
    let annotation = format!("runwasm.artifact={image}");
    Task::run(server, Bundle::empty(&[])?, &["--annotation", &annotation], args)
}

fn artifacts_run(server: &Arc<Server>) -> Result {
    for guest in [PROBE, PROBE_COMPONENT] {
        for form in ["--artifact", "--artifact=krustlet"] {
            let image = artifact(server, guest, &[form])?;
            for program in ["/probe.wasm", "probe.wasm", "/"] {
                let args = [program, "args", "one"];
                let output = run(server, &image, &args)?.success()?;
                assert_eq!(output.lines(), args.map(|arg| format!("[{arg}]")), "{guest:?} {form}");
            }
        }
    }
    Ok(())
}

/// The example: two programs.
fn layers_are_told_apart(server: &Arc<Server>) -> Result {
    import(server, &example("artifact")?, &["--no-unpack"])?;
    let image = "localhost/artifact:latest";
    for (program, word) in [("greet.wasm", "hello"), ("part.wasm", "goodbye")] {
        let output = run(server, image, &[program, "world"])?.success()?;
        assert_eq!(output.text(), format!("{word}, world\n"));
    }
    let output = run(server, image, &["/other.wasm"])?;
    output.refused("\"/other.wasm\" names none of its files: greet.wasm, part.wasm")?;
    Ok(())
}

fn an_artifact_in_an_index(server: &Arc<Server>) -> Result {
    let linux = example("busybox")?;
    let options = ["--artifact", "--index-with", &linux.to_string_lossy()];
    let image = artifact(server, PROBE, &options)?;
    let output = run(server, &image, &["probe.wasm", "args"])?.success()?;
    assert_eq!(output.lines(), ["[probe.wasm]", "[args]"]);
    Ok(())
}

fn exec_in_an_artifact(server: &Arc<Server>) -> Result {
    let image = artifact(server, PROBE, &["--artifact"])?;
    let flags = ["--annotation", &*format!("runwasm.artifact={image}")];
    let task = Task::start(server, Bundle::empty(&[])?, &flags, &["probe.wasm", "sleep"])?;
    let output = task.exec("x", &[], &["probe.wasm", "args"]).run()?.success()?;
    assert_eq!(output.lines(), ["[probe.wasm]", "[args]"]);
    task.exec("y", &[], &["/bin/sh"]).run()?.refused("names none of its files: probe.wasm")?;
    task.kill("SIGTERM")?;
    task.wait_for_status("STOPPED")?;
    assert_eq!(task.delete()?, 143);
    Ok(())
}

fn artifacts_that_cannot_run(server: &Arc<Server>) -> Result {
    let missing = run(server, "localhost/nosuch:latest", &["a.wasm"])?;
    missing.refused("annotation runwasm.artifact=localhost/nosuch:latest: ask containerd")?;
    let image = artifact(server, Guest::Wat("mystery"), &["--artifact"])?;
    run(server, &image, &["probe.wasm"])?.refused("/probe.wasm cannot be run")?;
    // An ordinary image is not looked into: it is to be unpacked.
    let image = artifact(server, PROBE, &[])?;
    run(server, &image, &["/probe.wasm"])?.refused("\"/probe.wasm\": no such file")?;
    Ok(())
}

/// A blob that is not what its digest says, and one that is gone.
fn damaged_blobs(server: &Arc<Server>) -> Result {
    // No other trial uses this guest, and so its blob, in an artifact.
    let guest = Guest::Wat("hello");
    let image = artifact(server, guest, &["--artifact"])?;
    let file = suite::new_dir("blob")?.join("hello.wasm");
    fs::write(&file, guest.bytes()?)?;
    let sum = Cmd::new("sha256sum").arg(&file).run()?.success()?.text();
    let blob = server.blob(sum.split(' ').next().unwrap_or_default());
    let mut bytes = fs::read(&blob)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&blob, &bytes)?;
    run(server, &image, &["probe.wasm"])?.refused("is damaged: its content has the digest")?;
    fs::write(&blob, &bytes[..last])?;
    let size = format!("has {last} bytes, and its descriptor says {}", bytes.len());
    run(server, &image, &["probe.wasm"])?.refused(&size)?;
    fs::remove_file(&blob)?;
    run(server, &image, &["probe.wasm"])?.refused("is missing from")?;
    Ok(())
}

/// docs/images.md has a table of this.
fn ctr_refuses_artifacts_as_documented(server: &Arc<Server>) -> Result {
    let image = artifact(server, PROBE, &["--artifact"])?;
    let id = suite::unique_id();
    let run = server.ctr(["run", "--rm", "--runtime", RUNTIME, &image, &id, "probe.wasm"]).run()?;
    let wanted = match server.generation() {
        Generation::V1_6 => "mismatched image rootfs and manifest layers",
        Generation::V1_7 | Generation::V2 => "unknown image config media type",
    };
    run.refused(wanted).map(drop)
}

/// Istio's layout: one file, `plugin.wasm`, and no entrypoint.
fn a_plugin_without_an_entrypoint(server: &Arc<Server>) -> Result {
    let with = |guest: Guest| -> Result<Bundle> {
        Bundle::empty(&[])?.file("/plugin.wasm", &guest.bytes()?)
    };
    let output = Task::run(server, with(PROBE)?, &[], &["/", "args"])?.success()?;
    assert_eq!(output.lines(), ["[/]", "[args]"]);
    let proxy = Task::run(server, with(Guest::Wat("proxy"))?, &[], &["/"])?;
    proxy.refused("/plugin.wasm cannot be run: it imports from the Proxy-Wasm ABI")?;
    Ok(())
}

/// The commands that docs/images.md shows.
fn docs_images(server: &Arc<Server>) -> Result {
    let ctr: Cmd = server.ctr::<&str>([]);
    docs::run("docs/images.md", "containerd", "ctr", &ctr)
}

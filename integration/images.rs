//! `inspect` and `image`: wasm files and archives, whole and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::harness::command::{Cmd, Output};
use crate::harness::guests::{Guest, PROBE, PROBE_COMPONENT, source};
use crate::harness::{Result, docs, runtime, suite, trials};

pub fn our_tests() -> Vec<Trial> {
    trials!["images": inspect_of_each_kind_of_file, inspect_of_text_and_of_other_files,
        inspect_of_archives, damaged_archives, an_archive_that_leaves_itself,
        images_are_equal_to_the_byte, an_image_says_where_it_is_from, warns_of_what_will_not_run,
        options_that_do_not_fit_are_refused, an_index_holds_both, docs_images]
}

fn inspect(file: &Path) -> Result<Output> {
    runtime::cmd().arg("inspect").arg(file).run()
}

fn inspect_json(file: &Path) -> Result<Value> {
    let output = runtime::cmd().args(["inspect", "--json"]).arg(file).run()?.success()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A guest as a file on the host.
fn file_of(guest: Guest, name: &str) -> Result<PathBuf> {
    let file = suite::new_dir("wasm")?.join(name);
    fs::write(&file, guest.bytes()?)?;
    Ok(file)
}

/// `runwasm image` of the probe with more arguments; the archive.
fn image(arguments: &[&str]) -> Result<PathBuf> {
    let archive = suite::new_dir("image")?.join("image.tar");
    let cmd = runtime::cmd().arg("image").arg(file_of(PROBE, "probe.wasm")?);
    let cmd = cmd.args(["--tag", "probe", "--output"]).arg(&archive).args(arguments);
    cmd.run()?.success()?;
    Ok(archive)
}

fn built(file: &str) -> Result<PathBuf> {
    let file = suite::repository().join("target").join(file);
    if file.exists() { Ok(file) } else { Err("run `make images` first".into()) }
}

fn inspect_of_each_kind_of_file() -> Result {
    let module = inspect_json(&file_of(PROBE, "probe.wasm")?)?;
    assert_eq!(module["kind"], "module");
    assert_eq!(module["role"], "command");
    assert_eq!(module["wasi"], json!(["0.1"]));
    assert_eq!(module["problems"], json!([]));
    assert_eq!(module["imports"][0]["provider"], "wasi_snapshot_preview1");
    assert!(module["memories"][0]["minimum"].as_u64() >= Some(65536), "{module}");
    let component = inspect_json(&file_of(PROBE_COMPONENT, "probe.wasm")?)?;
    assert_eq!((&component["kind"], &component["role"]), (&json!("component"), &json!("command")));
    assert_eq!((&component["wasi"], &component["problems"]), (&json!(["0.2"]), &json!([])));
    for (version, wasi) in [("0.2", json!(["0.2"])), ("0.3", json!(["0.2", "0.3"]))] {
        let file = built(&format!("rootfs/http-rust-{version}/server.wasm"))?;
        let server = inspect_json(&file)?;
        assert_eq!((&server["role"], &server["wasi"]), (&json!("server"), &wasi));
        assert_eq!(server["problems"], json!([]), "{version}");
    }
    Ok(())
}

fn inspect_of_text_and_of_other_files() -> Result {
    let output = inspect(&source("mystery.wat"))?.success()?;
    let first = output.lines().swap_remove(0);
    assert!(first.ends_with("a module, a command, without WASI; does not run here"), "{first}");
    assert!(output.text().contains("MISSING: function"), "{output:?}");
    inspect(Path::new("/bin/sh"))?.refused("/bin/sh is an ELF file; give a WebAssembly file")?;
    inspect(Path::new("/nonexistent"))?.refused("/nonexistent: No such file")?;
    let file = suite::new_dir("bad")?.join("bad.wasm");
    fs::write(&file, b"\0asm\x01\0\0\0\x0a\xff")?;
    inspect(&file)?.refused("bad.wasm is not valid WebAssembly")?;
    fs::write(&file, "text ".repeat(1000))?;
    inspect(&file)?.refused("bad.wasm is not a tar archive")?;
    Ok(())
}

fn inspect_of_archives() -> Result {
    let hello = inspect_json(&built("images/hello-rust.tar")?)?["images"][0].take();
    assert_eq!(hello["name"], "localhost/hello-rust:latest");
    assert_eq!((&hello["form"], &hello["platform"]), (&json!("image"), &json!("linux/amd64")));
    assert_eq!(hello["entrypoint"], json!(["/hello.wasm"]));
    assert_eq!(hello["files"][0]["file"], "/hello.wasm");
    assert_eq!(hello["files"][0]["problems"], json!([]));
    let linux = inspect(&built("images/busybox.tar")?)?.success()?.text();
    assert!(linux.contains("it runs as a Linux container"), "{linux}");
    for (option, os) in [("--artifact", json!("wasip1/wasm")), ("--artifact=krustlet", json!(null))]
    {
        let artifact = inspect_json(&image(&[option])?)?["images"][0].take();
        assert_eq!((&artifact["form"], &artifact["platform"]), (&json!("artifact"), &os));
        assert_eq!(artifact["files"][0]["file"], "probe.wasm");
    }
    Ok(())
}

/// Each damage by what inspect says of it.
fn damaged_archives() -> Result {
    let whole = fs::read(image(&[])?)?;
    let file = suite::new_dir("damaged")?.join("image.tar");
    let refused = |bytes: &[u8], what: &str| -> Result {
        fs::write(&file, bytes)?;
        inspect(&file)?.refused(what).map(drop)
    };
    refused(b"", "image.tar is empty")?;
    refused(&whole[..20_000], "image.tar is truncated: its entry blobs/sha256/")?;
    refused(&whole[..512], "image.tar is no OCI archive: it has no index.json")?;
    // A byte of the wasm file in the layer, far from any header.
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    refused(&flipped, "is damaged: its content has the digest sha256:")?;
    let with = |from: &str, to: &str| -> Result<Vec<u8>> {
        let mut bytes = whole.clone();
        let last = whole.windows(from.len()).rposition(|window| window == from.as_bytes());
        let at = last.ok_or_else(|| format!("no {from} in the archive"))?;
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        Ok(bytes)
    };
    refused(&with("\"manifests\"", "\"manifesto\"")?, "index.json is malformed")?;
    refused(&with("\"digest\":\"sha256:", "\"digest\":\"sha255:")?, "blob sha255:")?;
    refused(&with("\"size\":", "\"size\":9")?, "and its descriptor says 9")
}

fn an_archive_that_leaves_itself() -> Result {
    let dir = suite::new_dir("leaves")?;
    fs::write(dir.join("secret"), "secret")?;
    fs::create_dir(dir.join("in"))?;
    let archive = dir.join("in/evil.tar");
    let tar = Cmd::new("tar").arg("-C").arg(dir.join("in")).args(["-P", "-cf"]).arg(&archive);
    tar.arg("../secret").run()?.success()?;
    inspect(&archive)?.refused("entry \"../secret\" leaves the archive")?;
    let wasm = file_of(PROBE, "probe.wasm")?;
    let output = dir.join("out.tar");
    let cmd = runtime::cmd().arg("image").arg(&wasm).args(["--tag", "a", "--output"]).arg(&output);
    cmd.arg("--index-with").arg(&archive).run()?.refused("leaves the archive")?;
    assert!(!output.exists());
    Ok(())
}

fn images_are_equal_to_the_byte() -> Result {
    let data = suite::new_dir("data")?;
    for name in ["b", "a", "c"] {
        fs::write(data.join(name), name)?;
    }
    let files = format!("{}:/srv", data.display());
    for arguments in [
        &["--file", files.as_str(), "--env", "A=1", "--env", "B=2"][..],
        &["--artifact"],
        &["--artifact=krustlet"],
        &["--index-with", &built("images/busybox.tar")?.to_string_lossy()],
    ] {
        let (one, other) = (fs::read(image(arguments)?)?, fs::read(image(arguments)?)?);
        assert!(one == other, "{arguments:?}: the archives differ");
    }
    Ok(())
}

fn an_image_says_where_it_is_from() -> Result {
    let bytes = fs::read(image(&["--env", "A=1"])?)?;
    let text = String::from_utf8_lossy(&bytes);
    let sum = Cmd::new("sha256sum").arg(file_of(PROBE, "probe.wasm")?).run()?.success()?.text();
    let digest = sum.split(' ').next().unwrap_or_default();
    for wanted in [
        &*format!("\"runwasm.source.digest\":\"sha256:{digest}\""),
        &format!("\"runwasm.version\":\"{}\"", env!("CARGO_PKG_VERSION")),
        "\"module.wasm.image/variant\":\"compat\"",
        "\"Entrypoint\":[\"/probe.wasm\"]",
        "\"Env\":[\"A=1\"]",
        "\"architecture\":\"wasm\"",
        "\"os\":\"wasi\"",
        "\"org.opencontainers.image.ref.name\":\"localhost/probe:latest\"",
    ] {
        assert!(text.contains(wanted), "{wanted}");
    }
    Ok(())
}

fn warns_of_what_will_not_run() -> Result {
    let archive = suite::new_dir("warned")?.join("image.tar");
    let cmd = runtime::cmd().arg("image").arg(source("mystery.wat"));
    let output = cmd.args(["--tag", "a", "--output"]).arg(&archive).run()?.success()?;
    let warning = "mystery.wat will not run: nothing here provides function of mystery";
    assert!(output.stderr.contains(warning), "{}", output.stderr);
    assert!(archive.exists());
    Ok(())
}

fn options_that_do_not_fit_are_refused() -> Result {
    let dir = suite::new_dir("refused")?;
    let (wasm, archive) = (file_of(PROBE, "probe.wasm")?, dir.join("image.tar"));
    let refused = |file: &Path, arguments: &[&str], what: &str| -> Result {
        let cmd = runtime::cmd().arg("image").arg(file).arg("--output").arg(&archive);
        cmd.args(arguments).run()?.refused(what)?;
        let left: Vec<_> = fs::read_dir(&dir)?.collect::<std::io::Result<_>>()?;
        assert!(left.is_empty(), "{what}: {left:?}");
        Ok(())
    };
    refused(&wasm, &["--tag", "No Name"], "\"No Name\" is no name of an image")?;
    refused(&wasm, &["--tag", "a", "--env", "A"], "--env \"A\": write KEY=VALUE")?;
    refused(&wasm, &["--tag", "a", "--artifact", "--env", "A=1"], "has no environment")?;
    refused(&wasm, &["--tag", "a", "--file", "/nonexistent"], "/nonexistent: No such file")?;
    refused(&wasm, &["--tag", "a", "--file", "/etc:/../x"], "name a path within the image")?;
    refused(&wasm, &["--tag", "a", "--file", "/dev/null:/x"], "neither a file nor a directory")?;
    refused(&wasm, &["--tag", "a", "--file", "/etc/hostname:/probe.wasm"], "two files at /probe")?;
    refused(&wasm, &["--tag", "a", "--artifact", "--file", "/bin/sh"], "/bin/sh is an ELF file")?;
    refused(Path::new("/bin/sh"), &["--tag", "a"], "/bin/sh is an ELF file")?;
    let wasi = image(&[])?;
    let index = ["--tag", "a", "--index-with", &wasi.to_string_lossy()];
    refused(&wasm, &index, "has an image for wasi/wasm already")
}

fn an_index_holds_both() -> Result {
    let linux = built("images/busybox.tar")?;
    let both = inspect_json(&image(&["--index-with", &linux.to_string_lossy()])?)?;
    let images = both["images"].as_array().ok_or("images are a list")?;
    let platforms: Vec<_> = images.iter().map(|image| image["platform"].clone()).collect();
    assert_eq!(platforms, [json!("linux/amd64"), json!("wasi/wasm")]);
    Ok(())
}

/// The commands that docs/images.md shows.
fn docs_images() -> Result {
    docs::run("docs/images.md", "any", "true", &Cmd::new("true"))
}

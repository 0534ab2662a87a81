//! Files: where paths lead in C, Rust and Go, and what may be written.

use std::fs;

use libtest_mimic::Trial;

use super::PROBES;
use crate::harness::bundle::Bundle;
use crate::harness::guests::{Guest, PROBE, PROBE_COMPONENT};
use crate::harness::{Result, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["wasm": paths_with_cwd_root, paths_with_cwd_app, mounts_are_visible,
        readonly_root_refuses_writes, writable_root_accepts_writes, mounts_keep_their_mode,
        root_lists_the_image, links_do_not_leave_the_root]
}

const LANGUAGES: [(Guest, &[&str]); 4] = [
    (Guest::C("paths"), &[]),
    (Guest::Go("paths"), &[]),
    (PROBE, &["cat"]),
    (PROBE_COMPONENT, &["cat"]),
];

/// Runs a program of each language that prints the files named, in an image that has
/// /data/x, /app/x and /app/sub/x, each containing its own path.
fn read_in_each_language(cwd: &str, paths: &[(&str, &str)]) -> Result {
    for (guest, verb) in LANGUAGES {
        let named: Vec<&str> = paths.iter().map(|(path, _)| *path).collect();
        let args = [&["/guest.wasm"], verb, &named].concat();
        let mut bundle = Bundle::wasm(&guest, &args)?.cwd(cwd);
        for file in ["/data/x", "/app/x", "/app/sub/x"] {
            bundle = bundle.file(file, file.as_bytes())?;
        }
        let lines = bundle.run()?.success()?.lines();
        for ((path, content), line) in paths.iter().zip(&lines) {
            let plain = line.replace('"', "");
            assert_eq!(plain, format!("{path}: {content}"), "{guest:?} in {cwd}: {lines:?}");
        }
        assert_eq!(lines.len(), paths.len(), "{guest:?} in {cwd}: {lines:?}");
    }
    Ok(())
}

fn paths_with_cwd_root() -> Result {
    let paths = [("/data/x", "/data/x"), ("data/x", "/data/x"), ("./app/sub/x", "/app/sub/x")];
    read_in_each_language("/", &paths)
}

fn paths_with_cwd_app() -> Result {
    let paths = [
        ("/data/x", "/data/x"),
        ("x", "/app/x"),
        ("sub/x", "/app/sub/x"),
        ("./x", "/app/x"),
        ("/app/x", "/app/x"),
        ("/app/sub/x", "/app/sub/x"),
    ];
    read_in_each_language("/app", &paths)
}

fn mounts_are_visible() -> Result {
    let shared = suite::new_dir("shared")?;
    fs::write(shared.join("file"), "mounted")?;
    for probe in PROBES {
        for cwd in ["/", "/app"] {
            let args = ["/probe.wasm", "cat", "/data/file", "/deep/down/file"];
            let bundle = Bundle::wasm(&probe, &args)?.directory("/app")?.cwd(cwd);
            let bundle = bundle.bind(&shared, "/data", "ro").bind(&shared, "/deep/down", "ro");
            let output = bundle.run()?.success()?;
            let expected = ["/data/file: \"mounted\"", "/deep/down/file: \"mounted\""];
            assert_eq!(output.lines(), expected, "{probe:?} in {cwd}");
        }
    }
    Ok(())
}

fn readonly_root_refuses_writes() -> Result {
    for probe in PROBES {
        let args = ["/probe.wasm", "write", "/new", "/old"];
        let bundle = Bundle::wasm(&probe, &args)?.file("/old", b"untouched")?;
        let root = bundle.rootfs();
        let output = bundle.make("run", &[])?.run()?.success()?;
        for line in output.lines() {
            assert!(line.contains(": error "), "{probe:?}: {line}");
        }
        assert_eq!(fs::read(root.join("old"))?, b"untouched");
        assert!(!root.join("new").exists());
    }
    Ok(())
}

fn writable_root_accepts_writes() -> Result {
    for probe in PROBES {
        for cwd in ["/", "/app"] {
            let args = ["/probe.wasm", "write", "/app/new"];
            let bundle = Bundle::wasm(&probe, &args)?.directory("/app")?.writable().cwd(cwd);
            let output = bundle.make("run", &[])?.run()?.success()?;
            assert_eq!(output.text(), "/app/new: \"written\"\n", "{probe:?} in {cwd}");
            assert_eq!(fs::read(bundle.rootfs().join("app/new"))?, b"written");
        }
    }
    Ok(())
}

fn mounts_keep_their_mode() -> Result {
    for probe in PROBES {
        let (fixed, free) = (suite::new_dir("ro")?, suite::new_dir("rw")?);
        let args = ["/probe.wasm", "write", "/fixed/new", "/free/new", "/scratch/new"];
        let bundle = Bundle::wasm(&probe, &args)?
            .bind(&fixed, "/fixed", "ro")
            .bind(&free, "/free", "rw")
            .mount("tmpfs", "tmpfs", "/scratch", &["mode=777"]);
        let lines = bundle.run()?.success()?.lines();
        assert!(lines[0].starts_with("/fixed/new: error "), "{probe:?}: {lines:?}");
        assert_eq!(lines[1..], ["/free/new: \"written\"", "/scratch/new: \"written\""]);
        assert!(!fixed.join("new").exists());
        assert_eq!(fs::read(free.join("new"))?, b"written");
    }
    Ok(())
}

fn root_lists_the_image() -> Result {
    for probe in PROBES {
        let bundle = Bundle::wasm(&probe, &["/probe.wasm", "ls", "/"])?.file("/data/x", b"x")?;
        let text = bundle.run()?.success()?.text();
        assert!(text.contains("\"data\"") && text.contains("\"probe.wasm\""), "{probe:?}: {text}");
    }
    Ok(())
}

fn links_do_not_leave_the_root() -> Result {
    let outside = suite::new_dir("outside")?;
    fs::write(outside.join("secret"), "password")?;
    let target = outside.join("secret").to_string_lossy().into_owned();
    let up = format!("../../../../../../../..{target}");
    for probe in PROBES {
        let args = ["/probe.wasm", "cat", "/absolute", "/relative", &up, &target];
        let bundle = Bundle::wasm(&probe, &args)?.link("/absolute", &target)?;
        let output = bundle.link("/relative", &up)?.run()?.success()?;
        assert_eq!(output.text().matches(": error ").count(), 4, "{probe:?}: {}", output.text());
    }
    Ok(())
}

//! The images that pods are made of, built from scratch and imported: no registry is asked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::bundle::install_busybox;
use crate::harness::command::Cmd;
use crate::harness::guests::{Guest, PROBE, PROBE_COMPONENT};
use crate::harness::{Result, suite};
use crate::server::ctr;

/// Programs for WASI 0.1 and 0.2, and nothing else.
pub const WASM: &str = "localhost/probe:latest";
/// busybox.
pub const LINUX: &str = "localhost/busybox:latest";

/// Builds all images and imports them into the server.
pub fn import(socket: &Path) -> Result {
    let dir = suite::new_dir("images")?;
    let busybox = suite::repository().join("target/images/busybox.tar");
    if !busybox.exists() {
        return Err("target/images/busybox.tar is missing: run `make images` first".into());
    }
    let pause = build(&dir, "pause", "COPY . /\nENTRYPOINT [\"/pause\"]\n", &pause)?;
    let probe = build(&dir, "probe", "COPY . /\n", &probe)?;
    for archive in [pause, probe, busybox] {
        let import = ctr(socket).args(["image", "import"]).arg(archive);
        import.limit(Duration::from_secs(120)).run()?.success()?;
    }
    Ok(())
}

/// Builds the images of containerd's own suite, imports them, and writes the file that tells
/// the suite their names; answers where that is.
pub fn import_for_suite(socket: &Path) -> Result<PathBuf> {
    let dir = suite::new_dir("suite-images")?;
    let images = [
        ("suite-busybox", "CMD [\"sleep\", \"1000\"]"),
        ("suite-copy-up", "VOLUME [\"/test_dir\", \"C:/weird_test_dir\", \"/:colon_prefixed\"]"),
        ("suite-ownership", "VOLUME /test_dir"),
    ];
    for (name, last) in images {
        let owner = if name == "suite-ownership" { "--chown=65534:65534" } else { "" };
        let recipe = format!("COPY {owner} . /\nENV PATH=/bin\n{last}\n");
        let archive = build(&dir, name, &recipe, &|root| fill_for_suite(name, root))?;
        let import = ctr(socket).args(["image", "import"]).arg(archive);
        import.limit(Duration::from_secs(120)).run()?.success()?;
    }
    let list = dir.join("images.toml");
    let named = |name: &str, image: &str| format!("{name} = \"localhost/{image}:latest\"\n");
    let mut text = named("Pause", "pause") + &named("VolumeCopyUp", "suite-copy-up");
    text += &named("VolumeOwnership", "suite-ownership");
    for name in ["Alpine", "BusyBox", "ResourceConsumer", "Nginx"] {
        text += &named(name, "suite-busybox");
    }
    fs::write(&list, text)?;
    Ok(list)
}

/// What the suite expects to find in its images.
fn fill_for_suite(name: &str, root: &Path) -> Result {
    install_busybox(root)?;
    let stress = "#!/bin/sh\n# Holds 100 MB for half a minute.\n\
        dd if=/dev/zero bs=100M count=1 2>/dev/null | sleep 30\n";
    let users = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n\
        operator:x:37:37:Operator:/var:/bin/false\n";
    let groups = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\n\
        wheel:x:10:root\nwww-data:x:33:\noperator:x:37:\nnogroup:x:65534:\n";
    let mut files = vec![("bin/stress", stress), ("etc/passwd", users), ("etc/group", groups)];
    match name {
        "suite-copy-up" => files.extend([
            ("test_dir/test_file", "test_content\n"),
            ("C:/weird_test_dir/weird_test_file", "test_content\n"),
            (":colon_prefixed/colon_prefixed_file", "test_content\n"),
        ]),
        "suite-ownership" => files.push(("test_dir/file", "")),
        _ => {}
    }
    for (path, text) in files {
        let file = root.join(path);
        fs::create_dir_all(file.parent().ok_or("a file lies in a directory")?)?;
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// An archive of the image `localhost/NAME:latest` from what `fill` puts into a directory.
fn build(dir: &Path, name: &str, recipe: &str, fill: &dyn Fn(&Path) -> Result) -> Result<PathBuf> {
    let (root, file) = (dir.join(name), dir.join(format!("{name}.Containerfile")));
    let archive = dir.join(format!("{name}.tar"));
    fs::create_dir(&root)?;
    fill(&root)?;
    fs::write(&file, format!("FROM scratch\n{recipe}"))?;
    let tag = format!("localhost/{name}");
    let build = buildah(dir).args(["build", "--quiet", "--timestamp", "0", "--tag", &tag]);
    build.arg("--file").arg(&file).arg(&root).run()?.success()?;
    let target = format!("oci-archive:{}:{tag}:latest", archive.display());
    buildah(dir).args(["push", "--quiet", &tag, &target]).run()?.success()?;
    Ok(archive)
}

/// A `buildah` command that keeps its images below `dir`. vfs works on every file system.
pub fn buildah(dir: &Path) -> Cmd {
    let cmd = Cmd::new("buildah").arg("--root").arg(dir.join("storage"));
    let cmd = cmd.arg("--runroot").arg(dir.join("run")).args(["--storage-driver", "vfs"]);
    cmd.limit(Duration::from_secs(120))
}

fn pause(root: &Path) -> Result {
    let source = suite::repository().join("integration/cri/pause.c");
    let compile = Cmd::new("cc").args(["-static", "-O2", "-Wall", "-Werror", "-o"]);
    compile.arg(root.join("pause")).arg(source).run()?.success().map(drop)
}

fn probe(root: &Path) -> Result {
    fs::create_dir(root.join("etc"))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/\napp:x:1000:1000::/home/app:/\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\nextra:x:1234:app\n")?;
    for directory in ["data", "app"] {
        fs::create_dir(root.join(directory))?;
    }
    let guests = [
        ("probe.wasm", PROBE),
        ("app.wasm", PROBE),
        ("component.wasm", PROBE_COMPONENT),
        ("mystery.wasm", Guest::Wat("mystery")),
        ("trap.wasm", Guest::Wat("trap")),
    ];
    for (name, guest) in guests {
        let file = root.join(name);
        fs::write(&file, guest.bytes()?)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

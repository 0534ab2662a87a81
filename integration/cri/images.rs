//! The images that pods are made of, built from scratch and imported: no registry is asked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    for archive in [build(&dir, "pause", &pause)?, build(&dir, "probe", &probe)?, busybox] {
        let import = ctr(socket)?.args(["image", "import"]).arg(archive);
        import.limit(Duration::from_secs(120)).run()?.success()?;
    }
    Ok(())
}

/// An archive of the image `localhost/NAME:latest` with what `fill` puts into its root.
fn build(dir: &Path, name: &str, fill: &dyn Fn(&Path) -> Result) -> Result<PathBuf> {
    let (root, recipe) = (dir.join(name), dir.join(format!("{name}.Containerfile")));
    let archive = dir.join(format!("{name}.tar"));
    fs::create_dir(&root)?;
    fill(&root)?;
    fs::write(&recipe, format!("FROM scratch\nCOPY . /\nENTRYPOINT [\"/{name}\"]\n"))?;
    let tag = format!("localhost/{name}");
    let build = buildah(dir).args(["build", "--quiet", "--timestamp", "0", "--tag", &tag]);
    build.arg("--file").arg(&recipe).arg(&root).run()?.success()?;
    let target = format!("oci-archive:{}:{tag}:latest", archive.display());
    buildah(dir).args(["push", "--quiet", &tag, &target]).run()?.success()?;
    Ok(archive)
}

/// vfs works on every file system.
fn buildah(dir: &Path) -> Cmd {
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

//! A podman of our own: own storage, own state, our runtime.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use super::bundle::Bundle;
use super::command::Cmd;
use super::guests::PROBE;
use super::{Result, audit, runtime, suite};

/// An image with busybox, the probe as /probe.wasm, and /plain, which nobody may execute. It
/// has neither command nor platform.
pub const IMAGE: &str = "localhost/probe";

static STORE: Mutex<Option<PathBuf>> = Mutex::new(None);

/// A podman command. The first one makes the storage and [`IMAGE`].
pub fn podman(args: &[&str]) -> Result<Cmd> {
    let mut store = STORE.lock().map_err(|_| "podman's storage could not be made")?;
    if store.is_none() {
        let dir = suite::new_dir("podman")?;
        fs::write(dir.join("containers.conf"), configuration())?;
        make_image(&dir)?;
        *store = Some(dir);
    }
    Ok(command(store.as_ref().ok_or("podman has no storage")?).args(args))
}

/// Removes all containers and images, if there were any.
pub fn stop() {
    let Ok(mut store) = STORE.lock() else { return };
    if let Some(dir) = store.take() {
        // Nothing to report here: what survives, the audit finds.
        let _ = command(&dir).args(["rm", "--all", "--force", "--time", "0"]).run();
        let _ = command(&dir).args(["rmi", "--all", "--force"]).run();
    }
}

/// The settings of the drop-in that `make install` puts in place, and locks of our own. podman's
/// own limits may be above the machine's, which takes CAP_SYS_RESOURCE.
fn configuration() -> String {
    format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
         [engine]\nlock_type = \"file\"\nruntime_supports_json = [\"crun\", \"runc\", \"runwasm\"]\n\
         [engine.runtimes]\nrunwasm = [\"{}\"]\n",
        runtime::path().display()
    )
}

fn command(dir: &std::path::Path) -> Cmd {
    let mut cmd = Cmd::new("podman").env("CONTAINERS_CONF", dir.join("containers.conf"));
    for (option, value) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
        cmd = cmd.arg(option).arg(dir.join(value));
    }
    cmd.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runwasm"])
        .args(["--events-backend", "file"])
}

fn make_image(dir: &std::path::Path) -> Result {
    let bundle = Bundle::linux(&[])?.file("/probe.wasm", &PROBE.bytes()?)?;
    let tar = dir.join("image.tar");
    let root = bundle.rootfs();
    // The bundles of other trials link to the same busybox, and tar takes a new link for a
    // change of the file that it reads.
    fs::remove_file(root.join("bin/busybox"))?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    fs::write(root.join("plain"), "text")?;
    Cmd::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").run()?.success()?;
    command(dir).arg("import").arg(&tar).arg(IMAGE).run()?.success()?;
    Ok(())
}

/// A container of podman, removed when dropped.
pub struct Pod {
    /// The name, which is also watched by the audit.
    pub name: String,
    id_file: PathBuf,
}

impl Pod {
    /// A name for a container to come.
    pub fn new() -> Result<Self> {
        let id_file = suite::new_dir("cid")?.join("id");
        Ok(Self { name: suite::unique_id(), id_file })
    }

    /// `podman run` of [`IMAGE`] with options before it and the command after it.
    pub fn run(&self, options: &[&str], args: &[&str]) -> Result<Cmd> {
        self.run_image(IMAGE, options, args)
    }

    /// `podman run` of another image. The container has no network unless the options name one.
    pub fn run_image(&self, image: &str, options: &[&str], args: &[&str]) -> Result<Cmd> {
        let network = ["--network", "none"];
        let network = if options.contains(&network[0]) { &[][..] } else { &network };
        let cmd = podman(&["run", "--name", &self.name])?.args(network);
        let cmd = cmd.arg("--cidfile").arg(&self.id_file).args(options);
        Ok(cmd.arg(image).args(args))
    }

    /// Another podman command on this container.
    pub fn cmd(&self, command: &str, options: &[&str]) -> Result<Cmd> {
        Ok(podman(&[command])?.args(options).arg(&self.name))
    }

    /// Removes the container, of which nothing may be left.
    pub fn remove(&self) -> Result {
        let id = fs::read_to_string(&self.id_file)?;
        audit::watch(&id);
        self.cmd("rm", &["--force", "--time", "0"])?.run()?.success()?;
        audit::nothing_left_of(&id)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Ok(id) = fs::read_to_string(&self.id_file) {
            audit::watch(&id);
            // Nothing to report in a destructor: what survives, the audit finds.
            let _ = self.cmd("rm", &["--force", "--ignore", "--time", "0"]).and_then(Cmd::run);
        }
    }
}

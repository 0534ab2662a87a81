//! Containers of a user without privileges, in a user namespace.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::bundle::install_busybox;
use crate::harness::command::Cmd;
use crate::harness::{Result, cgroup, runtime, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["linux": rootless_run, rootless_exec]
}

const USER: u32 = 54_321;

/// A bundle that belongs to the user, with the configuration `spec --rootless` writes.
struct Rootless {
    dir: PathBuf,
    id: String,
}

impl Rootless {
    fn new(script: &str) -> Result<Self> {
        let id = suite::unique_id();
        let dir = suite::new_dir("rootless")?;
        install_busybox(&dir.join("rootfs"))?;
        chown(&dir, Some(USER), Some(USER))?;
        chown(dir.join("rootfs"), Some(USER), Some(USER))?;
        let rootless = Self { dir, id };
        rootless
            .as_user(&["spec", "--rootless", "--bundle"])
            .arg(&rootless.dir)
            .run()?
            .success()?;
        let file = rootless.dir.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        config["process"]["args"] = serde_json::json!(["sh", "-c", script]);
        config["process"]["terminal"] = serde_json::json!(false);
        fs::write(&file, config.to_string())?;
        Ok(rootless)
    }

    /// A command of the runtime as the user, who has no rights and no groups of ours.
    fn as_user(&self, args: &[&str]) -> Cmd {
        let user = format!("--reuid={USER}");
        let group = format!("--regid={USER}");
        let runtime = runtime::cmd().arg("--root").arg(self.dir.join("state")).args(args);
        let options = [&*user, &*group, "--clear-groups", "--no-new-privs", "--"];
        let home = self.dir.to_string_lossy().into_owned();
        runtime.wrapped("setpriv", &options).env("HOME", &home).env("XDG_RUNTIME_DIR", &home)
    }

    fn make(&self, command: &str, options: &[&str]) -> Cmd {
        self.as_user(&[command, "--bundle"]).arg(&self.dir).args(options).arg(&self.id)
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        // Nothing to report in a destructor: what survives, the audit finds.
        let _ = self.as_user(&["delete", "--force", &self.id]).run();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Our runtime needs cgroup v2 for it, and says so elsewhere.
fn is_possible() -> bool {
    !runtime::is_ours() || cgroup::is_v2()
}

fn rootless_run() -> Result {
    let rootless = Rootless::new("id -u; cat /proc/self/uid_map; hostname; exit 6")?;
    if !is_possible() {
        rootless.make("run", &[]).run()?.refused("need cgroup v2")?;
        return Ok(());
    }
    let output = rootless.make("run", &[]).run()?.expect(6)?;
    let words: Vec<String> = output.text().split_whitespace().map(str::to_owned).collect();
    assert_eq!(words[..4], ["0", "0", &*USER.to_string(), "1"]);
    Ok(())
}

fn rootless_exec() -> Result {
    let rootless = Rootless::new("exec sleep 600")?;
    if !is_possible() {
        rootless.make("run", &["--detach"]).run()?.refused("need cgroup v2")?;
        return Ok(());
    }
    rootless.make("run", &["--detach"]).run()?.success()?;
    let exec = rootless.as_user(&["exec", &rootless.id, "sh", "-c", "id -u; exit 4"]).run()?;
    assert_eq!(exec.expect(4)?.text(), "0\n");
    rootless.as_user(&["kill", &rootless.id, "KILL"]).run()?.success()?;
    Ok(())
}

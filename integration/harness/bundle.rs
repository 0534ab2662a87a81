//! Bundles: a root file system and a config.json made from the runtime's own default.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::command::Cmd;
use super::guests::Guest;
use super::{Result, runtime, suite};

/// A bundle in a directory of its own, with the id of the container to be made of it.
pub struct Bundle {
    /// The container's id, also part of the directory's name.
    pub id: String,
    /// What becomes config.json.
    pub config: Value,
    /// Options before the command, which only our runtime has.
    pub options: Vec<String>,
    dir: PathBuf,
}

impl Bundle {
    /// A bundle with an empty root file system.
    pub fn empty(args: &[&str]) -> Result<Self> {
        let id = suite::unique_id();
        let dir = suite::dir().join(&id);
        fs::create_dir_all(dir.join("rootfs"))?;
        let mut config = default_config()?.clone();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(args);
        Ok(Self { id, config, options: Vec::new(), dir })
    }

    /// A bundle with busybox and all its commands.
    pub fn linux(args: &[&str]) -> Result<Self> {
        let bundle = Self::empty(args)?;
        install_busybox(&bundle.rootfs())?;
        Ok(bundle)
    }

    /// A bundle that runs a script in busybox's shell.
    pub fn sh(script: &str) -> Result<Self> {
        Self::linux(&["sh", "-c", script])
    }

    /// A bundle that sleeps until it is killed.
    pub fn sleeper() -> Result<Self> {
        Self::sh("trap 'exit 0' TERM; while :; do sleep 0.1; done")
    }

    /// A bundle with one guest program at the path `args[0]`.
    pub fn wasm(guest: &Guest, args: &[&str]) -> Result<Self> {
        let path = args.first().ok_or("a guest's arguments start with its path")?;
        Self::empty(args)?.file(path, &guest.bytes()?)
    }

    /// Changes the configuration in ways that need no method of their own.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes a setting of the runtime.
    pub fn setting(mut self, setting: &str) -> Self {
        self.options.extend(["--set".to_owned(), setting.to_owned()]);
        self
    }

    /// Replaces the arguments.
    pub fn args(self, args: &[&str]) -> Self {
        self.edit(|config| config["process"]["args"] = json!(args))
    }

    /// Replaces the environment.
    pub fn env(self, env: &[&str]) -> Self {
        self.edit(|config| config["process"]["env"] = json!(env))
    }

    /// Sets the working directory.
    pub fn cwd(self, cwd: &str) -> Self {
        self.edit(|config| config["process"]["cwd"] = json!(cwd))
    }

    /// Sets user and group.
    pub fn user(self, uid: u32, gid: u32) -> Self {
        self.edit(|config| config["process"]["user"] = json!({"uid": uid, "gid": gid}))
    }

    /// Lets the container write to its root.
    pub fn writable(self) -> Self {
        self.edit(|config| config["root"]["readonly"] = json!(false))
    }

    /// Gives the process a terminal.
    pub fn terminal(self) -> Self {
        self.edit(|config| config["process"]["terminal"] = json!(true))
    }

    /// Adds an annotation.
    pub fn annotation(self, key: &str, value: &str) -> Self {
        self.edit(|config| config["annotations"][key] = json!(value))
    }

    /// Adds a mount.
    pub fn mount(self, kind: &str, source: &str, target: &str, options: &[&str]) -> Self {
        let mount =
            json!({"type": kind, "source": source, "destination": target, "options": options});
        self.edit(|config| push(&mut config["mounts"], mount))
    }

    /// Adds a bind mount of a file or directory of the host.
    pub fn bind(self, source: &Path, target: &str, option: &str) -> Self {
        self.mount("bind", &source.to_string_lossy(), target, &["rbind", option])
    }

    /// Adds a hook that runs `script` in a shell.
    pub fn hook(self, kind: &str, script: &str) -> Self {
        self.hook_value(kind, json!({"path": "/bin/sh", "args": ["sh", "-c", script]}))
    }

    /// Adds a hook as config.json has it.
    pub fn hook_value(self, kind: &str, hook: Value) -> Self {
        self.edit(|config| push(&mut config["hooks"][kind], hook))
    }

    /// Adds a limit of a resource.
    pub fn rlimit(self, kind: &str, soft: u64, hard: u64) -> Self {
        let limit = json!({"type": kind, "soft": soft, "hard": hard});
        self.edit(|config| push(&mut config["process"]["rlimits"], limit))
    }

    /// Installs a filter that answers EPERM to some system calls and allows the others.
    pub fn forbid_calls(self, names: &[&str]) -> Self {
        let filter = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
        });
        self.edit(|config| config["linux"]["seccomp"] = filter)
    }

    /// Puts the container into no namespace of a kind of its own: it stays in the host's.
    pub fn without_namespace(self, kind: &str) -> Self {
        self.edit(|config| {
            if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
                all.retain(|namespace| namespace["type"] != kind);
            }
        })
    }

    /// Gives the container one more new namespace.
    pub fn add_namespace(self, kind: &str) -> Self {
        self.edit(|config| push(&mut config["linux"]["namespaces"], json!({"type": kind})))
    }

    /// Puts the container into the namespace of a kind that a file stands for.
    pub fn join_namespace(self, kind: &str, path: &str) -> Self {
        let namespace = json!({"type": kind, "path": path});
        let bundle = self.without_namespace(kind);
        bundle.edit(|config| push(&mut config["linux"]["namespaces"], namespace))
    }

    /// Writes an executable file below the root.
    pub fn file(self, path: &str, bytes: &[u8]) -> Result<Self> {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().ok_or("a file lies in a directory")?)?;
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(self)
    }

    /// Makes a directory below the root.
    pub fn directory(self, path: &str) -> Result<Self> {
        fs::create_dir_all(self.rootfs().join(path.trim_start_matches('/')))?;
        Ok(self)
    }

    /// Makes a symbolic link below the root.
    pub fn link(self, path: &str, target: &str) -> Result<Self> {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().ok_or("a link lies in a directory")?)?;
        symlink(target, path)?;
        Ok(self)
    }

    /// Writes config.json.
    pub fn write(&self) -> Result {
        Ok(fs::write(self.dir.join("config.json"), serde_json::to_vec(&self.config)?)?)
    }

    /// The bundle's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The root file system's directory.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Directory of the container's state: a `--root` that only this container uses.
    pub fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // A mount that is left over makes this fail; the audit names it.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Appends to an array that may not exist yet.
fn push(array: &mut Value, item: Value) {
    match array.as_array_mut() {
        Some(items) => items.push(item),
        None => *array = json!([item]),
    }
}

/// The configuration that `RUNTIME spec` writes.
fn default_config() -> Result<&'static Value> {
    static CONFIG: OnceLock<Value> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config);
    }
    let dir = suite::new_dir("spec")?;
    runtime::cmd().args(["spec", "--bundle"]).arg(&dir).run()?.success()?;
    let config = serde_json::from_slice(&fs::read(dir.join("config.json"))?)?;
    Ok(CONFIG.get_or_init(|| config))
}

/// Installs busybox and a link for each of its commands, which containers find on PATH.
pub fn install_busybox(rootfs: &Path) -> Result {
    let bin = rootfs.join("bin");
    fs::create_dir_all(&bin)?;
    let (shared, commands) = busybox()?;
    fs::hard_link(shared, bin.join("busybox"))?;
    for command in commands {
        symlink("busybox", bin.join(command))?;
    }
    Ok(())
}

/// One copy of busybox that all bundles link to, and the names of its commands.
fn busybox() -> Result<&'static (PathBuf, Vec<String>)> {
    static BUSYBOX: OnceLock<(PathBuf, Vec<String>)> = OnceLock::new();
    if let Some(known) = BUSYBOX.get() {
        return Ok(known);
    }
    let commands = Cmd::new("/bin/busybox").arg("--list").run()?.success()?.lines();
    let commands = commands.into_iter().filter(|name| name != "busybox").collect();
    let shared = suite::new_dir("busybox")?.join("busybox");
    fs::copy("/bin/busybox", &shared)?;
    Ok(BUSYBOX.get_or_init(|| (shared, commands)))
}

//! A containerd with its CRI plugin, set up as docs/kubernetes.md tells users, and apart from
//! that private: directories, socket, pod network, streaming port.
//!
//! `CONTAINERD` names the binary, by default the one on PATH; `ctr` is taken from beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::command::{Cmd, Running};
use crate::harness::{PATIENCE, Result, eventually, runtime, suite};
use crate::images;

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

static PODS: RwLock<()> = RwLock::new(());

/// Held by a pod for as long as it needs the server.
pub enum Presence {
    /// Others use it too.
    WithOthers { _lock: RwLockReadGuard<'static, ()> },
    /// Nobody else does.
    Alone { _lock: RwLockWriteGuard<'static, ()> },
}

impl Presence {
    /// Waits until nobody is alone with the server.
    pub fn with_others() -> Self {
        Self::WithOthers { _lock: PODS.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Waits until nobody uses the server.
    pub fn alone() -> Self {
        Self::Alone { _lock: PODS.write().unwrap_or_else(PoisonError::into_inner) }
    }
}

struct Server {
    dir: PathBuf,
    process: Option<Running>,
}

/// The socket of the server, which is started when it is first asked for.
pub fn socket() -> Result<PathBuf> {
    let mut server = SERVER.lock().map_err(|_| "containerd could not be started")?;
    if server.is_none() {
        *server = Some(Server::start()?);
    }
    let server = server.as_ref().ok_or("containerd does not run")?;
    Ok(server.dir.join("s"))
}

/// A `ctr` command in the namespace of the kubelet.
pub fn ctr(socket: &Path) -> Cmd {
    let cmd = Cmd::new(containerd().with_file_name("ctr")).arg("--address").arg(socket);
    cmd.args(["--namespace", "k8s.io"])
}

/// Ends the server by `signal` and starts it again on the same directories. Only for a pod
/// that is alone.
pub fn restart(signal: Signal) -> Result {
    socket()?;
    let mut server = SERVER.lock().map_err(|_| "containerd could not be started")?;
    let server = server.as_mut().ok_or("containerd does not run")?;
    server.end(signal)?;
    server.process = Some(launch(&server.dir)?);
    Ok(())
}

/// Stops the server, if it was started.
pub fn stop() {
    let Ok(mut server) = SERVER.lock() else { return };
    if let Some(mut server) = server.take() {
        // A server that does not end is killed when dropped; what it leaves, the audit finds.
        let _ = server.end(Signal::SIGTERM);
    }
}

impl Server {
    fn start() -> Result<Self> {
        let dir = suite::new_dir("k8s")?;
        fs::create_dir(dir.join("net.d"))?;
        fs::write(dir.join("net.d/10-pods.conflist"), network(&dir))?;
        fs::write(dir.join("config.toml"), configuration(&dir)?)?;
        let process = launch(&dir)?;
        images::import(&dir.join("s"))?;
        Ok(Self { dir, process: Some(process) })
    }

    fn end(&mut self, signal: Signal) -> Result {
        let Some(process) = self.process.take() else { return Ok(()) };
        process.signal(signal)?;
        process.wait().map(drop)
    }
}

fn launch(dir: &Path) -> Result<Running> {
    // Our shim, and the shim for runc that is of the same release as containerd.
    let mut path = format!("{}:", runtime::shim_dir()?.display());
    if let Some(dir) = containerd().parent().filter(|dir| dir.is_absolute()) {
        path += &format!("{}:", dir.display());
    }
    path += &std::env::var("PATH").unwrap_or_default();
    let cmd = Cmd::new(containerd()).arg("--config").arg(dir.join("config.toml"));
    let mut process = cmd.env("PATH", path).limit(Duration::from_secs(3600)).spawn()?;
    let socket = dir.join("s");
    eventually("containerd's CRI", PATIENCE, || {
        if !process.is_alive()? {
            return Err(format!("containerd ended: {}", process.stderr()?).into());
        }
        let ready = super::client::at(&socket).arg("info").run()?;
        Ok((ready.code == 0 && ready.text().contains("\"NetworkReady\"")).then_some(()))
    })
    .map_err(|failed| {
        format!(
            "{}\n{}",
            failed.message().unwrap_or_default(),
            process.stderr().unwrap_or_default()
        )
    })?;
    Ok(process)
}

fn containerd() -> PathBuf {
    std::env::var_os("CONTAINERD").map_or_else(|| PathBuf::from("containerd"), PathBuf::from)
}

/// Whether it is containerd 2, whose configuration has other names.
pub fn is_version_2() -> Result<bool> {
    let version = Cmd::new(containerd()).arg("--version").run()?.success()?.text();
    let number = version.split_whitespace().nth(2).unwrap_or_default().trim_start_matches('v');
    Ok(number.starts_with("2."))
}

/// Our own part, and after it the file that docs/kubernetes.md shows.
fn configuration(dir: &Path) -> Result<String> {
    let (file, ours) = if is_version_2()? {
        ("containerd-2.toml", include_str!("containerd-2.toml"))
    } else {
        ("containerd-1.toml", include_str!("containerd-1.toml"))
    };
    let users = fs::read_to_string(suite::repository().join("hack/kubernetes").join(file))?;
    Ok(ours.replace("@dir@", &dir.to_string_lossy()).replace("@handler@", &handler()) + &users)
}

/// What pods run on unless they name a handler: `CRI_HANDLER`, to compare with runc, else ours.
pub fn handler() -> String {
    std::env::var("CRI_HANDLER").unwrap_or_else(|_| "wasm".to_owned())
}

/// Every pod gets an address by a link of its own to the host; no bridge, no firewall, so
/// nothing is shared with other networks and nothing is left.
fn network(dir: &Path) -> String {
    // Several runs on one machine: each takes another part of the range.
    let part = std::process::id() % 250;
    let dir = dir.display();
    format!(
        r#"{{"cniVersion": "0.4.0", "name": "pods-{part}", "plugins": [
    {{"type": "ptp", "ipMasq": false, "ipam": {{
        "type": "host-local", "dataDir": "{dir}/addresses",
        "ranges": [[{{"subnet": "10.213.{part}.0/24"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
    {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#
    )
}

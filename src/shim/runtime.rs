//! The OCI runtime, run once for every operation.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::shim::containerd::Image;
use crate::shim::io::Handles;
use crate::shim::options::Options;
use crate::shim::reaper::{Exit, Reaper};

/// The runtime's state lives here, in a directory for each namespace.
pub const ROOT: &str = "/run/containerd/runwasm";

/// The runtime's name, beside the shim or in `PATH`.
const BINARY: &str = "runwasm";

/// The runtime of one container.
pub struct Runtime {
    /// What every call starts with.
    global: Vec<OsString>,
    binary: PathBuf,
    id: String,
    bundle: PathBuf,
    no_pivot: bool,
    no_new_keyring: bool,
    reaper: Arc<Reaper>,
}

/// Which container a [`Runtime`] acts on.
pub struct Subject<'a> {
    /// The containerd namespace.
    pub namespace: &'a str,
    /// The container.
    pub id: &'a str,
    /// Its bundle.
    pub bundle: &'a Path,
    /// Whether the runtime is to log what it does.
    pub debug: bool,
}

/// How a call is to be made, beyond its arguments.
struct Call<'a> {
    arguments: Vec<OsString>,
    log: &'a Path,
    /// The process's own stdio; without it output is captured for the error message.
    handles: Option<Handles>,
    input: Option<&'a [u8]>,
}

impl Runtime {
    /// The runtime for `subject` with the options of its containerd.
    pub fn new(subject: &Subject<'_>, options: &Options, reaper: Arc<Reaper>) -> Self {
        let root = match options.root.as_str() {
            "" => ROOT,
            root => root,
        };
        let root = Path::new(root).join(subject.namespace);
        let mut global: Vec<OsString> =
            vec!["--root".into(), root.into(), "--log-format".into(), "json".into()];
        if options.systemd_cgroup {
            global.push("--systemd-cgroup".into());
        }
        if subject.debug {
            global.push("--debug".into());
        }
        if !options.config_file.is_empty() {
            global.extend(["--config".into(), options.config_file.as_str().into()]);
        }
        for setting in options.settings() {
            global.extend(["--set".into(), setting.into()]);
        }
        Self {
            global,
            binary: binary(&options.binary_name),
            id: subject.id.to_owned(),
            bundle: subject.bundle.to_owned(),
            no_pivot: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            reaper,
        }
    }

    /// Makes the container; its first process waits for [`Runtime::start`]. Returns its pid.
    /// `image` is where its program may be, if its root file system has none.
    pub async fn create(
        &self,
        handles: Option<Handles>,
        console: Option<&Path>,
        image: Option<&Image>,
    ) -> Result<u32> {
        let pid_file = self.bundle.join("init.pid");
        let mut arguments: Vec<OsString> = Vec::new();
        // No other runtime knows these.
        let ours = self.binary.file_name() == Some(BINARY.as_ref());
        if let Some(image) = image.filter(|_| ours) {
            let mut store = OsString::from("--image-store=");
            store.push(&image.store);
            arguments.extend([store, format!("--image-digest={}", image.digest).into()]);
        }
        arguments.extend(["create".into(), "--bundle".into(), self.bundle.clone().into()]);
        arguments.extend(["--pid-file".into(), pid_file.clone().into()]);
        if self.no_pivot {
            arguments.push("--no-pivot".into());
        }
        if self.no_new_keyring {
            arguments.push("--no-new-keyring".into());
        }
        if let Some(console) = console {
            arguments.extend(["--console-socket".into(), console.into()]);
        }
        arguments.push(self.id.as_str().into());
        let log = self.log();
        self.call(Call { arguments, log: &log, handles, input: None }).await?;
        read_pid(&pid_file)
    }

    /// Runs another process in the container. Returns its pid.
    pub async fn exec(
        &self,
        exec_id: &str,
        process: &[u8],
        handles: Option<Handles>,
        console: Option<&Path>,
    ) -> Result<u32> {
        let files = ExecFiles::new(&self.bundle, exec_id, process)?;
        let mut arguments = vec!["exec".into(), "--detach".into(), "--process".into()];
        arguments.push(files.process.clone().into());
        arguments.extend(["--pid-file".into(), files.pid.clone().into()]);
        if let Some(console) = console {
            arguments.extend(["--console-socket".into(), console.into()]);
        }
        arguments.push(self.id.as_str().into());
        raced(self.call(Call { arguments, log: &files.log, handles, input: None }).await)?;
        read_pid(&files.pid)
    }

    /// Lets the container's first process run.
    pub async fn start(&self) -> Result<()> {
        self.verb("start", &[]).await
    }

    /// Sends `signal` to the container's first process, or to all of its processes.
    pub async fn kill(&self, signal: u32, all: bool) -> Result<()> {
        let signal = signal.to_string();
        let options: &[&str] = if all { &["--all"] } else { &[] };
        match self.simple("kill", options, &[&signal]).await {
            Err(error) if says_gone(&error) => Err(Error::not_found("process already finished")),
            result => result.map(drop),
        }
    }

    /// Removes the container, whatever its state. One that is gone is no error.
    ///
    /// Always by force: the shim knows when a container is over, and the runtime may not. One that
    /// ended while it was being frozen counts as paused.
    pub async fn delete(&self) -> Result<()> {
        match self.verb("delete", &["--force"]).await {
            Err(error) if error.to_string().contains("does not exist") => Ok(()),
            result => result,
        }
    }

    /// Freezes the container.
    pub async fn pause(&self) -> Result<()> {
        raced(self.verb("pause", &[]).await)
    }

    /// Thaws the container.
    pub async fn resume(&self) -> Result<()> {
        raced(self.verb("resume", &[]).await)
    }

    /// Changes the container's limits to `resources`, the OCI spec's JSON.
    pub async fn update(&self, resources: &[u8]) -> Result<()> {
        let arguments = ["update", "--resources", "-", &self.id].map(OsString::from).into();
        let log = self.log();
        let call = Call { arguments, log: &log, handles: None, input: Some(resources) };
        raced(self.call(call).await.map(drop))
    }

    /// The pids of the container's processes.
    pub async fn ps(&self) -> Result<Vec<u32>> {
        let output = self.simple("ps", &["--format", "json"], &[]).await?;
        // runc prints null for none.
        let pids: Option<Vec<u32>> = serde_json::from_slice(&output)
            .os(|| "the OCI runtime's list of processes is no JSON array of pids")?;
        Ok(pids.unwrap_or_default())
    }

    async fn verb(&self, verb: &str, options: &[&str]) -> Result<()> {
        self.simple(verb, options, &[]).await.map(drop)
    }

    async fn simple(&self, verb: &str, options: &[&str], rest: &[&str]) -> Result<Vec<u8>> {
        let words = [&[verb], options, &[&self.id], rest].concat();
        let arguments = words.into_iter().map(OsString::from).collect();
        let log = self.log();
        self.call(Call { arguments, log: &log, handles: None, input: None }).await
    }

    fn log(&self) -> PathBuf {
        self.bundle.join("log.json")
    }

    /// Makes a call and returns what it printed. Its failure is told in the runtime's own words.
    async fn call(&self, call: Call<'_>) -> Result<Vec<u8>> {
        let words = call.arguments.iter().map(|word| word.to_string_lossy());
        let verb = words.into_iter().find(|word| !word.starts_with('-')).unwrap_or_default();
        let verb = verb.into_owned();
        let logged_before = std::fs::metadata(call.log).map_or(0, |log| log.len());
        // Captured in memory files: a process that keeps one open delays nobody, and no amount
        // of output fills a pipe that is read too late.
        let stdout = memory_file("stdout")?;
        let stderr = memory_file("stderr")?;
        let mut command = Command::new(&self.binary);
        command.args(&self.global).arg("--log").arg(call.log).args(&call.arguments);
        // A runtime would report to systemd that containerd is ready.
        command.env_remove("NOTIFY_SOCKET");
        match call.handles {
            Some(handles) => {
                command.stdin(handles.stdin).stdout(handles.stdout).stderr(handles.stderr);
            }
            None => {
                let captured = || "capture the OCI runtime's output";
                command.stdin(match call.input {
                    Some(input) => input_file(input)?.into(),
                    None => Stdio::null(),
                });
                command.stdout(stdout.try_clone().os(captured)?);
                command.stderr(stderr.try_clone().os(captured)?);
            }
        }
        let spawned = self.reaper.spawn(&mut command);
        // It holds the write ends of the process's stdio.
        drop(command);
        let exiting = spawned.os(|| {
            format!("run the OCI runtime {:?}: is it beside the shim or in PATH", self.binary)
        })?;
        let exit: Exit = exiting.await.os(|| "wait for the OCI runtime")?;
        if exit.status == 0 {
            return read_all(&stdout);
        }
        let message = last_error(call.log, logged_before)
            .or_else(|| last_line(&read_all(&stderr).ok()?))
            .unwrap_or_else(|| format!("exit status {} and no message", exit.status));
        Err(Error::os(format!("OCI runtime {verb} failed: {message}")))
    }
}

/// The files of one exec, removed when its call is over.
struct ExecFiles {
    process: PathBuf,
    pid: PathBuf,
    log: PathBuf,
}

impl ExecFiles {
    fn new(bundle: &Path, exec_id: &str, process: &[u8]) -> Result<Self> {
        let file = |suffix: &str| bundle.join(format!("exec-{exec_id}{suffix}"));
        let files = Self { process: file(".json"), pid: file(".pid"), log: file(".log.json") };
        // The environment may hold secrets.
        let mut open = OpenOptions::new();
        open.write(true).create(true).truncate(true).mode(0o600);
        let written = open.open(&files.process).and_then(|mut file| file.write_all(process));
        written.os(|| format!("write {}", files.process.display()))?;
        Ok(files)
    }
}

impl Drop for ExecFiles {
    fn drop(&mut self) {
        for path in [&self.process, &self.pid, &self.log] {
            // Not each of them comes into being; the bundle's removal takes what is left.
            drop(std::fs::remove_file(path));
        }
    }
}

/// The runtime to run: as the options name it, else beside the shim, else in `PATH`.
pub fn binary(name: &str) -> PathBuf {
    if !name.is_empty() {
        return name.into();
    }
    let beside = std::env::current_exe().ok().map(|shim| shim.with_file_name(BINARY));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| BINARY.into())
}

/// Whether a failure says, in the words runtimes share, that its object is no more.
fn says_gone(error: &Error) -> bool {
    let said = error.to_string();
    let words = [
        "does not exist",
        "not running",
        "already finished",
        "no such process",
        "stopped container",
    ];
    words.iter().any(|word| said.contains(word))
}

/// The answer to a call that only a running container can take. One can end while it is made.
fn raced<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| match says_gone(&error) {
        true => Error::precondition(error.to_string()),
        false => error,
    })
}

fn read_pid(path: &Path) -> Result<u32> {
    let text = std::fs::read_to_string(path).os(|| format!("read {}", path.display()))?;
    text.trim().parse().os(|| format!("{} holds {text:?}, not a pid", path.display()))
}

fn memory_file(name: &str) -> Result<File> {
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC).os(|| format!("make a file for {name}"));
    Ok(file?.into())
}

fn input_file(input: &[u8]) -> Result<File> {
    let mut file = memory_file("stdin")?;
    file.write_all(input).and_then(|()| file.seek(SeekFrom::Start(0))).os(|| "write stdin")?;
    Ok(file)
}

/// Reads from the start, wherever the writer's offset, which is shared, has got to.
fn read_all(file: &File) -> Result<Vec<u8>> {
    let length = file.metadata().os(|| "read the OCI runtime's output")?.len();
    let mut text = vec![0; length as usize];
    file.read_exact_at(&mut text, 0).os(|| "read the OCI runtime's output")?;
    Ok(text)
}

#[derive(Deserialize)]
struct LogLine {
    level: String,
    msg: String,
}

/// The last error in a log, past `offset`.
fn last_error(log: &Path, offset: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    let lines = text.split(|byte| *byte == b'\n').rev();
    let mut lines = lines.filter_map(|line| serde_json::from_slice::<LogLine>(line).ok());
    lines.find(|line| ["error", "fatal", "panic"].contains(&line.level.as_str())).map(|l| l.msg)
}

fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// Runs the runtime with one argument and returns what it printed, without a Tokio runtime.
pub fn ask(binary: &OsStr, argument: &str) -> Result<Vec<u8>> {
    let output = Command::new(binary)
        .arg(argument)
        .stdin(Stdio::null())
        .output()
        .os(|| format!("run the OCI runtime {binary:?}"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(Error::os(format!(
            "OCI runtime {argument} failed: {}",
            last_line(&output.stderr).unwrap_or_else(|| output.status.to_string())
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_message_of_a_call() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log.json");
        let old = "{\"level\":\"error\",\"msg\":\"old\"}\n";
        std::fs::write(&log, old).unwrap();
        assert_eq!(last_error(&log, old.len() as u64), None);
        std::fs::write(
            &log,
            format!(
                "{old}{}\n{}\nnot json\n",
                r#"{"level":"error","msg":"new","time":"t"}"#,
                r#"{"level":"warning","msg":"later"}"#
            ),
        )
        .unwrap();
        assert_eq!(last_error(&log, old.len() as u64).unwrap(), "new");
        assert_eq!(last_error(&dir.path().join("none"), 0), None);
        assert_eq!(last_line(b"first\n last \n\n").unwrap(), "last");
        assert_eq!(last_line(b" \n"), None);
    }

    #[test]
    fn what_is_gone_is_recognised() {
        for said in ["container not running", "container does not exist", "no such process"] {
            assert!(says_gone(&Error::os(said)));
        }
        assert!(!says_gone(&Error::os("permission denied")));
    }
}

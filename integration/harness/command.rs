//! Commands with a time limit: a hang is a failure with a message, never a hang of the suite.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{PATIENCE, Result, eventually, orphans};

/// The package that brings each tool, for the message when it is missing.
const PACKAGES: &[(&str, &str)] = &[
    ("busybox", "busybox-static"),
    ("clang", "clang lld wasi-libc libclang-rt-14-dev-wasm32"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("curl", "curl"),
    ("env", "coreutils"),
    ("podman", "podman conmon"),
    ("runc", "runc"),
    ("script", "bsdutils"),
    ("setpriv", "util-linux"),
    ("sh", "dash"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
];

/// A command to be run: arguments, environment, standard input, time limit.
pub struct Cmd {
    command: Command,
    limit: Duration,
    input: Option<Vec<u8>>,
}

impl Cmd {
    /// A command without arguments, with nothing on standard input.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).process_group(0);
        Self { command, limit: Duration::from_secs(60), input: None }
    }

    /// The same command, started by a shell after `setup`: redirections there become
    /// descriptors the command inherits, `trap ''` becomes an ignored signal.
    pub fn after_shell(self, setup: &str) -> Self {
        self.wrapped("sh", &["-c", &format!("{setup}; exec \"$@\""), "sh"])
    }

    /// The same command as arguments of `program` after `arguments`.
    pub fn wrapped(self, program: &str, arguments: &[&str]) -> Self {
        let outer = Cmd::new(program).args(arguments).arg(self.command.get_program());
        let outer = outer.args(self.command.get_args());
        outer.like(self)
    }

    /// Takes over all of another command but its words.
    fn like(mut self, inner: Self) -> Self {
        let set = inner.command.get_envs().filter_map(|(key, value)| Some((key, value?)));
        self.command.envs(set);
        Self { command: self.command, ..inner }
    }

    /// The same command in a terminal of its own, as a person's shell starts it.
    pub fn in_terminal(self) -> Self {
        Cmd::new("script").args(["-qefc", &self.line(), "/dev/null"]).like(self)
    }

    /// The same command with its standard output as input of a shell script, whose output
    /// is what counts. The exit code is the script's.
    pub fn piped_into(self, script: &str) -> Self {
        self.wrapped("sh", &["-c", &format!("\"$@\" | {{ {script}; }}"), "sh"])
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    /// One variable of the command's environment.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// The command's words as a shell takes them.
    pub fn line(&self) -> String {
        let quote = |word: &OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words.map(quote).collect::<Vec<_>>().join(" ")
    }

    /// The same command with the variables of another.
    pub fn like_variables(mut self, other: &Self) -> Self {
        let set = other.command.get_envs().filter_map(|(key, value)| Some((key, value?)));
        self.command.envs(set);
        self
    }

    /// A variable that [`Cmd::env`] has set.
    pub fn variable(&self, key: &str) -> Option<String> {
        let mut set = self.command.get_envs();
        let (_, value) = set.find(|(name, _)| *name == key)?;
        Some(value?.to_string_lossy().into_owned())
    }

    /// Where the command runs.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What the command reads before end of file.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// A standard input that stays open and silent until the command ends.
    pub fn open_input(mut self) -> Self {
        self.command.stdin(Stdio::piped());
        self
    }

    /// How long the command may take.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts the command. Its output goes to files: a container that outlives the command
    /// may keep them open without making anyone wait.
    pub fn spawn(mut self) -> Result<Running> {
        let program = self.command.get_program().to_string_lossy().into_owned();
        let line = format!("{:?}", self.command);
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        self.command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        if self.input.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let spawned = orphans::not_while(|| self.command.spawn());
        let mut child = spawned.map_err(|error| explain(&program, &error))?;
        let mut stdin = child.stdin.take();
        if let Some(bytes) = self.input.take() {
            // In a thread: more than a pipe holds must not block the trial. A command that
            // does not read all of it is no failure of the writer.
            let pipe = stdin.take();
            std::thread::spawn(move || pipe.map(|mut pipe| pipe.write_all(&bytes)));
        }
        Ok(Running { child, stdin, stdout, stderr, line, deadline: Instant::now() + self.limit })
    }

    /// Runs the command to its end.
    pub fn run(self) -> Result<Output> {
        self.spawn()?.wait()
    }
}

fn explain(program: &str, error: &std::io::Error) -> String {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    match PACKAGES.iter().find(|(tool, _)| *tool == name) {
        Some((_, packages)) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("{program} is missing; install it: apt-get install -y {packages}")
        }
        _ => format!("cannot start {program}: {error}"),
    }
}

/// A command that runs; dropped, it is killed with its process group.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: File,
    stderr: File,
    line: String,
    deadline: Instant,
}

impl Running {
    /// The process id of the command.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal to the command alone.
    pub fn signal(&self, signal: Signal) -> Result {
        Ok(kill(Pid::from_raw(self.pid()), signal)?)
    }

    /// Writes to the standard input left open by [`Cmd::open_input`].
    pub fn write(&mut self, bytes: &[u8]) -> Result {
        let stdin = self.stdin.as_mut().ok_or("the command was started without open input")?;
        Ok(stdin.write_all(bytes)?)
    }

    /// Ends the standard input left open by [`Cmd::open_input`].
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Whether the command has not ended yet.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(orphans::collect(&mut self.child)?.is_none())
    }

    /// Standard output so far.
    pub fn stdout(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&read_all(&self.stdout)?).into_owned())
    }

    /// Standard error so far.
    pub fn stderr(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&read_all(&self.stderr)?).into_owned())
    }

    /// Waits until standard output contains `text`.
    pub fn wait_for(&mut self, text: &str) -> Result {
        eventually(&format!("{text:?} from {}", self.line), PATIENCE, || {
            if self.stdout()?.contains(text) {
                return Ok(Some(()));
            }
            match orphans::collect(&mut self.child)? {
                Some(status) if !self.stdout()?.contains(text) => {
                    let stderr = self.stderr()?;
                    Err(format!("{} ended with {status} first: {stderr}", self.line).into())
                }
                _ => Ok(None),
            }
        })
    }

    /// Waits for the command's end.
    pub fn wait(mut self) -> Result<Output> {
        self.wait_for_exit()
    }

    /// Waits for the command's end and keeps its output files, which a container may share.
    pub fn wait_for_exit(&mut self) -> Result<Output> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = orphans::collect(&mut self.child)? {
                let code = status.code().or(status.signal().map(|signal| 128 + signal));
                return Ok(Output {
                    code: code.unwrap_or(-1),
                    stdout: read_all(&self.stdout)?,
                    stderr: self.stderr()?,
                    line: self.line.clone(),
                });
            }
            if Instant::now() > self.deadline {
                let (stdout, stderr) = (self.stdout()?, self.stderr()?);
                return Err(format!("hangs: {}\n{stdout}\n{stderr}", self.line).into());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to report in a destructor: what survives, the audit finds.
        while let Ok(None) = orphans::collect(&mut self.child) {
            let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Reads without moving the offset, which the writer shares.
fn read_all(file: &File) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// What a command left: exit code (128+n for a signal), output, and its line for messages.
#[derive(Debug)]
pub struct Output {
    /// The exit code.
    pub code: i32,
    /// Standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Standard error as text.
    pub stderr: String,
    line: String,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as lines.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// The output, if the exit code is `code`; else a failure that shows all there is.
    pub fn expect(self, code: i32) -> Result<Self> {
        if self.code == code { Ok(self) } else { Err(self.describe(&format!("code {code}"))) }
    }

    /// The output, if the exit code is 0.
    pub fn success(self) -> Result<Self> {
        self.expect(0)
    }

    /// The output, if the command failed and its standard error contains `text`.
    pub fn refused(self, text: &str) -> Result<Self> {
        if self.code != 0 && self.stderr.contains(text) {
            return Ok(self);
        }
        Err(self.describe(&format!("a failure that says {text:?}")))
    }

    fn describe(&self, wanted: &str) -> libtest_mimic::Failed {
        let Self { code, stderr, line, .. } = self;
        format!("expected {wanted}, got code {code}: {line}\n{}\n{stderr}", self.text()).into()
    }
}

//! A process's stdio: containerd's FIFOs, files and log drivers, handed to the process as they
//! are.
//!
//! Nothing is copied. The process gets the FIFOs themselves, in blocking mode, and the shim keeps
//! the ends that make this safe: a reader on each output, so that a client that goes away (or a
//! containerd that restarts) blocks the process at a full FIFO instead of killing it with
//! SIGPIPE, and a writer on the input, so that the process sees the end of its input when
//! `CloseIO` says so and not when a client disconnects.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process;
use std::sync::Arc;

use crate::error::{Context, Error, Result};
use crate::shim::driver::Logger;
use crate::shim::fifo::{Output, hold, is_fifo};
use crate::shim::options::Options;
use crate::shim::reaper::Reaper;
use crate::shim::stdio::{Stdio, Target};

/// What opening stdio needs to know about the process that it is for.
pub struct Opener<'a> {
    /// The options of its container.
    pub options: &'a Options,
    /// Starts log drivers.
    pub reaper: &'a Arc<Reaper>,
    /// The containerd namespace, which log drivers are told.
    pub namespace: &'a str,
    /// The container's id, or the exec id, which log drivers are told.
    pub id: &'a str,
}

/// The descriptors a runtime call gets, and through it the process.
#[derive(Debug)]
pub struct Handles {
    /// Standard input.
    pub stdin: process::Stdio,
    /// Standard output.
    pub stdout: process::Stdio,
    /// Standard error.
    pub stderr: process::Stdio,
}

/// The ends of a process's stdio that the shim keeps.
#[derive(Default)]
pub struct Ends {
    stdin: Option<File>,
    outputs: Vec<Output>,
    logger: Option<Logger>,
}

impl Ends {
    /// Opens what `stdio` asks for. No open waits for a reader or writer; a log driver is waited
    /// for until it is ready.
    pub async fn open(stdio: &Stdio, opener: &Opener<'_>) -> Result<(Self, Handles)> {
        let mut ends = Self::default();
        let (stdin, hold) = open_input(&stdio.stdin)?;
        ends.stdin = hold;
        let mut outputs = [process::Stdio::null(), process::Stdio::null()];
        // As with runc's shim, a log driver for standard output has standard error, too.
        if let Target::Driver(driver) = Target::parse(&stdio.stdout)? {
            let (logger, writers) = Logger::start(&driver, opener).await?;
            ends.logger = Some(logger);
            outputs = writers.map(process::Stdio::from);
        } else {
            for (handle, uri) in outputs.iter_mut().zip([&stdio.stdout, &stdio.stderr]) {
                if let Some((writer, output)) = open_output(uri, opener.options)? {
                    *handle = writer.into();
                    ends.outputs.extend(output);
                }
            }
        }
        let [stdout, stderr] = outputs;
        Ok((ends, Handles { stdin, stdout, stderr }))
    }

    /// Lets the process see the end of its input, once what was written is read.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The process has ended: so does its output, for a reader that is there or yet to come.
    /// `quiet` says that the shim is starting no process.
    pub fn finish(&mut self, quiet: bool) {
        self.stdin = None;
        for output in &mut self.outputs {
            output.finish(quiet);
        }
    }

    /// The log driver, whose end is to be waited for.
    pub fn take_logger(&mut self) -> Option<Logger> {
        self.logger.take()
    }
}

/// Opens a stream a process reads. The descriptor is in blocking mode: the process shares it.
fn open_input(uri: &str) -> Result<(process::Stdio, Option<File>)> {
    let path = match Target::parse(uri)? {
        Target::Null => return Ok((process::Stdio::null(), None)),
        Target::Path(path) => path,
        Target::Append(_) | Target::Driver(_) => {
            return Err(Error::invalid(format!("stdin {uri:?} must be a FIFO or a path")));
        }
    };
    if !is_fifo(&path)? {
        let file = File::open(&path).os(|| format!("open stdin {}", path.display()))?;
        return Ok((file.into(), None));
    }
    // Linux opens a FIFO read-write without waiting; with that in place nothing below waits.
    let bridge = hold(&path, OpenOptions::new().read(true).write(true))?;
    let reader = File::open(&path).os(|| format!("open stdin {}", path.display()))?;
    let writer = hold(&path, OpenOptions::new().write(true))?;
    drop(bridge);
    Ok((reader.into(), Some(writer)))
}

/// Opens a stream a process writes.
fn open_output(uri: &str, options: &Options) -> Result<Option<(File, Option<Output>)>> {
    let path = match Target::parse(uri)? {
        Target::Null => return Ok(None),
        Target::Append(path) => return Ok(Some((open_file(&path, true)?, None))),
        Target::Path(path) if !is_fifo(&path)? => {
            return Ok(Some((open_file(&path, false)?, None)));
        }
        Target::Path(path) => path,
        Target::Driver(_) => {
            return Err(Error::invalid(format!(
                "stderr {uri:?}: a log driver for standard error must be the one for standard \
                 output, too"
            )));
        }
    };
    let output = Output::hold(&path, options)?;
    let writer = OpenOptions::new().write(true).open(&path);
    Ok(Some((writer.os(|| format!("open {} for output", path.display()))?, Some(output))))
}

/// Opens a file to append to; `create` makes it, and its directory, if need be.
pub fn open_file(path: &Path, create: bool) -> Result<File> {
    if create && let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).os(|| format!("create {}", parent.display()))?;
    }
    let file = OpenOptions::new().append(true).create(create).mode(0o644).open(path);
    file.os(|| format!("open {} for output", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    fn fifo(dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn open(stdio: &Stdio) -> Result<(Ends, Handles)> {
        let (options, reaper) = (Options::default(), Arc::default());
        let opener = Opener { options: &options, reaper: &reaper, namespace: "ns", id: "me" };
        Ends::open(stdio, &opener).await
    }

    #[tokio::test]
    async fn a_reader_that_comes_after_the_exit_gets_everything() {
        let dir = tempfile::tempdir().unwrap();
        let stdio = Stdio { stdout: fifo(dir.path(), "out"), ..Default::default() };
        let (mut ends, handles) = open(&stdio).await.unwrap();
        let status = Command::new("echo").arg("late").stdout(handles.stdout).status().unwrap();
        assert!(status.success());
        ends.finish(false);
        let path = stdio.stdout.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path));
        let text = tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
        assert_eq!(text.unwrap(), "late\n");
    }

    #[tokio::test]
    async fn a_process_outlives_its_reader() {
        let dir = tempfile::tempdir().unwrap();
        let stdio = Stdio { stdout: fifo(dir.path(), "out"), ..Default::default() };
        let (_ends, handles) = open(&stdio).await.unwrap();
        drop(hold(Path::new(&stdio.stdout), OpenOptions::new().read(true)).unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", "echo a && echo b"]).stdout(handles.stdout);
        assert!(command.status().unwrap().success());
    }

    #[tokio::test]
    async fn input_ends_with_close_and_not_with_a_client() {
        let dir = tempfile::tempdir().unwrap();
        let stdio = Stdio {
            stdin: fifo(dir.path(), "in"),
            stdout: fifo(dir.path(), "out"),
            ..Default::default()
        };
        let (mut ends, handles) = open(&stdio).await.unwrap();
        let path = stdio.stdout.clone();
        let output = tokio::task::spawn_blocking(move || std::fs::read_to_string(path));
        let mut command = Command::new("cat");
        let mut cat = command.stdin(handles.stdin).stdout(handles.stdout).spawn().unwrap();
        drop(command);
        for text in ["one ", "two"] {
            OpenOptions::new()
                .write(true)
                .open(&stdio.stdin)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
        assert!(cat.try_wait().unwrap().is_none(), "cat ended with its client");
        ends.close_stdin();
        assert!(cat.wait().unwrap().success());
        ends.finish(false);
        assert_eq!(output.await.unwrap().unwrap(), "one two");
    }

    #[tokio::test]
    async fn a_missing_fifo_is_named() {
        let stdio = Stdio { stdout: "/nonexistent/fifo".into(), ..Default::default() };
        let error = open(&stdio).await.err().unwrap();
        assert!(error.to_string().contains("/nonexistent/fifo"), "{error}");
    }
}

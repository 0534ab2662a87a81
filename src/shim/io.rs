//! A process's stdio: containerd's FIFOs, handed to the process as they are.
//!
//! Nothing is copied. The process gets the FIFOs themselves, in blocking mode, and the shim keeps
//! the ends that make this safe: a reader on each output, so that a client that goes away (or a
//! containerd that restarts) blocks the process at a full FIFO instead of killing it with
//! SIGPIPE, and a writer on the input, so that the process sees the end of its input when
//! `CloseIO` says so and not when a client disconnects.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use log::debug;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use tokio::task::AbortHandle;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::shim::options::Options;

/// A reader counts when it is seen this often, at this distance.
const SIGHTINGS: u32 = 3;
const SIGHTING: Duration = Duration::from_millis(5);

/// What containerd asked for: a URI for each stream, empty when it is not wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Where input comes from.
    pub stdin: String,
    /// Where output goes.
    pub stdout: String,
    /// Where error output goes. Unused with a terminal.
    pub stderr: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
}

/// Where a stream leads.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere.
    Null,
    /// A FIFO or file that exists.
    Path(PathBuf),
    /// A file to append to, made if need be.
    Append(PathBuf),
}

impl Target {
    /// Reads a stdio URI: a path, `fifo://` or `file://`.
    pub fn parse(uri: &str) -> Result<Self> {
        if uri.is_empty() {
            return Ok(Self::Null);
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            return match uri.starts_with('/') {
                true => Ok(Self::Path(uri.into())),
                false => Err(Error::invalid(format!("stdio {uri:?} is not an absolute path"))),
            };
        };
        let path = PathBuf::from(decode(rest.split('?').next().unwrap_or_default(), uri)?);
        if !path.is_absolute() {
            return Err(Error::invalid(format!("stdio {uri:?} has no absolute path")));
        }
        match scheme {
            "fifo" => Ok(Self::Path(path)),
            "file" => Ok(Self::Append(path)),
            "binary" => Err(Error::new(
                ErrorKind::Unsupported,
                format!("stdio {uri:?}: binary log drivers are not supported, use file://"),
            )),
            _ => Err(Error::invalid(format!(
                "stdio {uri:?}: unknown scheme {scheme:?}, expected a path, fifo:// or file://"
            ))),
        }
    }
}

/// Undoes the percent-encoding of a URI's path.
fn decode(path: &str, uri: &str) -> Result<String> {
    let malformed = || Error::invalid(format!("stdio {uri:?} is not a valid URI"));
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).ok_or_else(malformed)?;
        bytes.push(u8::from_str_radix(code, 16).map_err(|_| malformed())?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| malformed())
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
#[derive(Debug, Default)]
pub struct Ends {
    stdin: Option<File>,
    outputs: Vec<Output>,
}

impl Ends {
    /// Opens what `stdio` asks for. No open waits for a peer.
    pub fn open(stdio: &Stdio, options: &Options) -> Result<(Self, Handles)> {
        let mut ends = Self::default();
        let (stdin, hold) = open_input(&stdio.stdin)?;
        ends.stdin = hold;
        let mut outputs = [process::Stdio::null(), process::Stdio::null()];
        for (handle, uri) in outputs.iter_mut().zip([&stdio.stdout, &stdio.stderr]) {
            if let Some((writer, output)) = open_output(uri, options)? {
                *handle = writer.into();
                ends.outputs.extend(output);
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
}

/// Opens a stream a process reads. The descriptor is in blocking mode: the process shares it.
fn open_input(uri: &str) -> Result<(process::Stdio, Option<File>)> {
    let path = match Target::parse(uri)? {
        Target::Null => return Ok((process::Stdio::null(), None)),
        Target::Path(path) => path,
        Target::Append(_) => {
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
    let (path, create) = match Target::parse(uri)? {
        Target::Null => return Ok(None),
        Target::Path(path) => (path, false),
        Target::Append(path) => (path, true),
    };
    if create && let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).os(|| format!("create {}", parent.display()))?;
    }
    if create || !is_fifo(&path)? {
        let file = OpenOptions::new().append(true).create(create).mode(0o644).open(&path);
        return Ok(Some((file.os(|| format!("open {} for output", path.display()))?, None)));
    }
    let output = Output::hold(&path, options)?;
    let writer = OpenOptions::new().write(true).open(&path);
    Ok(Some((writer.os(|| format!("open {} for output", path.display()))?, Some(output))))
}

fn is_fifo(path: &Path) -> Result<bool> {
    let metadata = std::fs::metadata(path)
        .context(ErrorKind::InvalidArgument, || format!("stdio {}", path.display()))?;
    Ok(metadata.file_type().is_fifo())
}

/// Opens a FIFO without waiting for a peer.
pub(super) fn hold(path: &Path, options: &mut OpenOptions) -> Result<File> {
    options
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .os(|| format!("open FIFO {}", path.display()))
}

/// The shim's reader on an output FIFO, which it never reads.
#[derive(Debug)]
pub struct Output {
    reader: Option<File>,
    lingering: Option<AbortHandle>,
}

impl Output {
    /// Holds the FIFO at `path` open, so that its writers need no other reader.
    pub fn hold(path: &Path, options: &Options) -> Result<Self> {
        let reader = hold(path, OpenOptions::new().read(true))?;
        if (options.io_uid, options.io_gid) != (0, 0) {
            std::os::unix::fs::fchown(&reader, Some(options.io_uid), Some(options.io_gid))
                .os(|| format!("change the owner of {}", path.display()))?;
        }
        Ok(Self { reader: Some(reader), lingering: None })
    }

    /// Ends the output: a reader sees the end of file after the last byte.
    ///
    /// A client can be late: it opens its end after a fast process is gone. What lies in the FIFO
    /// lives as long as someone holds it, and an open for reading waits for a writer, so the shim
    /// stays on as writer until a reader has come or the process is deleted.
    ///
    /// With `quiet`, no child of the shim is between fork and exec, where it holds all the shim
    /// holds and looks like a reader.
    fn finish(&mut self, quiet: bool) {
        if let Some(writer) = self.release()
            && !(quiet && has_reader(&writer))
        {
            self.lingering = Some(tokio::spawn(linger(writer)).abort_handle());
        }
    }

    /// Ends the output and waits until a reader has it.
    pub async fn finished(mut self) {
        if let Some(writer) = self.release() {
            linger(writer).await;
        }
    }

    /// Becomes a writer instead of a reader.
    fn release(&mut self) -> Option<File> {
        let reader = self.reader.take()?;
        let same = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        hold(&same, OpenOptions::new().write(true))
            .inspect_err(|error| debug!("output is dropped if nobody reads it: {error}"))
            .ok()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(lingering) = &self.lingering {
            lingering.abort();
        }
    }
}

/// Holds the FIFO until a reader is there, and not just a child on its way to exec.
async fn linger(writer: File) {
    let mut pause = SIGHTING;
    let mut seen = 0;
    loop {
        seen = if has_reader(&writer) { seen + 1 } else { 0 };
        if seen == SIGHTINGS {
            return;
        }
        if seen == 0 {
            pause = (pause * 2).min(Duration::from_millis(500));
        }
        tokio::time::sleep(if seen > 0 { SIGHTING } else { pause }).await;
    }
}

/// Whether anybody has the FIFO open for reading.
fn has_reader(writer: &File) -> bool {
    let mut fds = [PollFd::new(writer, PollFlags::OUT)];
    let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    polled.is_ok() && !fds[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;

    fn fifo(dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn reads_stdio_uris() {
        assert_eq!(Target::parse("").unwrap(), Target::Null);
        assert_eq!(Target::parse("/a b").unwrap(), Target::Path("/a b".into()));
        assert_eq!(Target::parse("/a%20b").unwrap(), Target::Path("/a%20b".into()));
        assert_eq!(Target::parse("fifo:///x").unwrap(), Target::Path("/x".into()));
        assert_eq!(Target::parse("file:///a%20b?x=y").unwrap(), Target::Append("/a b".into()));
        assert_eq!(Target::parse("file:///%C3%A9").unwrap(), Target::Append("/é".into()));
        for bad in ["x", "file://x", "http:///x", "file:///%zz", "file:///%2", "file:///%ff"] {
            assert_eq!(Target::parse(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
        let error = Target::parse("binary:///bin/logger?a=b").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("file://"), "{error}");
    }

    #[tokio::test]
    async fn a_reader_that_comes_after_the_exit_gets_everything() {
        let dir = tempfile::tempdir().unwrap();
        let stdio = Stdio { stdout: fifo(dir.path(), "out"), ..Default::default() };
        let (mut ends, handles) = Ends::open(&stdio, &Options::default()).unwrap();
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
        let (_ends, handles) = Ends::open(&stdio, &Options::default()).unwrap();
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
        let (mut ends, handles) = Ends::open(&stdio, &Options::default()).unwrap();
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

    #[test]
    fn a_missing_fifo_is_named() {
        let stdio = Stdio { stdout: "/nonexistent/fifo".into(), ..Default::default() };
        let error = Ends::open(&stdio, &Options::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/fifo"), "{error}");
    }
}

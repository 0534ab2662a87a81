//! Why libcontainer failed, in its own first words.
//!
//! Its processes hand only the outermost error to their parent ("failed to prepare rootfs"); the
//! cause is in what they log. So what they log as errors is also collected in a memory file that
//! all of them share, and the first line becomes part of the sentence a person reads.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use libcontainer::process::container_main_process::ProcessError;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::Error;

static NOTES: OnceLock<Option<File>> = OnceLock::new();

/// What libcontainer wraps around an error on its way through its processes.
const WRAPPINGS: [&str; 6] = [
    "exec process failed with error ",
    "intermediate process error ",
    "error in executing process : ",
    "invalid executable: ",
    "failed hooks ",
    "cgroup error: ",
];

/// Whether records of this log target are libcontainer's.
pub fn is_library(target: &str) -> bool {
    target.starts_with("libcontainer") || target.starts_with("libcgroups")
}

/// Starts collecting. Comes before libcontainer makes its processes.
pub fn start() {
    // Without it, errors are merely shorter.
    NOTES.get_or_init(|| memfd_create(c"notes", MFdFlags::MFD_CLOEXEC).ok().map(File::from));
}

/// Collects an error that the library logged.
pub fn note(message: &str) {
    if let Some(Some(mut notes)) = NOTES.get().map(Option::as_ref) {
        // The file's offset is shared by the processes, so lines follow each other.
        let _ = writeln!(notes, "{}", message.replace('\n', " "));
    }
}

/// The sentence for a failure of libcontainer's processes.
pub fn explain(error: &ProcessError) -> Error {
    let text = error.to_string();
    let mut reason = text.as_str();
    while let Some(inner) = WRAPPINGS.iter().find_map(|wrapping| reason.strip_prefix(wrapping)) {
        reason = inner;
    }
    // A specific reason speaks for itself; "failed to ..." needs what was noted on the way.
    match notes() {
        Some(notes) if reason.starts_with("failed") => Error::os(notes),
        _ => Error::os(reason),
    }
}

/// What was noted, without the lines that only say that an error is passed on.
fn notes() -> Option<String> {
    let notes = NOTES.get()?.as_ref()?;
    let mut buffer = [0; 4096];
    let length = notes.read_at(&mut buffer, 0).ok()?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    let passed_on = ["failed to initialize container", "failed to wait for init", "failed sending"];
    let lines = text.lines().filter(|line| !passed_on.iter().any(|start| line.starts_with(start)));
    let notes = lines.collect::<Vec<_>>().join(": ");
    (!notes.is_empty()).then_some(notes)
}

//! What `ps` shows for a process that never calls execve.

use std::fs;

/// Where the kernel placed this process's argument and environment strings. Read it before /proc
/// is gone.
#[derive(Debug, Clone, Copy)]
pub struct StringArea {
    arguments: (usize, usize),
    environment: (usize, usize),
}

impl StringArea {
    /// Finds the area in /proc/self/stat (proc(5), fields 48 to 51). `None` where the kernel hides
    /// it.
    pub fn locate() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The command name may hold spaces; the fields after it are plain numbers, from field 3.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let mut next = |skip| fields.nth(skip)?.parse::<usize>().ok();
        let mut range = |skip| {
            let (start, end) = (next(skip)?, next(0)?);
            (start != 0 && end >= start).then_some((start, end - start))
        };
        Some(Self { arguments: range(45)?, environment: range(0)? })
    }

    /// Overwrites the arguments with `title`, cut to the space there is, and sets the short name
    /// to its last path component, as execve would. The runtime's own arguments are the host's
    /// business and vanish.
    pub fn set_title(self, title: &str) {
        let (start, length) = self.arguments;
        let bytes = title.as_bytes();
        let used = bytes.len().min(length.saturating_sub(1));
        // SAFETY: the kernel reports these addresses as the argument strings of this process:
        // writable stack memory that lives as long as the process. `used <= length`, and nothing
        // reads the strings concurrently: the standard library copies them on use.
        unsafe {
            let area = start as *mut u8;
            std::ptr::write_bytes(area, 0, length);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), area, used);
        }
        set_name(title.split(' ').next().unwrap_or(title));
    }

    /// Empties the environment, which /proc/PID/environ shows: it is the host's, and holds what
    /// engines pass to their runtimes.
    pub fn clear_environment(self) {
        let (start, length) = self.environment;
        // SAFETY: as in `set_title`. The standard library's view of the environment becomes a
        // list of empty strings, which it skips.
        unsafe { std::ptr::write_bytes(start as *mut u8, 0, length) };
    }
}

/// Sets the name that /proc/PID/comm shows to the last component of `path`; the kernel keeps 15
/// bytes of it.
pub fn set_name(path: &str) {
    let name = path.rsplit('/').next().unwrap_or(path);
    if let Ok(name) = std::ffi::CString::new(name.replace('\0', "")) {
        // A name is cosmetic: the call fails only for a bad pointer.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

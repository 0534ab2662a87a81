//! What `ps` shows for a process that never calls execve.

use std::fs;

/// Where the kernel placed this process's argument strings. Read it before /proc is gone.
#[derive(Debug, Clone, Copy)]
pub struct ArgumentArea {
    start: usize,
    length: usize,
}

impl ArgumentArea {
    /// Finds the area in /proc/self/stat (proc(5), fields 48 and 49). `None` where the kernel
    /// hides it.
    pub fn locate() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The command name may hold spaces; the fields after it are plain numbers, from field 3.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let start: usize = fields.nth(45)?.parse().ok()?;
        let end: usize = fields.next()?.parse().ok()?;
        (start != 0 && end > start).then(|| Self { start, length: end - start })
    }

    /// Overwrites the arguments with `title`, cut to the space there is, and sets the short name
    /// to its last path component, as execve would. The runtime's own arguments are the host's
    /// business and vanish.
    pub fn set_title(self, title: &str) {
        let bytes = title.as_bytes();
        let used = bytes.len().min(self.length - 1);
        // SAFETY: the kernel reports these addresses as the argument strings of this process:
        // writable stack memory that lives as long as the process. `used < length`, and nothing
        // reads the strings concurrently: the standard library copies them on use.
        unsafe {
            let area = self.start as *mut u8;
            std::ptr::write_bytes(area, 0, self.length);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), area, used);
        }
        set_name(title.split(' ').next().unwrap_or(title));
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

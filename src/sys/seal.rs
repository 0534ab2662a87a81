//! Running from a handle of our own binary that nobody can reopen for writing.
//!
//! A wasm container's process never calls execve, so `/proc/1/exe` is this binary for the
//! container's whole life, and a Linux process exec'd next to it could overwrite the host's file
//! (CVE-2019-5736). As in runc (`libcontainer/exeseal`), the binary is executed through a
//! detached, read-only overlay mount without an upper layer: no copy, and no way to write. Where
//! that is not possible (no CAP_SYS_ADMIN, old kernel) a sealed memfd copy takes its place.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::error::{Context, ErrorKind, Result};

/// Set for the second run of the binary. It is trusted only together with [`is_protected`].
const MARKER: &str = "_RUNWASM_SEALED=1";

/// `FSOPEN_CLOEXEC`, `FSMOUNT_CLOEXEC` and `FSCONFIG_*` of linux/mount.h.
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOUNT_ATTR_RDONLY_NOSUID_NODEV: libc::c_uint = 1 | 2 | 4;

/// Makes sure this process runs from a protected handle of its binary, re-executing it once if
/// not. `empty_dir` is an existing directory that does not hold the binary; overlayfs wants a
/// second lower layer.
///
/// # Errors
/// When neither an overlay nor a memfd can be made, or execve fails.
pub fn ensure_sealed(empty_dir: &Path) -> Result<()> {
    let exe = File::open("/proc/self/exe").os(|| "open /proc/self/exe")?;
    let marked = std::env::vars_os().any(|(k, v)| {
        let pair = [k.as_bytes(), b"=", v.as_bytes()].concat();
        pair == MARKER.as_bytes()
    });
    if marked && is_protected(&exe) {
        return Ok(());
    }
    let handle = overlay_handle(empty_dir)
        .or_else(|_| memfd_copy(&exe))
        .os(|| "make a protected copy of the runwasm binary")?;
    let args: Vec<CString> =
        std::env::args_os().filter_map(|a| CString::new(a.into_vec()).ok()).collect();
    let mut env: Vec<CString> = std::env::vars_os()
        .filter_map(|(k, v)| CString::new([k.as_bytes(), b"=", v.as_bytes()].concat()).ok())
        .collect();
    env.push(CString::new(MARKER).context(ErrorKind::Os, || "seal marker")?);
    nix::unistd::fexecve(&handle, &args, &env).os(|| "execute the protected runwasm binary")?;
    Ok(())
}

/// Whether nothing can be written through `exe`: a fully sealed memfd, or a read-only overlay.
fn is_protected(exe: &File) -> bool {
    if let Ok(bits) = fcntl(exe, FcntlArg::F_GET_SEALS) {
        return SealFlag::from_bits_truncate(bits).contains(all_seals());
    }
    let read_only = fstatvfs(exe).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY));
    let overlay = nix::sys::statfs::fstatfs(exe)
        .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC);
    read_only && overlay
}

fn all_seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

/// Opens the binary through a detached overlay mount whose layers are all lower ones.
fn overlay_handle(empty_dir: &Path) -> io::Result<OwnedFd> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    };
    let fs = syscall_fd(|| {
        // SAFETY: the name is a valid C string; a new descriptor is returned.
        unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), FSOPEN_CLOEXEC) }
    })?;
    // The binary's layer comes first, so that nothing in the other can shadow it.
    let layers = [escape(dir.as_os_str()), escape(empty_dir.as_os_str())].join(&b':');
    let layers = CString::new(layers)?;
    configure(&fs, FSCONFIG_SET_STRING, Some((c"lowerdir", &layers)))?;
    configure(&fs, FSCONFIG_CMD_CREATE, None)?;
    let mount = syscall_fd(|| {
        // SAFETY: no memory is passed; a new descriptor is returned.
        unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                fs.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                MOUNT_ATTR_RDONLY_NOSUID_NODEV,
            )
        }
    })?;
    let flags =
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(&mount, name, flags, nix::sys::stat::Mode::empty())?)
}

fn configure(fs: &OwnedFd, command: libc::c_uint, pair: Option<(&CStr, &CStr)>) -> io::Result<()> {
    let (key, value) =
        pair.map_or((std::ptr::null(), std::ptr::null()), |(k, v)| (k.as_ptr(), v.as_ptr()));
    // SAFETY: key and value are null or valid C strings that outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key, value, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn syscall_fd(call: impl FnOnce() -> libc::c_long) -> io::Result<OwnedFd> {
    match call() {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel just returned this descriptor, and nobody else owns it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
    }
}

/// overlayfs separates layers by `:` and takes `\` as escape.
fn escape(path: &OsStr) -> Vec<u8> {
    path.as_bytes()
        .iter()
        .flat_map(|&byte| {
            let escape = matches!(byte, b':' | b'\\' | b',').then_some(b'\\');
            escape.into_iter().chain([byte])
        })
        .collect()
}

/// Copies the binary into a memory file and forbids every later change to it.
fn memfd_copy(exe: &File) -> io::Result<OwnedFd> {
    let copy = memfd_create(c"runwasm", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut target = File::from(copy);
    io::copy(&mut &*exe, &mut target)?;
    fcntl(target.as_fd(), FcntlArg::F_ADD_SEALS(all_seals()))?;
    Ok(target.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_memfd_is_protected_and_the_file_itself_is_not() {
        let exe = File::open("/proc/self/exe").unwrap();
        assert!(!is_protected(&exe));
        let copy = File::from(memfd_copy(&exe).unwrap());
        assert!(is_protected(&copy));
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        // Opening a memfd for writing works; writing is what the seals refuse.
        let mut writable = File::options().write(true).open(path).unwrap();
        assert!(io::Write::write(&mut writable, b"x").is_err());
    }

    #[test]
    fn layer_paths_are_escaped() {
        assert_eq!(escape(OsStr::new("/a:b\\c")), b"/a\\:b\\\\c");
    }
}

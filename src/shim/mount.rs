//! The container's root filesystem, which containerd leaves to the shim to mount.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use containerd_shim::protos::types::mount::Mount;
use log::warn;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use tokio::sync::oneshot;

use crate::error::{Context, Error, Result};

/// How often, and at what distance, a busy mount is tried again before it is detached.
const RETRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Mounts `mounts` one over the other at `rootfs`. What was mounted before a failure is unmounted.
pub async fn mount_all(mounts: Vec<Mount>, rootfs: PathBuf) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    on_a_thread(move || {
        std::fs::create_dir_all(&rootfs).os(|| format!("create {}", rootfs.display()))?;
        let mounted = mounts.iter().try_for_each(|mount| mount_one(mount, &rootfs));
        if mounted.is_err() {
            unmount_blocking(&rootfs)?;
        }
        mounted
    })
    .await
}

/// Unmounts everything at `rootfs`; no mount there is no error.
pub async fn unmount_all(rootfs: PathBuf) -> Result<()> {
    on_a_thread(move || unmount_blocking(&rootfs)).await
}

/// Runs what can hang or changes a thread's own state: a mount with many layers changes the
/// thread's working directory.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("mount".into())
        // The caller may have given up.
        .spawn(move || drop(done.send(work())))
        .os(|| "start a thread to mount")?;
    result.await.os(|| "the thread that mounts has died")?
}

fn mount_one(mount: &Mount, rootfs: &Path) -> Result<()> {
    let inside = Path::new(&mount.target);
    if inside.components().any(|part| part == Component::ParentDir) {
        return Err(Error::invalid(format!("rootfs mount target {:?} leaves it", mount.target)));
    }
    let target = rootfs.join(inside.strip_prefix("/").unwrap_or(inside));
    lower_directories_exist(mount)?;
    let text = |text: &'_ str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (kind, source) = (text(&mount.type_), text(&mount.source));
    containerd_shim::mount::mount_rootfs(
        kind.as_deref(),
        source.as_deref(),
        &mount.options,
        &target,
    )
    .os(|| format!("mount the root filesystem at {}", target.display()))
}

/// The library that mounts ends the whole process when the layers' common directory is missing,
/// and the kernel's own message names none of them.
fn lower_directories_exist(mount: &Mount) -> Result<()> {
    let lower = mount.options.iter().find_map(|option| option.strip_prefix("lowerdir="));
    // With a backslash a colon is part of a name; the kernel has the last word there.
    let lower = lower.filter(|lower| mount.type_ == "overlay" && !lower.contains('\\'));
    for directory in lower.into_iter().flat_map(|all| all.split(':')) {
        if !directory.is_empty() && !Path::new(directory).is_dir() {
            return Err(Error::not_found(format!(
                "image layer {directory} is missing; remove the container and pull the image anew"
            )));
        }
    }
    Ok(())
}

fn unmount_blocking(rootfs: &Path) -> Result<()> {
    let mut busy = 0;
    loop {
        let flags = match busy < RETRIES {
            true => MntFlags::UMOUNT_NOFOLLOW,
            false => MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH,
        };
        match umount2(rootfs, flags) {
            // There may be another one below.
            Ok(()) | Err(Errno::EINTR) => {}
            // No mount point, or nothing at all.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if busy < RETRIES => {
                busy += 1;
                if busy == RETRIES {
                    warn!("{} stays busy and is detached", rootfs.display());
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error).os(|| format!("unmount {}", rootfs.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_a_target_outside_and_a_missing_layer() {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("rootfs");
        let mount = Mount { target: "a/../../b".into(), ..Default::default() };
        let error = mount_all(vec![mount], rootfs.clone()).await.unwrap_err();
        assert!(error.to_string().contains("a/../../b"), "{error}");
        let mount = Mount {
            type_: "overlay".into(),
            options: vec!["lowerdir=/nonexistent/1:/nonexistent/2".into()],
            ..Default::default()
        };
        let error = mount_all(vec![mount], rootfs).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/1"), "{error}");
    }

    #[tokio::test]
    async fn nothing_mounted_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        unmount_all(dir.path().join("absent")).await.unwrap();
        unmount_all(dir.path().to_owned()).await.unwrap();
    }
}

//! Starting a created container.

use libcontainer::config::YoukiConfig;
use libcontainer::container::ContainerStatus;
use libcontainer::notify_socket::{NOTIFY_FILE, NotifySocket};

use super::hooks;
use super::state::{Container, Status};
use crate::error::{Context, Error, Result};

/// Lets the program of a created container run.
///
/// # Errors
/// [`crate::error::ErrorKind::FailedPrecondition`] unless the container is created.
pub fn start(container: &mut Container) -> Result<()> {
    match container.status() {
        Status::Created => {}
        Status::Stopped => {
            return Err(Error::precondition("cannot start a container that has stopped"));
        }
        Status::Running | Status::Paused => {
            return Err(Error::precondition("cannot start an already running container"));
        }
        Status::Creating => {
            return Err(Error::precondition(
                "cannot start a container that is still being created",
            ));
        }
    }
    let dir = container.inner.root.clone();
    let config = YoukiConfig::load(&dir).os(|| "load the container's hooks")?;
    NotifySocket::new(dir.join(NOTIFY_FILE))
        .notify_container_start()
        .os(|| "tell the container's process to start")?;
    container.save_status(ContainerStatus::Running)?;
    let poststart = config.hooks.as_ref().and_then(|hooks| hooks.poststart().as_ref());
    hooks::run_all("poststart", poststart, &container.inner.state);
    Ok(())
}

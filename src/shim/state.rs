//! The states of a container's processes, and what each allows.

use containerd_shim::api::Status as ApiStatus;

use crate::error::{Error, ErrorKind, Result};

/// Where a process is in its life. Only a container's first process can be paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Made, not started.
    Created,
    /// Started.
    Running,
    /// Frozen.
    Paused,
    /// Ended; the exit code is kept for `delete`.
    Stopped,
    /// Gone.
    Deleted,
}

/// What a client asks of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Let it run.
    Start,
    /// Remove it.
    Delete,
    /// Send it a signal.
    Kill,
    /// Add another process, to be run beside it.
    Exec,
    /// Run the other process.
    StartExec,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Resume,
    /// Change its limits.
    Update,
    /// Change its terminal's size.
    Resize,
}

/// What happens to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was let run.
    Started,
    /// It was frozen.
    Paused,
    /// It was thawed.
    Resumed,
    /// It has ended, or could not be started.
    Exited,
    /// It was removed.
    Deleted,
}

impl Status {
    /// Changes as `change` demands. The end of a process can overtake the answer to a call: what
    /// cannot follow on the status leaves it as it is.
    pub fn change(&mut self, change: Change) {
        use Change::*;
        *self = match (*self, change) {
            (Self::Created, Started) | (Self::Paused, Resumed) => Self::Running,
            (Self::Running, Paused) => Self::Paused,
            (Self::Created | Self::Running | Self::Paused, Exited) => Self::Stopped,
            (_, Deleted) => Self::Deleted,
            (status, _) => status,
        };
    }

    /// Whether `action` is allowed now, with runc's answers: what is gone is `NotFound`, what
    /// the state forbids is `FailedPrecondition`.
    pub fn allows(self, action: Action) -> Result<()> {
        use Action::*;
        use Status::*;
        match (self, action) {
            (Deleted, _) => Err(Error::not_found("process was deleted")),
            (Stopped, Kill) => Err(Error::not_found("process already finished")),
            (Created, Start) | (Created | Stopped, Delete) => Ok(()),
            (Created | Running | Paused, Kill | Update | Resize) => Ok(()),
            (Created | Running, Exec) | (Running, StartExec) => Ok(()),
            (Running, Pause) | (Paused, Resume) => Ok(()),
            _ => Err(Error::new(
                ErrorKind::FailedPrecondition,
                format!("cannot {} a {} process", action.verb(), self.name()),
            )),
        }
    }

    /// The status in containerd's terms.
    pub fn to_api(self) -> ApiStatus {
        match self {
            Self::Created => ApiStatus::CREATED,
            Self::Running => ApiStatus::RUNNING,
            Self::Paused => ApiStatus::PAUSED,
            Self::Stopped | Self::Deleted => ApiStatus::STOPPED,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
        }
    }
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Delete => "delete",
            Self::Kill => "kill",
            Self::Exec | Self::StartExec => "exec in",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Update => "update",
            Self::Resize => "resize the terminal of",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_allows_what_runc_allows() {
        use Action::*;
        let actions = [Start, Delete, Kill, Exec, StartExec, Pause, Resume, Update, Resize];
        let allowed: [(Status, &[Action]); 5] = [
            (Status::Created, &[Start, Delete, Kill, Exec, Update, Resize]),
            (Status::Running, &[Kill, Exec, StartExec, Pause, Update, Resize]),
            (Status::Paused, &[Kill, Resume, Update, Resize]),
            (Status::Stopped, &[Delete]),
            (Status::Deleted, &[]),
        ];
        for (status, allowed) in allowed {
            for action in actions {
                let result = status.allows(action);
                assert_eq!(result.is_ok(), allowed.contains(&action), "{status:?} {action:?}");
            }
        }
    }

    #[test]
    fn what_is_gone_is_not_found() {
        for action in [Action::Kill, Action::Delete, Action::Start] {
            let error = Status::Deleted.allows(action).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        let error = Status::Stopped.allows(Action::Kill).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = Status::Running.allows(Action::Delete).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert_eq!(error.to_string(), "cannot delete a running process");
    }

    /// Whatever order changes come in: nothing comes back from its end, only a running process
    /// is paused, and what is allowed has an effect.
    #[test]
    fn random_changes_keep_the_order_of_life() {
        use Change::*;
        let changes = [Started, Paused, Resumed, Exited, Deleted];
        let mut random = 1_u64;
        for _ in 0..10_000 {
            let mut status = Status::Created;
            for _ in 0..8 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let change = changes[(random >> 33) as usize % changes.len()];
                let before = status;
                status.change(change);
                let rank = |status| match status {
                    Status::Created => 0,
                    Status::Running | Status::Paused => 1,
                    Status::Stopped => 2,
                    Status::Deleted => 3,
                };
                assert!(rank(status) >= rank(before), "{before:?} {change:?} {status:?}");
                let action = match change {
                    Started => Action::Start,
                    Paused => Action::Pause,
                    Resumed => Action::Resume,
                    Deleted => Action::Delete,
                    Exited => continue,
                };
                if before.allows(action).is_ok() {
                    assert_ne!(status, before, "{change:?}");
                } else if change != Deleted {
                    assert_eq!(status, before, "{change:?}");
                }
            }
        }
    }
}

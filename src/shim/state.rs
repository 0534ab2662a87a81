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
    /// Run another process beside it.
    Exec,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Resume,
    /// Change its limits.
    Update,
    /// Change its terminal's size.
    Resize,
}

impl Status {
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
            (Created | Running, Exec) | (Running, Pause) | (Paused, Resume) => Ok(()),
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
            Self::Exec => "exec in",
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
        let actions = [Start, Delete, Kill, Exec, Pause, Resume, Update, Resize];
        let allowed: [(Status, &[Action]); 5] = [
            (Status::Created, &[Start, Delete, Kill, Exec, Update, Resize]),
            (Status::Running, &[Kill, Exec, Pause, Update, Resize]),
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
}

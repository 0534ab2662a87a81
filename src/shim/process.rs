//! One process of a container: its first one, or one that was exec'd.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};
use crate::shim::driver::Logger;
use crate::shim::io::{Ends, Handles, Opener};
use crate::shim::options::Options;
use crate::shim::reaper::Exit;
use crate::shim::state::{Action, Change, Status};
use crate::shim::stdio::Stdio;
use crate::shim::terminal::{ConsoleSocket, Driven, Terminal};

/// A process and what the shim keeps for it.
pub struct Process {
    /// Empty for the container's first process.
    pub exec_id: String,
    /// As containerd asked.
    pub stdio: Stdio,
    /// Held while the process is started, so that its exit is told after its start.
    pub starting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    exited: watch::Sender<Option<Exit>>,
}

struct State {
    status: Status,
    pid: u32,
    ends: Option<Streams>,
    /// The input was ended while the process was still being started.
    input_ended: bool,
}

/// The shim's side of a process's stdio.
pub enum Streams {
    /// Handed over.
    Plain(Ends),
    /// A terminal, copied.
    Terminal(Terminal),
}

impl Streams {
    fn close_stdin(&mut self) {
        match self {
            Self::Plain(ends) => ends.close_stdin(),
            Self::Terminal(terminal) => terminal.close_stdin(),
        }
    }

    fn take_logger(&mut self) -> Option<Logger> {
        match self {
            Self::Plain(ends) => ends.take_logger(),
            Self::Terminal(terminal) => terminal.take_logger(),
        }
    }
}

/// Stdio on its way to a process.
pub enum Prepared {
    /// The handles are for the runtime call.
    Plain(Ends, Option<Handles>),
    /// The runtime sends the terminal.
    Terminal(ConsoleSocket, Option<Driven>),
}

impl Prepared {
    /// Opens what `stdio` asks for; `console` makes the socket for a terminal.
    pub async fn open(
        stdio: &Stdio,
        opener: &Opener<'_>,
        console: impl FnOnce() -> Result<ConsoleSocket>,
    ) -> Result<Self> {
        if stdio.terminal {
            let driven = Terminal::start_driver(stdio, opener).await?;
            return Ok(Self::Terminal(console()?, driven));
        }
        let (ends, handles) = Ends::open(stdio, opener).await?;
        Ok(Self::Plain(ends, Some(handles)))
    }

    /// The handles for the runtime call, the first time.
    pub fn handles(&mut self) -> Option<Handles> {
        match self {
            Self::Plain(_, handles) => handles.take(),
            Self::Terminal(..) => None,
        }
    }

    /// The path of the console socket, with a terminal.
    pub fn console(&self) -> Option<&std::path::Path> {
        match self {
            Self::Plain(..) => None,
            Self::Terminal(socket, _) => Some(socket.path()),
        }
    }

    /// After the runtime call: what the shim keeps.
    pub async fn connect(self, stdio: &Stdio, options: &Options) -> Result<Streams> {
        match self {
            Self::Plain(ends, _) => Ok(Streams::Plain(ends)),
            Self::Terminal(socket, driven) => {
                let master = socket.receive().await?;
                Terminal::attach(master, stdio, options, driven).map(Streams::Terminal)
            }
        }
    }
}

impl Process {
    /// A process that is not running yet.
    pub fn new(exec_id: &str, stdio: Stdio) -> Self {
        Self {
            exec_id: exec_id.to_owned(),
            stdio,
            starting: tokio::sync::Mutex::new(()),
            state: Mutex::new(State {
                status: Status::Created,
                pid: 0,
                ends: None,
                input_ended: false,
            }),
            exited: watch::Sender::new(None),
        }
    }

    /// The pid, 0 for an exec'd process that was not started.
    pub fn pid(&self) -> u32 {
        self.state().pid
    }

    /// Where the process is in its life.
    pub fn status(&self) -> Status {
        self.state().status
    }

    /// Whether `action` is allowed now.
    pub fn allows(&self, action: Action) -> Result<()> {
        self.status().allows(action)
    }

    /// How the process ended, once it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exited.borrow()
    }

    /// Waits for the end of the process.
    pub async fn wait(&self) -> Option<Exit> {
        let mut exited = self.exited.subscribe();
        // The sender lives as long as the process.
        exited.wait_for(Option::is_some).await.ok().and_then(|exit| *exit)
    }

    /// The runtime has made the process.
    pub fn made(&self, pid: u32, streams: Streams) {
        let mut state = self.state();
        state.pid = pid;
        let ended = state.input_ended;
        let streams = state.ends.insert(streams);
        if ended {
            streams.close_stdin();
        }
    }

    /// Something has happened to the process, which may meanwhile have ended.
    pub fn change(&self, change: Change) {
        self.state().status.change(change);
    }

    /// The process has ended: lets the output end and waits for what is left of it. `quiet` says
    /// that the shim is starting no process.
    pub async fn drain(&self, quiet: bool) {
        let drained = match &mut self.state().ends {
            None => None,
            Some(Streams::Plain(ends)) => {
                ends.finish(quiet);
                None
            }
            Some(Streams::Terminal(terminal)) => {
                terminal.close_stdin();
                Some(terminal.drain())
            }
        };
        if let Some(drained) = drained {
            drained.await;
        }
    }

    /// The process has ended with `exit`.
    pub fn stopped(&self, exit: Exit) {
        self.change(Change::Exited);
        self.exited.send_replace(Some(exit));
    }

    /// The process is gone, and with it the shim's side of its stdio.
    pub fn deleted(&self) {
        let mut state = self.state();
        state.status.change(Change::Deleted);
        state.ends = None;
    }

    /// Waits for the log driver, which may have much to write down. For a process that has ended.
    pub async fn logged(&self) {
        let logger = self.state().ends.as_mut().and_then(Streams::take_logger);
        if let Some(logger) = logger {
            logger.finish().await;
        }
    }

    /// Changes the size of the terminal.
    pub fn resize(&self, columns: u32, rows: u32) -> Result<()> {
        self.allows(Action::Resize)?;
        match &self.state().ends {
            Some(Streams::Terminal(terminal)) => terminal.resize(columns, rows),
            _ if self.stdio.terminal => Err(Error::new(
                ErrorKind::FailedPrecondition,
                "cannot resize the terminal of a process that was not started",
            )),
            // As runc: without a terminal there is nothing to do.
            _ => Ok(()),
        }
    }

    /// Ends the input. A client with little to send gets here before the process is made.
    pub fn close_stdin(&self) {
        let mut state = self.state();
        state.input_ended = true;
        if let Some(streams) = &mut state.ends {
            streams.close_stdin();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn exit(status: u32) -> Exit {
        Exit { status, at: SystemTime::UNIX_EPOCH }
    }

    #[tokio::test]
    async fn every_waiter_learns_the_exit_before_and_after() {
        let process = std::sync::Arc::new(Process::new("", Stdio::default()));
        let early = process.clone();
        let early = tokio::spawn(async move { early.wait().await });
        tokio::task::yield_now().await;
        process.stopped(exit(7));
        assert_eq!(early.await.unwrap(), Some(exit(7)));
        assert_eq!(process.wait().await, Some(exit(7)));
        process.deleted();
        assert_eq!(process.wait().await, Some(exit(7)));
    }

    #[test]
    fn a_stopped_process_stays_stopped() {
        let process = Process::new("", Stdio::default());
        process.change(Change::Started);
        process.stopped(exit(0));
        process.change(Change::Paused);
        assert_eq!(process.status(), Status::Stopped);
    }

    #[test]
    fn a_terminal_that_is_not_there_cannot_be_resized() {
        let stdio = Stdio { terminal: true, ..Default::default() };
        let error = Process::new("x", stdio).resize(80, 25).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(Process::new("x", Stdio::default()).resize(80, 25).is_ok());
    }
}

//! Random calls, in every state and order, against a model of what a shim must answer.

use std::collections::BTreeMap;

use containerd_shim::api::*;
use containerd_shim::protos::ttrpc::Code;
use libtest_mimic::Trial;
use serde_json::json;

use super::sleepers;
use crate::harness::bundle::Bundle;
use crate::harness::shim::{Answer, Refusal, Shim, Stdio, any, ok};
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["shim": random_calls_on_linux, random_calls_on_wasm]
}

const ROUNDS: u64 = 12;
const CALLS: u32 = 60;

fn random_calls_on_linux() -> Result {
    let [linux, _] = sleepers()?;
    rounds(&linux)
}

fn random_calls_on_wasm() -> Result {
    let [_, wasm] = sleepers()?;
    rounds(&wasm)
}

/// One shim serves all rounds; a container that is deleted is made again in its bundle.
fn rounds(bundle: &Bundle) -> Result {
    let shim = Shim::start(bundle)?;
    for seed in 1..=ROUNDS {
        let mut round = Round { shim: &shim, bundle, model: None, random: seed, history: vec![] };
        round.play().map_err(|failed| {
            let message = failed.message().unwrap_or_default();
            format!("round {seed}: {message}\nafter {:#?}", round.history)
        })?;
    }
    shim.finish()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Running,
    Paused,
    Stopped,
}

/// The container as the model has it.
struct Model {
    init: State,
    execs: BTreeMap<&'static str, State>,
}

struct Round<'a> {
    shim: &'a Shim,
    bundle: &'a Bundle,
    model: Option<Model>,
    random: u64,
    history: Vec<String>,
}

/// The names of exec'd processes; the empty one is the container's first process.
const PROCESSES: [&str; 3] = ["", "e1", "e2"];

#[derive(Debug, Clone, Copy)]
enum Call {
    Create,
    Start,
    Signal,
    Kill,
    Exec,
    Pause,
    Resume,
    Update,
    Stats,
    Pids,
    State,
    Resize,
    CloseIo,
    Connect,
    Checkpoint,
    Shutdown,
    Delete,
}

const CALLS_WEIGHTED: [Call; 23] = [
    Call::Create,
    Call::Start,
    Call::Start,
    Call::Start,
    Call::Signal,
    Call::Kill,
    Call::Exec,
    Call::Exec,
    Call::Pause,
    Call::Pause,
    Call::Resume,
    Call::Resume,
    Call::Update,
    Call::Stats,
    Call::Pids,
    Call::State,
    Call::State,
    Call::Resize,
    Call::CloseIo,
    Call::Connect,
    Call::Checkpoint,
    Call::Shutdown,
    Call::Delete,
];

impl Round<'_> {
    fn play(&mut self) -> Result {
        self.one(Call::Create, "")?;
        for _ in 0..CALLS {
            let call = CALLS_WEIGHTED[self.next() % CALLS_WEIGHTED.len()];
            let process = PROCESSES[self.next() % PROCESSES.len()];
            // A shim without containers would end with the round.
            let idle = self.model.is_none() && matches!(call, Call::Shutdown);
            if !idle {
                self.one(call, process)?;
            }
        }
        self.one(Call::Resume, "")?;
        self.one(Call::Kill, "")?;
        self.one(Call::Delete, "")?;
        assert!(self.model.is_none());
        self.one(Call::State, "")
    }

    fn next(&mut self) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) as usize
    }

    fn one(&mut self, call: Call, process: &'static str) -> Result {
        let expected = self.expected(call, process);
        let answer = self.make(call, process);
        self.history.push(format!("{call:?} {process:?}: {answer:?}"));
        let code = answer.as_ref().err().map(|refusal| refusal.code);
        if code != expected {
            let state = self.state(process);
            let message =
                format!("{call:?} {process:?} in {state:?}: {answer:?}, not {expected:?}");
            return Err(message.into());
        }
        if code.is_none() {
            self.follow(call, process)?;
        }
        Ok(())
    }

    fn state(&self, process: &str) -> Option<State> {
        let model = self.model.as_ref()?;
        if process.is_empty() { Some(model.init) } else { model.execs.get(process).copied() }
    }

    /// The code with which the shim must refuse the call; `None` for success.
    fn expected(&self, call: Call, process: &str) -> Option<Code> {
        use Call::{Checkpoint, CloseIo, Connect, Create, Delete, Exec, Kill, Pause, Pids};
        use Call::{Resize, Resume, Shutdown, Signal, Start, Stats, Update};
        use State::{Created, Paused, Running, Stopped};
        let not_found = Some(Code::NOT_FOUND);
        let precondition = Some(Code::FAILED_PRECONDITION);
        let Some(model) = &self.model else {
            // Whoever connects learns about the shim, with or without a container.
            return if matches!(call, Create | Connect) { None } else { not_found };
        };
        // What is about the container whatever process is named.
        match (call, model.init) {
            (Create, _) => return Some(Code::ALREADY_EXISTS),
            (Checkpoint, _) => return Some(Code::UNIMPLEMENTED),
            (Shutdown | Connect | Stats | Pids, _) => return None,
            (Pause, Running) | (Resume, Paused) => return None,
            (Pause | Resume, _) => return precondition,
            (Update, Stopped) => return precondition,
            (Update, _) => return None,
            (Exec, Paused | Stopped) => return precondition,
            (Exec, _) if process.is_empty() => return Some(Code::INVALID_ARGUMENT),
            (Exec, _) if model.execs.contains_key(process) => return Some(Code::ALREADY_EXISTS),
            (Exec, _) => return None,
            _ => {}
        }
        let Some(state) = self.state(process) else { return not_found };
        match (call, state) {
            (CloseIo | Call::State, _) => None,
            (Start, Created) if process.is_empty() => None,
            (Start, Created) if model.init == Running => None,
            (Signal | Kill, Created) if !process.is_empty() => precondition,
            (Signal | Kill, Stopped) => not_found,
            (Signal | Kill, _) => None,
            (Resize, Stopped) => precondition,
            (Resize, _) => None,
            (Delete, Created | Stopped) => None,
            _ => precondition,
        }
    }

    /// What the call has changed. An end that it causes is awaited.
    fn follow(&mut self, call: Call, process: &'static str) -> Result {
        if let Call::Create = call {
            self.model = Some(Model { init: State::Created, execs: BTreeMap::new() });
            return Ok(());
        }
        let id = self.bundle.id.clone();
        let Some(model) = &mut self.model else { return Ok(()) };
        match call {
            Call::Start if process.is_empty() => model.init = State::Running,
            Call::Start => drop(model.execs.insert(process, State::Running)),
            Call::Exec => drop(model.execs.insert(process, State::Created)),
            Call::Pause => model.init = State::Paused,
            Call::Resume => model.init = State::Running,
            Call::Delete if process.is_empty() => self.model = None,
            Call::Delete => drop(model.execs.remove(process)),
            // A frozen process takes the signal when it is thawed.
            Call::Kill if process.is_empty() || model.init != State::Paused => {
                let code = ok(self.shim.exit_code(&id, process))?;
                assert_eq!(code, 137, "{process:?}");
                if !process.is_empty() {
                    model.execs.insert(process, State::Stopped);
                    return Ok(());
                }
                model.init = State::Stopped;
                for state in model.execs.values_mut().filter(|state| **state == State::Running) {
                    *state = State::Stopped;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn make(&self, call: Call, process: &str) -> Answer<()> {
        let id = self.bundle.id.clone();
        let exec_id = process.to_owned();
        let shim = self.shim;
        match call {
            Call::Create => shim.make(self.bundle, &Stdio::default()).map(drop),
            Call::Start => shim.start_process(&id, process).map(drop),
            Call::Signal => shim.signal(&id, process, libc::SIGWINCH as u32).map(drop),
            Call::Kill => self.kill(process),
            Call::Exec => {
                shim.add_exec(&id, process, &["/bin/sleep", "600"], &Stdio::default()).map(drop)
            }
            Call::Pause => shim.pause(PauseRequest { id, ..Default::default() }).map(drop),
            Call::Resume => shim.resume(ResumeRequest { id, ..Default::default() }).map(drop),
            Call::Update => {
                let resources = any("linux-resources", &json!({"pids": {"limit": 77}}));
                shim.update(UpdateTaskRequest { id, resources, ..Default::default() }).map(drop)
            }
            Call::Stats => shim.stats(StatsRequest { id, ..Default::default() }).map(drop),
            Call::Pids => shim.pids(PidsRequest { id, ..Default::default() }).map(drop),
            Call::State => self.look(process),
            Call::Resize => {
                let (width, height) = (80, 25);
                let request = ResizePtyRequest { id, exec_id, width, height, ..Default::default() };
                shim.resize_pty(request).map(drop)
            }
            Call::CloseIo => {
                let request = CloseIORequest { id, exec_id, stdin: true, ..Default::default() };
                shim.close_io(request).map(drop)
            }
            Call::Connect => {
                shim.connect_call(ConnectRequest { id, ..Default::default() }).map(drop)
            }
            Call::Checkpoint => {
                shim.checkpoint(CheckpointTaskRequest { id, ..Default::default() }).map(drop)
            }
            Call::Shutdown => shim.shutdown(ShutdownRequest { id, ..Default::default() }).map(drop),
            Call::Delete => shim.remove(&id, process).map(drop),
        }
    }

    /// SIGKILL, which a process of a frozen container would only take later.
    fn kill(&self, process: &str) -> Answer<()> {
        let frozen = self.model.as_ref().is_some_and(|model| model.init == State::Paused);
        let signal = if frozen && !process.is_empty() { libc::SIGWINCH } else { libc::SIGKILL };
        self.shim.signal(&self.bundle.id, process, signal as u32).map(drop)
    }

    /// Compares the state, too.
    fn look(&self, process: &str) -> Answer<()> {
        let id = self.bundle.id.clone();
        let request = StateRequest { id, exec_id: process.to_owned(), ..Default::default() };
        let state = self.shim.state(request)?;
        let expected = self.state(process).map(|state| match state {
            State::Created => Status::CREATED,
            State::Running => Status::RUNNING,
            State::Paused => Status::PAUSED,
            State::Stopped => Status::STOPPED,
        });
        let found = state.status.enum_value().ok();
        if found == expected {
            return Ok(());
        }
        let message = format!("the status is {found:?}, not {expected:?}");
        Err(Refusal { code: Code::INTERNAL, message })
    }
}

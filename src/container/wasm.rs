//! The wasm side of the fork in the road: the process itself becomes the guest's host.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::process::exit;
use std::time::Duration;

use caps::{CapSet, CapsHashSet};
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use oci_spec::runtime::Spec;

use super::executor::EXEC_FAILED;
use super::without_proc::AppArmor;
use crate::config::{self, Sources};
use crate::error::{Context, Result};
use crate::oci::guest::Guest;
use crate::oci::workload::WasmFile;
use crate::sys::title::StringArea;
use crate::sys::{descriptors, identity, signals};
use crate::wasm::command;
use crate::wasm::module::{Prepared, Program, prepare};
use crate::wasm::p1::listeners::Listeners;

/// After how many seconds a person is told that a module is still being compiled.
const ANNOUNCED: u64 = 3;
/// The target of log records that a person sees wherever the log goes: they are written to
/// standard error, which is the container's, as well.
pub const EVERYWHERE: &str = "runwasm::everywhere";

/// Runs a wasm program in this very process: there is no execve, so what execve gives for free is
/// done here by hand.
#[derive(Clone)]
pub struct WasmExecutor {
    /// What to run.
    pub prepared: Prepared,
    /// What it sees.
    pub guest: Guest,
    /// How it serves, if it is a server.
    pub http: config::Http,
    /// Where it is to be handed listeners.
    pub listen: config::Listen,
    /// Those listeners, once there are.
    pub listeners: OnceCell<Listeners>,
    /// The AppArmor profile to enter.
    pub apparmor: Option<AppArmor>,
    /// For the process title and environment.
    pub strings: Option<StringArea>,
    /// Whether the user that runs this may look at it in /proc. Root always may; others could not
    /// even exec into their own container, since without execve a process stays hidden.
    pub dumpable: bool,
}

impl WasmExecutor {
    /// Prepares `file` for the process of `spec`, with the settings of `sources`.
    ///
    /// # Errors
    /// For settings and modules that cannot be used.
    pub fn new(spec: &mut Spec, file: &WasmFile, sources: &Sources) -> Result<Self> {
        let mut config = sources.load(spec.annotations().as_ref())?;
        let process = spec.process().clone().unwrap_or_default();
        let guest = Guest::new(spec, &process, &config.guest);
        let prepared = prepare(file, &guest, &config, announce)?;
        if !matches!(*prepared.program, Program::Core { .. })
            && !config.listen.addresses.0.is_empty()
        {
            let name = &prepared.name;
            log::warn!("{name} is a component, which listens by itself: ignoring listen.addresses");
            config.listen.addresses.0.clear();
        }
        Ok(Self {
            prepared,
            guest,
            http: config.http,
            listen: config.listen,
            listeners: OnceCell::new(),
            apparmor: AppArmor::take(spec)?,
            strings: StringArea::locate(),
            dumpable: !identity::is_host_root(),
        })
    }
}

/// Says, once, that a module takes long to compile: a first start must not look like a hang.
fn announce(name: &str, elapsed: Duration) {
    if elapsed.as_secs() == ANNOUNCED {
        log::warn!(
            target: EVERYWHERE,
            "compiling {name} takes a while; the next start on this machine finds it in the cache"
        );
    }
}

impl Executor for WasmExecutor {
    /// Takes over the signals and listens where it is to. From here on SIGTERM ends the process, also before `start`: a
    /// signal that arrives right after `start` must not be lost.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let prepared = signals::reset_except_faults()
            .and_then(|()| signals::end_process_on_signals())
            .os(|| "take over signals")
            .and_then(|()| {
                nix::sys::prctl::set_dumpable(self.dumpable).os(|| "make the process visible")
            });
        let confined =
            prepared.and_then(|()| self.apparmor.as_ref().map_or(Ok(()), AppArmor::enter));
        let listening = confined.and_then(|()| Listeners::bind(&self.listen)).map(|listeners| {
            self.listeners.get_or_init(|| listeners);
        });
        listening.map_err(|error| ExecutorValidationError::ArgValidationError(error.to_string()))
    }

    /// The guest's environment is its own; the process's must not show the host's.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        if let Some(area) = self.strings {
            area.clear_environment();
            area.set_title(&self.guest.args.join(" "));
        }
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let code = self.run().unwrap_or_else(|error| {
            eprintln!("{}: {error}", self.prepared.name);
            EXEC_FAILED
        });
        exit(code)
    }
}

impl WasmExecutor {
    fn run(&self) -> Result<i32> {
        let listeners = self.listeners.get_or_init(Listeners::default);
        let kept: Vec<_> =
            self.prepared.descriptors.iter().copied().chain(listeners.descriptors()).collect();
        descriptors::close_from(std::io::stderr().as_raw_fd() + 1, &kept)
            .os(|| "close descriptors")?;
        drop_capabilities().os(|| "drop capabilities")?;
        command::run(&self.prepared, &self.guest, &self.http, listeners)
    }
}

/// What execve does to a user other than root: only ambient capabilities stay
/// (capabilities(7), "Transformation of capabilities during execve").
fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let ambient: CapsHashSet = caps::read(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &ambient)?;
    caps::set(None, CapSet::Permitted, &ambient)
}

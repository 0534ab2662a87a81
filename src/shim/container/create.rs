//! Making a container, and undoing it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use containerd_shim::api::CreateTaskRequest;
use containerd_shim::protos::events::task::{TaskCreate, TaskIO, TaskOOM};
use log::{debug, info, warn};

use super::Container;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::shim::containerd::{self, Image};
use crate::shim::mount;
use crate::shim::oom::Watch;
use crate::shim::options::Options;
use crate::shim::process::Process;
use crate::shim::reaper::Exiting;
use crate::shim::runtime::{Runtime, Subject};
use crate::shim::server::Shim;
use crate::shim::spec::Config;
use crate::shim::stats::Cgroups;
use crate::shim::stdio::Stdio;

/// The annotation that names the image of a container that was made without one.
const ARTIFACT: &str = "runwasm.artifact";

impl Container {
    /// Makes a container as `request` says. A failure leaves nothing behind.
    pub async fn create(shim: Arc<Shim>, request: CreateTaskRequest) -> Result<Arc<Self>> {
        if !request.checkpoint.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "restore from a checkpoint is not supported",
            ));
        }
        let options = Options::from_any(request.options.as_ref())?;
        let bundle = PathBuf::from(&request.bundle);
        let config = Config::read(&bundle)?;
        let private_pids = config.has_private_pids();
        options.save(&bundle)?;
        let subject = Subject {
            namespace: &shim.namespace,
            id: &request.id,
            bundle: &bundle,
            debug: shim.debug,
        };
        let runtime = Runtime::new(&subject, &options, shim.reaper.clone());
        let stdio = Stdio {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let mut container = Self {
            id: request.id.clone(),
            init: Arc::new(Process::new("", stdio)),
            execs: Mutex::default(),
            operations: tokio::sync::Mutex::default(),
            cgroups: None,
            oom: None,
            runtime,
            options,
            private_pids,
            bundle,
            shim,
        };
        let mounted = mount::mount_all(request.rootfs.clone(), container.rootfs()).await;
        let made = match mounted {
            Ok(()) => container.make_init(&config).await,
            Err(error) => Err(error),
        };
        match made {
            Ok(exiting) => {
                let container = Arc::new(container);
                container.announce_create(&request);
                container.clone().follow(container.init.clone(), exiting);
                Ok(container)
            }
            Err(error) => {
                container.discard().await;
                Err(error)
            }
        }
    }

    /// Runs the runtime's create. On success the first process is known and waits to be started.
    async fn make_init(&mut self, config: &Config) -> Result<Exiting> {
        let image = self.image(config).await?;
        let operation = self.shim.reaper.operation();
        let mut prepared = self.prepare(&self.init).await?;
        let create = self.runtime.create(prepared.handles(), prepared.console(), image.as_ref());
        let pid = create.await?;
        let exiting = self.shim.reaper.watch(pid, &operation);
        self.cgroups = Cgroups::of_process(pid)
            .inspect_err(|error| warn!("{}: no statistics: {error}", self.id))
            .ok();
        self.oom = self.watch_memory();
        let streams = prepared.connect(&self.init.stdio, &self.options).await?;
        self.init.made(pid, streams);
        Ok(exiting)
    }

    /// The image of a container whose root file system lacks its program: it may be an artifact,
    /// of which nothing is unpacked. All others start without containerd being asked.
    async fn image(&self, config: &Config) -> Result<Option<Image>> {
        if config.has_program(&self.rootfs()) {
            return Ok(None);
        }
        let named = config.annotations.get(ARTIFACT).map(String::as_str);
        let (socket, namespace) = (&self.shim.containerd, &self.shim.namespace);
        match containerd::image_of(socket, namespace, &self.id, named).await {
            Err(error) if named.is_none() => {
                info!("{}: is its image an artifact? {error}", self.id);
                Ok(None)
            }
            Err(error) => Err(error).context(ErrorKind::InvalidArgument, || {
                format!("annotation {ARTIFACT}={}", named.unwrap_or_default())
            }),
            found => found,
        }
    }

    fn watch_memory(&self) -> Option<Watch> {
        let (id, events) = (self.id.clone(), self.shim.events.clone());
        let tell = move || {
            info!("{id}: out of memory: the kernel has killed a process");
            events.publish(TaskOOM { container_id: id.clone(), ..Default::default() });
        };
        Watch::start(self.cgroups.as_ref()?, self.init.clone(), tell)
            .inspect_err(|error| debug!("{}: no news of memory: {error}", self.id))
            .ok()
    }

    /// Undoes what a failed create did.
    async fn discard(&self) {
        if let Err(error) = self.remove().await {
            warn!("{}: clean up after a failed create: {error}", self.id);
        }
    }

    fn announce_create(&self, request: &CreateTaskRequest) {
        let io = TaskIO {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
            ..Default::default()
        };
        self.shim.events.publish(TaskCreate {
            container_id: self.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(io).into(),
            pid: self.init.pid(),
            ..Default::default()
        });
    }
}

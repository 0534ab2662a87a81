//! A shim without a containerd: we are the client, and the server that is told of events.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use containerd_shim::api::*;
use containerd_shim::protos::api::ForwardRequest;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{CodedOutputStream, Message, MessageField};
use containerd_shim::protos::shim_async::{Client, Events, TaskClient, create_events};
use containerd_shim::protos::ttrpc::r#async::{Server, TtrpcContext};
use containerd_shim::protos::ttrpc::{self, Code, context};
use containerd_shim::protos::types::mount::Mount;
use tokio::sync::oneshot;

use super::bundle::Bundle;
use super::command::{Cmd, Output};
use super::{PATIENCE, Result, audit, eventually, orphans, procfs, runtime, suite};

/// The namespace of all trials.
const NAMESPACE: &str = "it";

/// A call that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// What a shim answers to a call that it refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code, on which clients act.
    pub code: Code,
    /// The text, which people read.
    pub message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

/// The answer to a call.
pub type Answer<T> = std::result::Result<T, Refusal>;

/// What was answered; a refused call fails the trial.
pub fn ok<T>(answer: Answer<T>) -> Result<T> {
    answer.map_err(|refusal| refusal.to_string().into())
}

/// Why a call was refused; one that was not fails the trial.
pub fn refused<T>(answer: Answer<T>) -> Result<Refusal> {
    answer.err().ok_or_else(|| "the call was not refused".into())
}

/// A shim that serves, and the bundle that it was started for.
pub struct Shim {
    tokio: tokio::runtime::Runtime,
    client: TaskClient,
    pid: i32,
    address: String,
    bundle: PathBuf,
    id: String,
    events: EventServer,
}

impl Shim {
    /// Starts a shim for the container of `bundle`, which is not made yet.
    pub fn start(bundle: &Bundle) -> Result<Self> {
        Self::start_as(bundle, |cmd| cmd, |output| Ok(output.text()))
    }

    /// As [`Shim::start`]; `ask` changes the command, `address` reads its answer.
    pub fn start_as(
        bundle: &Bundle,
        ask: impl FnOnce(Cmd) -> Cmd,
        address: impl FnOnce(&Output) -> Result<String>,
    ) -> Result<Self> {
        prepare(bundle)?;
        let events = EventServer::start()?;
        let output = ask(action(bundle, "start").env("TTRPC_ADDRESS", &events.address)).run()?;
        Self::connect(bundle, &address(&output.success()?)?, events)
    }

    fn connect(bundle: &Bundle, address: &str, events: EventServer) -> Result<Self> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = tokio.block_on(Client::connect(address)).map_err(|e| e.to_string())?;
        let client = TaskClient::new(client);
        Ok(Self {
            tokio,
            client,
            pid: serving(address)?,
            address: address.to_owned(),
            bundle: bundle.dir().to_owned(),
            id: bundle.id.clone(),
            events,
        })
    }

    /// The address of the server for events.
    pub fn events_address(&self) -> &str {
        &self.events.address
    }

    /// The shim's process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The topics of the events so far.
    pub fn topics(&self) -> Vec<String> {
        self.events.topics()
    }

    /// Waits for the event `topic`.
    pub fn wait_for_event(&self, topic: &str) -> Result {
        eventually(&format!("the event {topic}"), PATIENCE, || {
            Ok(self.topics().iter().any(|heard| heard == topic).then_some(()))
        })
    }

    /// Makes the container of `bundle` with `stdio`.
    pub fn make(&self, bundle: &Bundle, stdio: &Stdio) -> Answer<u32> {
        let request = CreateTaskRequest {
            id: bundle.id.clone(),
            bundle: bundle.dir().to_string_lossy().into_owned(),
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            terminal: stdio.terminal,
            options: stdio.options.clone().into(),
            rootfs: stdio.rootfs.clone(),
            ..Default::default()
        };
        self.create(request).map(|made| made.pid)
    }

    /// Makes and starts the container of `bundle`.
    pub fn run(&self, bundle: &Bundle, stdio: &Stdio) -> Result<u32> {
        let pid = ok(self.make(bundle, stdio))?;
        ok(self.start_process(&bundle.id, ""))?;
        Ok(pid)
    }

    /// Starts the container `id`, or a process exec'd into it.
    pub fn start_process(&self, id: &str, exec_id: &str) -> Answer<StartResponse> {
        self.start_call(StartRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            ..Default::default()
        })
    }

    /// Adds a process to container `id`.
    pub fn add_exec(&self, id: &str, exec_id: &str, args: &[&str], stdio: &Stdio) -> Answer<Empty> {
        let process = serde_json::json!({
            "args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
        });
        self.exec(ExecProcessRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            terminal: stdio.terminal,
            spec: any("types.containerd.io/opencontainers/runtime-spec/1/Process", &process),
            ..Default::default()
        })
    }

    /// Sends a signal to a process.
    pub fn signal(&self, id: &str, exec_id: &str, signal: u32) -> Answer<Empty> {
        self.kill(KillRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            signal,
            ..Default::default()
        })
    }

    /// Waits for the end of a process and returns its exit code.
    pub fn exit_code(&self, id: &str, exec_id: &str) -> Answer<u32> {
        let request = WaitRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        self.wait(request).map(|exit| exit.exit_status)
    }

    /// Removes a process that has ended.
    pub fn remove(&self, id: &str, exec_id: &str) -> Answer<DeleteResponse> {
        self.delete(DeleteRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() })
    }

    /// Kills container `id` and removes it.
    pub fn end(&self, id: &str) -> Result {
        let ended = self.signal(id, "", 9).and_then(|_| self.exit_code(id, ""));
        ok(ended.and_then(|_| self.remove(id, "")).map(drop))
    }

    /// The shim's address, as it was told.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends the shim, of whose containers nothing may be left.
    pub fn finish(self) -> Result {
        let request = ShutdownRequest { id: self.id.clone(), ..Default::default() };
        ok(self.shutdown(request))?;
        self.wait_for_end()?;
        audit::nothing_left_of(&self.id)
    }

    /// Waits for the end of the shim's process.
    pub fn wait_for_end(&self) -> Result {
        eventually("the shim's end", PATIENCE, || {
            orphans::reap()?;
            Ok((!procfs::is_living(self.pid)).then_some(()))
        })
    }

    /// What the shim has logged, if it is not much.
    pub fn log(&self) -> Result<String> {
        let mut open = fs::OpenOptions::new();
        let fifo = open.read(true).custom_flags(libc::O_NONBLOCK).open(self.bundle.join("log"))?;
        let mut text = vec![0; 64 << 10];
        let count = nix::unistd::read(&fifo, &mut text).unwrap_or(0);
        Ok(String::from_utf8_lossy(&text[..count]).into_owned())
    }
}

/// What a process's stdio leads to; for a container also its options and mounts.
#[derive(Debug, Clone, Default)]
pub struct Stdio {
    /// The URI of standard input.
    pub stdin: String,
    /// The URI of standard output.
    pub stdout: String,
    /// The URI of standard error.
    pub stderr: String,
    /// Whether there is a terminal.
    pub terminal: bool,
    /// The runtime options of a container.
    pub options: Option<Any>,
    /// What is to be mounted as a container's root file system.
    pub rootfs: Vec<Mount>,
}

impl Stdio {
    /// A container's options in TOML.
    pub fn options(toml: &str) -> Self {
        let fields = [(1, "toml"), (3, toml)];
        let mut value = Vec::new();
        for (number, text) in fields {
            let mut output = CodedOutputStream::vec(&mut value);
            // Into a vector nothing can fail.
            let _ = output.write_string(number, text).and_then(|()| output.flush());
        }
        let type_url = "runtimeoptions.v1.Options".into();
        let options = Some(Any { type_url, value, ..Default::default() });
        Self { options, ..Default::default() }
    }

    /// Both outputs lead to `uri`.
    pub fn to(uri: impl Into<String>) -> Self {
        let uri = uri.into();
        Self { stdout: uri.clone(), stderr: uri, ..Default::default() }
    }
}

macro_rules! calls {
    ($($name:ident as $call:ident: $request:ty => $response:ty),+ $(,)?) => {
        #[allow(missing_docs, reason = "they are those of the service")]
        impl Shim {
            $(pub fn $call(&self, request: $request) -> Answer<$response> {
                let limit = context::with_timeout(LIMIT.as_nanos() as i64);
                let answer = self.tokio.block_on(self.client.$name(limit, &request));
                answer.map_err(refusal)
            })+
        }
    };
}

calls! {
    create as create: CreateTaskRequest => CreateTaskResponse,
    start as start_call: StartRequest => StartResponse,
    state as state: StateRequest => StateResponse,
    pids as pids: PidsRequest => PidsResponse,
    pause as pause: PauseRequest => Empty,
    resume as resume: ResumeRequest => Empty,
    checkpoint as checkpoint: CheckpointTaskRequest => Empty,
    kill as kill: KillRequest => Empty,
    exec as exec: ExecProcessRequest => Empty,
    resize_pty as resize_pty: ResizePtyRequest => Empty,
    close_io as close_io: CloseIORequest => Empty,
    update as update: UpdateTaskRequest => Empty,
    wait as wait: WaitRequest => WaitResponse,
    stats as stats: StatsRequest => StatsResponse,
    connect as connect_call: ConnectRequest => ConnectResponse,
    delete as delete: DeleteRequest => DeleteResponse,
    shutdown as shutdown: ShutdownRequest => Empty,
}

fn refusal(error: ttrpc::Error) -> Refusal {
    match error {
        ttrpc::Error::RpcStatus(status) => {
            Refusal { code: status.code(), message: status.message().to_owned() }
        }
        other => Refusal { code: Code::UNAVAILABLE, message: other.to_string() },
    }
}

/// JSON as a message's field.
pub fn any(type_url: &str, value: &serde_json::Value) -> MessageField<Any> {
    let value = value.to_string().into_bytes();
    Some(Any { type_url: type_url.into(), value, ..Default::default() }).into()
}

/// The shim's binary.
pub fn program() -> Result<PathBuf> {
    Ok(runtime::shim_dir()?.join("containerd-shim-wasm-v1"))
}

/// Makes a bundle what containerd makes of it: its configuration and the FIFO for the log.
pub fn prepare(bundle: &Bundle) -> Result {
    bundle.write()?;
    let log = bundle.dir().join("log");
    if !log.exists() {
        nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU)?;
    }
    Ok(())
}

/// The shim's binary with an action, as containerd runs it.
pub fn action(bundle: &Bundle, action: &str) -> Cmd {
    let program = program().unwrap_or_default();
    let cmd = Cmd::new(program).args(["-namespace", NAMESPACE, "-id", &bundle.id]);
    let cmd = cmd.args(["-address", "/nonexistent"]).arg("-bundle").arg(bundle.dir());
    cmd.arg(action).current_dir(bundle.dir())
}

/// What containerd runs when a shim has died; answers the container's exit code.
pub fn delete_after_death(bundle: &Bundle) -> Result<u32> {
    let output: Output = action(bundle, "delete").run()?.success()?;
    Ok(DeleteResponse::parse_from_bytes(&output.stdout)?.exit_status)
}

/// The process that serves at `address`, which its command line has.
fn serving(address: &str) -> Result<i32> {
    let is_it = |pid: &i32| procfs::command_line(*pid).contains(&format!("-socket {address}"));
    let found = procfs::living()?.into_iter().find(is_it);
    found.ok_or_else(|| format!("no process serves at {address}").into())
}

/// Receives the events of a shim, and keeps their topics.
struct EventServer {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Recorder(Arc<Mutex<Vec<String>>>);

#[async_trait::async_trait]
impl Events for Recorder {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let topic = request.envelope.topic.clone();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(topic);
        Ok(Empty::default())
    }
}

impl EventServer {
    fn start() -> Result<Self> {
        let path = suite::new_dir("ev")?.join("s");
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let (stop, stopped) = oneshot::channel();
        let (recorder, socket) = (Arc::new(Recorder(heard.clone())), path.clone());
        let thread = std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
            tokio.expect("an event loop").block_on(serve_events(&socket, recorder, stopped));
        });
        eventually("the server for events", PATIENCE, || Ok(path.exists().then_some(())))?;
        let address = path.to_string_lossy().into_owned();
        Ok(Self { address, heard, stop: Some(stop), thread: Some(thread) })
    }

    fn topics(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve_events(socket: &Path, recorder: Arc<Recorder>, stopped: oneshot::Receiver<()>) {
    let server = Server::new().bind(&format!("unix://{}", socket.display()));
    let mut server = server.expect("a new socket").register_service(create_events(recorder));
    server.start().await.expect("a server for events");
    // Ends with the shim's owner.
    let _ = stopped.await;
    let _ = server.shutdown().await;
}

impl Drop for EventServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A server that panicked has failed the trial already.
            let _ = thread.join();
        }
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // A trial that has failed half way: SIGTERM ends a shim with all it has.
        if procfs::is_living(self.pid) {
            let pid = nix::unistd::Pid::from_raw(self.pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = self.wait_for_end();
        }
    }
}

//! The task service: containerd's calls, each handed to the container it is about.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim::api::*;
use containerd_shim::protos::protobuf::EnumOrUnknown;
use containerd_shim::protos::shim::oci::ProcessDetails;
use containerd_shim::protos::shim_async::{Task, create_task};
use containerd_shim::protos::ttrpc::r#async::{Service, TtrpcContext};
use containerd_shim::protos::ttrpc::{self, Code, get_status};
use containerd_shim::protos::types::task::ProcessInfo;
use log::{debug, info};

use crate::error::{Error, ErrorKind, Result};
use crate::shim::container::Container;
use crate::shim::server::Shim;
use crate::shim::stdio::Stdio;
use crate::shim::wire::{to_any, to_timestamp};

/// The service as the bindings name it, and as every containerd before 2.0 asks for it. The
/// messages of both are the same.
const V3: &str = "containerd.task.v3.Task";
const V2: &str = "containerd.task.v2.Task";

/// The protobuf package of the details of a process.
pub(super) const DETAILS_PACKAGE: &str = "containerd.runc.v1";

/// The task service under both of its names.
pub fn methods(shim: &Arc<Shim>) -> HashMap<String, Service> {
    let task: Arc<TaskService> = Arc::new(TaskService(shim.clone()));
    let mut services = create_task(task.clone());
    if let Some(service) = create_task(task).remove(V3) {
        services.insert(V2.to_owned(), service);
    }
    services
}

struct TaskService(Arc<Shim>);

impl TaskService {
    /// Runs a call to its end even if containerd hangs up or loses patience: a container must
    /// not be left half made.
    async fn run<T, F>(&self, name: &str, id: &str, call: F) -> ttrpc::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        debug!("{id}: {name}");
        let result = tokio::spawn(call).await;
        let result = result.unwrap_or_else(|panic| Err(Error::os(format!("{name}: {panic}"))));
        result.map_err(|error| {
            info!("{id}: {name}: {error}");
            to_ttrpc(&error)
        })
    }

    /// As [`TaskService::run`], with the container `id`.
    async fn with<T, F>(
        &self,
        name: &str,
        id: &str,
        call: impl FnOnce(Arc<Container>) -> F,
    ) -> ttrpc::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let container = self.0.container(id).map_err(|error| to_ttrpc(&error))?;
        self.run(name, id, call(container)).await
    }
}

/// The one place where errors become containerd's.
///
/// Go's shims end a message with the class of the error. Every containerd takes it off or shows it
/// once; without it, containerd 2 shows none.
fn to_ttrpc(error: &Error) -> ttrpc::Error {
    let (code, class) = match error.kind() {
        ErrorKind::NotFound => (Code::NOT_FOUND, ": not found"),
        ErrorKind::AlreadyExists => (Code::ALREADY_EXISTS, ": already exists"),
        ErrorKind::InvalidArgument => (Code::INVALID_ARGUMENT, ": invalid argument"),
        ErrorKind::FailedPrecondition => (Code::FAILED_PRECONDITION, ": failed precondition"),
        ErrorKind::Unsupported => (Code::UNIMPLEMENTED, ": not implemented"),
        ErrorKind::Os => (Code::UNKNOWN, ""),
    };
    ttrpc::Error::RpcStatus(get_status(code, format!("{error}{class}")))
}

#[async_trait]
impl Task for TaskService {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let shim = self.0.clone();
        let id = request.id.clone();
        let call = async move {
            let id = request.id.clone();
            let container = shim.add(&id, Container::create(shim.clone(), request)).await?;
            info!("{id}: created, bundle {}", container.bundle().display());
            let pid = container.process("")?.pid();
            Ok(CreateTaskResponse { pid, ..Default::default() })
        };
        self.run("create", &id, call).await
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        self.with("start", &request.id, |container| async move {
            let pid = container.start(&request.exec_id).await?;
            Ok(StartResponse { pid, ..Default::default() })
        })
        .await
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        self.with("state", &request.id, |container| async move {
            let process = container.process(&request.exec_id)?;
            let exit = process.exit();
            Ok(StateResponse {
                id: container.id().to_owned(),
                bundle: container.bundle().to_string_lossy().into_owned(),
                pid: process.pid(),
                status: EnumOrUnknown::new(process.status().to_api()),
                stdin: process.stdio.stdin.clone(),
                stdout: process.stdio.stdout.clone(),
                stderr: process.stdio.stderr.clone(),
                terminal: process.stdio.terminal,
                exit_status: exit.map_or(0, |exit| exit.status),
                exited_at: exit.map(|exit| to_timestamp(exit.at)).into(),
                exec_id: process.exec_id.clone(),
                ..Default::default()
            })
        })
        .await
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: DeleteRequest,
    ) -> ttrpc::Result<DeleteResponse> {
        let shim = self.0.clone();
        self.with("delete", &request.id, |container| async move {
            let deleted = match request.exec_id.as_str() {
                "" => {
                    let deleted = container.delete().await?;
                    shim.remove(container.id());
                    deleted
                }
                exec_id => container.delete_exec(exec_id).await?,
            };
            Ok(DeleteResponse {
                pid: deleted.pid,
                exit_status: deleted.exit.map_or(0, |exit| exit.status),
                exited_at: deleted.exit.map(|exit| to_timestamp(exit.at)).into(),
                ..Default::default()
            })
        })
        .await
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> ttrpc::Result<PidsResponse> {
        self.with("pids", &request.id, |container| async move {
            let mut processes = Vec::new();
            for (pid, exec_id) in container.pids().await? {
                let details = exec_id.map(|exec_id| {
                    let details = ProcessDetails { exec_id, ..Default::default() };
                    to_any(DETAILS_PACKAGE, &details)
                });
                let info = details.transpose()?.into();
                processes.push(ProcessInfo { pid, info, ..Default::default() });
            }
            Ok(PidsResponse { processes, ..Default::default() })
        })
        .await
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        self.with("pause", &request.id, |container| async move {
            container.pause().await.map(|()| Empty::default())
        })
        .await
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        self.with("resume", &request.id, |container| async move {
            container.resume().await.map(|()| Empty::default())
        })
        .await
    }

    async fn checkpoint(
        &self,
        _: &TtrpcContext,
        request: CheckpointTaskRequest,
    ) -> ttrpc::Result<Empty> {
        self.with("checkpoint", &request.id, |_| async {
            let message = "checkpoint is not supported";
            Err(Error::new(ErrorKind::Unsupported, message))
        })
        .await
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        self.with("kill", &request.id, |container| async move {
            container.kill(&request.exec_id, request.signal, request.all).await?;
            Ok(Empty::default())
        })
        .await
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        self.with("exec", &request.id, |container| async move {
            let spec = request.spec.map(|spec| spec.value).unwrap_or_default();
            let stdio = Stdio {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            };
            container.exec(&request.exec_id, stdio, &spec).map(|()| Empty::default())
        })
        .await
    }

    async fn resize_pty(
        &self,
        _: &TtrpcContext,
        request: ResizePtyRequest,
    ) -> ttrpc::Result<Empty> {
        self.with("resize", &request.id, |container| async move {
            container.process(&request.exec_id)?.resize(request.width, request.height)?;
            Ok(Empty::default())
        })
        .await
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> ttrpc::Result<Empty> {
        self.with("close stdin", &request.id, |container| async move {
            let process = container.process(&request.exec_id)?;
            if request.stdin {
                process.close_stdin();
            }
            Ok(Empty::default())
        })
        .await
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        self.with("update", &request.id, |container| async move {
            let resources = request.resources.into_option();
            let resources = resources.ok_or_else(|| Error::invalid("update: no resources"))?;
            container.update(&resources.value).await.map(|()| Empty::default())
        })
        .await
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let process = self.0.container(&request.id).and_then(|c| c.process(&request.exec_id));
        let process = process.map_err(|error| to_ttrpc(&error))?;
        let exit = process.wait().await;
        Ok(WaitResponse {
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| to_timestamp(exit.at)).into(),
            ..Default::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> ttrpc::Result<StatsResponse> {
        self.with("stats", &request.id, |container| async move {
            let stats = container.cgroups()?.stats()?;
            Ok(StatsResponse { stats: Some(stats).into(), ..Default::default() })
        })
        .await
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: ConnectRequest,
    ) -> ttrpc::Result<ConnectResponse> {
        // As with runc's shim, whoever asks about no container learns about the shim.
        let process = self.0.container(&request.id).and_then(|container| container.process(""));
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: process.map_or(0, |process| process.pid()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        // Asked for after each delete; the other containers of the group still need the shim.
        self.0.shut_down();
        Ok(Empty::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_kind_and_their_words() {
        let cases = [
            (Error::not_found("gone"), Code::NOT_FOUND, "gone: not found"),
            (Error::os("disk full"), Code::UNKNOWN, "disk full"),
        ];
        for (error, code, message) in cases {
            let ttrpc::Error::RpcStatus(status) = to_ttrpc(&error) else {
                panic!("not a status");
            };
            assert_eq!((status.code(), status.message()), (code, message));
        }
    }
}

//! WASI 0.3: instances that serve several requests, some at once.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use tokio::time::Sleep;
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::handler::{
    ExpirationError, HandlerState, Instance, InstantiationError, Proxy, ProxyHandler, ShouldAccept,
    WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use super::epochs::Ticking;
use super::{Failure, Template};
use crate::wasm::module::{ComponentState, store};

/// How many requests one instance works on at once, as `wasmtime serve` has it.
const AT_ONCE: usize = 16;
/// How much longer than a request an instance may take.
const GRACE: Duration = Duration::from_millis(500);
/// How long an instance waits for its next request.
const IDLE: Duration = Duration::from_secs(1);

/// Answers requests.
pub struct Workers {
    handler: ProxyHandler<Instances>,
    timeout: Duration,
}

impl Workers {
    /// Makes instances of `program` from `template`, each for `reuse` requests.
    pub fn new(
        program: &ServicePre<ComponentState>,
        template: Template,
        timeout: Duration,
        reuse: usize,
    ) -> Self {
        let instances = Instances { program: program.clone(), template, timeout, reuse };
        Self { handler: ProxyHandler::new(instances), timeout }
    }

    /// Makes an instance, to see whether one can be made.
    pub async fn check(&self) -> wasmtime::Result<()> {
        self.handler.state().make().await.map(drop)
    }

    /// The guest's response, whose body may still be on its way.
    pub async fn respond(&self, request: Request<WasiBody>) -> Result<Response<WasiBody>, Failure> {
        let start = Instant::now();
        let answer = tokio::time::timeout(self.timeout, self.handler.handle((), request)).await;
        answer.map_err(|_| Failure::Timeout)?.map_err(|error| {
            // On a busy machine the instance may have been ended before this was looked at.
            if error.is::<ExpirationError>() || start.elapsed() >= self.timeout {
                Failure::Timeout
            } else if error.is::<InstantiationError<()>>() {
                Failure::Busy(error)
            } else {
                Failure::Guest(error)
            }
        })
    }
}

struct Instances {
    program: ServicePre<ComponentState>,
    template: Template,
    timeout: Duration,
    reuse: usize,
}

impl Instances {
    async fn make(&self) -> wasmtime::Result<(Store<ComponentState>, Proxy)> {
        let state = self.template.state()?;
        let mut store = store(self.program.engine(), state, |state| &mut state.limits);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let proxy = self.program.instantiate_async(&mut store).await?;
        Ok((store, Proxy::P3(proxy)))
    }
}

impl HandlerState for Instances {
    type StoreData = ComponentState;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<ComponentState, Expiration, Worker>> {
        let ticking = self.template.epochs.tick();
        let made = tokio::time::timeout(self.timeout, self.make()).await;
        let (store, proxy) = made.map_err(|_| ExpirationError)??;
        // The request itself ends first, and the client is told; this is for the instance.
        let timeout = self.timeout + GRACE;
        let sleep = Box::pin(tokio::time::sleep(timeout));
        Ok(Instance {
            store,
            proxy,
            view: ComponentState::http,
            expiration: Expiration { timeout, sleep },
            state: Worker { timeout, reuse: self.reuse, _ticking: ticking },
        })
    }
}

/// Ends an instance that is of no use any more.
struct Expiration {
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        let limit = match status {
            WorkerStatus::Idle => IDLE,
            WorkerStatus::Requests | WorkerStatus::PostReturn => self.timeout,
        };
        let deadline = (start + limit).into();
        if self.sleep.deadline() != deadline {
            self.sleep.as_mut().reset(deadline);
        }
        self.sleep.as_mut().poll(context)
    }
}

struct Worker {
    timeout: Duration,
    reuse: usize,
    /// An instance that waits for requests ticks too, for no longer than [`IDLE`].
    _ticking: Ticking,
}

impl WorkerState for Worker {
    type StoreData = ComponentState;
    type RequestData = ();

    fn should_accept_request(&self, at_once: usize, total: usize) -> ShouldAccept {
        match (at_once, total) {
            (_, total) if total >= self.reuse => ShouldAccept::Never,
            (at_once, _) if at_once >= AT_ONCE => ShouldAccept::No,
            _ => ShouldAccept::Yes,
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, ComponentState>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        Box::pin(tokio::time::sleep(self.timeout))
    }

    fn drop(&self, _: Store<ComponentState>, result: wasmtime::Result<()>) {
        if let Err(error) = result {
            eprintln!("runwasm: an instance failed: {error:?}");
        }
    }
}

//! WASI 0.2: a fresh instance for each request.

use std::time::Duration;

use http::{Request, Response};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use super::{Failure, Template};
use crate::wasm::module::{ComponentState, store};

/// Answers requests.
pub struct Handler {
    program: ProxyPre<ComponentState>,
    template: Template,
    timeout: Duration,
}

type Answer = oneshot::Receiver<Result<Response<WasiBody>, ErrorCode>>;

impl Handler {
    /// Makes instances of `program` from `template`.
    pub fn new(program: &ProxyPre<ComponentState>, template: Template, timeout: Duration) -> Self {
        Self { program: program.clone(), template, timeout }
    }

    /// Makes an instance, to see whether one can be made.
    pub async fn check(&self) -> wasmtime::Result<()> {
        self.instantiate().await.map(drop)
    }

    async fn instantiate(&self) -> wasmtime::Result<(Store<ComponentState>, Proxy)> {
        let state = self.template.state()?;
        let mut store = store(self.program.engine(), state, |state| &mut state.limits);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let proxy = self.program.instantiate_async(&mut store).await?;
        Ok((store, proxy))
    }

    /// The guest's response, whose body may still be on its way.
    pub async fn respond(&self, request: Request<WasiBody>) -> Result<Response<WasiBody>, Failure> {
        let deadline = Instant::now() + self.timeout;
        let ticking = self.template.epochs.tick();
        let made = timeout_at(deadline, self.instantiate()).await;
        let (mut store, proxy) = made.map_err(|_| Failure::Timeout)?.map_err(Failure::Busy)?;
        let (sender, mut answer) = oneshot::channel();
        let mut view = store.data_mut().http();
        let request = view.new_incoming_request(Scheme::Http, request).map_err(Failure::Guest)?;
        let out = view.new_response_outparam(sender).map_err(Failure::Guest)?;
        let mut work = Box::pin(async move {
            let handler = proxy.wasi_http_incoming_handler();
            let result = handler.call_handle(&mut store, request, out).await;
            drop((store, ticking));
            result
        });
        let ended = tokio::select! {
            // Most guests have done all their work when they are polled for the first time.
            biased;
            ended = timeout_at(deadline, &mut work) => ended.map_err(|_| Failure::Timeout)?,
            response = &mut answer => {
                // The guest goes on, at least until the body is sent.
                tokio::spawn(async move {
                    if let Ok(Err(error)) = timeout_at(deadline, work).await {
                        eprintln!("runwasm: after its response: {error:?}");
                    }
                });
                let unset = |_| Failure::Guest(wasmtime::format_err!("the guest left the response unset"));
                return told(response.map_err(unset)?);
            }
        };
        response_of(ended, answer)
    }
}

/// The response of a guest whose call has ended.
fn response_of(
    ended: wasmtime::Result<()>,
    mut answer: Answer,
) -> Result<Response<WasiBody>, Failure> {
    match (ended, answer.try_recv()) {
        (Err(error), Err(_)) => Err(Failure::Guest(error)),
        (Err(error), Ok(response)) => {
            eprintln!("runwasm: after its response: {error:?}");
            told(response)
        }
        (Ok(()), Ok(response)) => told(response),
        (Ok(()), Err(_)) => {
            Err(Failure::Guest(wasmtime::format_err!("the guest returned without a response")))
        }
    }
}

fn told(response: Result<Response<WasiBody>, ErrorCode>) -> Result<Response<WasiBody>, Failure> {
    response.map_err(|code| {
        Failure::Guest(wasmtime::format_err!("the guest answered with the error {code:?}"))
    })
}

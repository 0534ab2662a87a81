//! Serving HTTP: a component that exports a handler of `wasi:http`.

mod body;
mod concurrent;
mod epochs;
mod log;
mod request;
mod signals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::ProxyPre;

use super::command::component_state;
use super::limits::Budget;
use super::module::{ComponentState, Prepared};
use crate::config;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::oci::guest::Guest;
use body::Guarded;
use concurrent::Workers;
use epochs::Epochs;
use log::AccessLog;
use request::Handler;
use signals::Signals;

/// Where runwasi's users say where to listen (runwasi `http_proxy.rs`).
const ADDRESS_VARIABLE: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";
/// How runwasi's code and its documentation spell the backlog.
const BACKLOG_VARIABLES: [&str; 2] = ["WASMTIME_HTTP_BACKLOG", "WASMTIME_HTTP_PROXY_BACKLOG"];
const DEFAULT_ADDRESS: &str = "0.0.0.0:8080";
const DEFAULT_BACKLOG: u32 = 1024;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failure to accept, which lasts: descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until a signal ends it, and returns the exit code: 0 when all requests could be
/// answered in time, 128+n when a second signal cut them short.
///
/// # Errors
/// When it cannot listen.
///
/// The descriptors of `prepared` stay open: each instance maps its initial memory by them.
pub fn serve(
    prepared: &Prepared,
    program: &ProxyPre<ComponentState>,
    guest: &Guest,
    config: &config::Http,
) -> Result<i32> {
    // Before there are threads, which inherit what is held back.
    let held = signals::hold()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .os(|| "start the event loop")?;
    let code = runtime.block_on(async {
        let listener = listen(guest, config)?;
        let server = Arc::new(Server::new(program, guest, config)?);
        // A guest that cannot even be instantiated would fail each request.
        server.check().await.context(ErrorKind::InvalidArgument, || prepared.name.clone())?;
        server.run(listener, Signals::watch(held)?).await
    });
    // Whatever still runs ends with the process: it need not be taken apart.
    std::mem::forget(runtime);
    code
}

/// What every request needs.
struct Server {
    backend: Backend,
    config: config::Http,
    slots: Arc<Semaphore>,
    next_id: AtomicU64,
    log: Option<AccessLog>,
}

enum Backend {
    Handler(Handler),
    Workers(Workers),
}

/// What a store is made from.
struct Template {
    guest: Guest,
    /// What all instances have together.
    budget: Budget,
    epochs: Epochs,
}

impl Template {
    fn state(&self) -> wasmtime::Result<ComponentState> {
        component_state(&self.guest, self.budget.share()).map_err(wasmtime::Error::from)
    }
}

/// Why a request has no response of the guest's.
enum Failure {
    /// There is no room for another instance.
    Busy(wasmtime::Error),
    /// It took too long.
    Timeout,
    /// The guest trapped, or gave no response.
    Guest(wasmtime::Error),
}

impl Server {
    fn new(
        program: &ProxyPre<ComponentState>,
        guest: &Guest,
        config: &config::Http,
    ) -> Result<Self> {
        let timeout = Duration::from_secs(config.timeout);
        let engine = match program {
            ProxyPre::P2(program) => program.engine(),
            ProxyPre::P3(program) => program.engine(),
        };
        let template = Template {
            guest: guest.clone(),
            budget: Budget::new(guest.memory),
            epochs: Epochs::start(engine)?,
        };
        let backend = match program {
            ProxyPre::P2(program) => Backend::Handler(Handler::new(program, template, timeout)),
            ProxyPre::P3(program) => {
                Backend::Workers(Workers::new(program, template, timeout, config.reuse))
            }
        };
        Ok(Self {
            backend,
            slots: Arc::new(Semaphore::new(config.requests as usize)),
            config: config.clone(),
            next_id: AtomicU64::new(1),
            log: config.access_log.then(AccessLog::start).transpose()?,
        })
    }

    async fn check(&self) -> wasmtime::Result<()> {
        match &self.backend {
            Backend::Handler(handler) => handler.check().await,
            Backend::Workers(workers) => workers.check().await,
        }
    }

    async fn run(self: Arc<Self>, listener: TcpListener, mut signals: Signals) -> Result<i32> {
        let connections = GracefulShutdown::new();
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        builder.http2().timer(TokioTimer::new());
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.connect(&builder, &connections, stream, peer),
                    Err(error) => {
                        eprintln!("runwasm: accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = signals.next() => break,
            }
        }
        drop(listener);
        let drained =
            tokio::time::timeout(Duration::from_secs(self.config.drain), connections.shutdown());
        tokio::select! {
            // Whatever is still going on then has had its time.
            _ = drained => Ok(0),
            signal = signals.next() => Ok(128 + signal),
        }
    }

    fn connect(
        self: &Arc<Self>,
        builder: &auto::Builder<TokioExecutor>,
        connections: &GracefulShutdown,
        stream: TcpStream,
        peer: SocketAddr,
    ) {
        // Small writes of a guest are not to wait for the client's acknowledgement of others. A
        // socket that refuses is about to fail anyway.
        let _ = stream.set_nodelay(true);
        let server = self.clone();
        let service = service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, std::convert::Infallible>(server.answer(request, peer).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            // The client went away, or speaks no HTTP: that is its affair.
            let _ = connection.await;
        });
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Guarded<WasiBody>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let line = format!("{} {}", request.method(), request.uri());
        let entry = self.log.as_ref().map(|log| log.entry(id, peer, &line, Instant::now()));
        let (response, slot) = match self.slots.clone().try_acquire_owned() {
            Err(_) => (refusal(StatusCode::SERVICE_UNAVAILABLE), None),
            Ok(slot) => {
                let response = self.respond(request).await.unwrap_or_else(|failure| {
                    let (status, reason) = failure.describe();
                    eprintln!("runwasm: request {id} {line}: {reason}");
                    refusal(status)
                });
                (response, Some(slot))
            }
        };
        Guarded::response(response, slot, entry)
    }

    async fn respond(&self, request: Request<Incoming>) -> Result<Response<WasiBody>, Failure> {
        let limit = self.config.body.0;
        if request.body().size_hint().lower() > limit {
            return Ok(refusal(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let request = body::prepare(request, limit);
        match &self.backend {
            Backend::Handler(handler) => handler.respond(request).await,
            Backend::Workers(workers) => workers.respond(request).await,
        }
    }
}

impl Failure {
    /// What the client is told, and what a person is.
    fn describe(self) -> (StatusCode, String) {
        match self {
            Self::Busy(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}")),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timed out (http.timeout)".to_owned()),
            // The debug form has the wasm backtrace.
            Self::Guest(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}")),
        }
    }
}

/// A response of our own.
fn refusal(status: StatusCode) -> Response<WasiBody> {
    let text = format!("{}\n", status.canonical_reason().unwrap_or_default());
    let body = Full::from(text).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn listen(guest: &Guest, config: &config::Http) -> Result<TcpListener> {
    let address = address(guest, config)?;
    let backlog = backlog(guest, config)?;
    let bound = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(backlog)
    };
    bound().os(|| format!("listen at {address}"))
}

fn variable<'a>(guest: &'a Guest, name: &str) -> Option<&'a str> {
    guest.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Where to listen: the setting, runwasi's variable, the default.
fn address(guest: &Guest, config: &config::Http) -> Result<SocketAddr> {
    if let Some(address) = config.listen {
        return Ok(address);
    }
    let text = variable(guest, ADDRESS_VARIABLE).unwrap_or(DEFAULT_ADDRESS);
    text.parse().map_err(|_| {
        Error::invalid(format!(
            "{ADDRESS_VARIABLE}={text}: write an address and a port, such as {DEFAULT_ADDRESS}"
        ))
    })
}

fn backlog(guest: &Guest, config: &config::Http) -> Result<u32> {
    if let Some(backlog) = config.backlog {
        return Ok(backlog);
    }
    let mut set = BACKLOG_VARIABLES.iter().filter_map(|name| Some((name, variable(guest, name)?)));
    let Some((name, text)) = set.next() else { return Ok(DEFAULT_BACKLOG) };
    text.parse().map_err(|_| Error::invalid(format!("{name}={text}: write a number")))
}

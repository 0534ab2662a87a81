//! Servers: components that export a handler of `wasi:http`, of both versions.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::command::Cmd;
use crate::harness::container::Container;
use crate::harness::{PATIENCE, Result, eventually, procfs, suite, trials};

pub fn our_tests() -> Vec<Trial> {
    trials!["http": answers_with_the_containers_view, both_versions_of_http,
        instances_are_fresh_or_reused, a_trap_is_one_500_and_one_report,
        a_guest_without_a_response_is_a_500, time_is_bounded, requests_at_once_are_bounded,
        bodies_are_bounded, memory_is_bounded, requests_under_way_are_finished,
        draining_is_bounded, a_second_signal_ends_it, access_log_has_a_line_a_request,
        an_idle_server_is_idle, addresses_come_from_where_they_may,
        an_address_that_cannot_be_used_is_named, nothing_else_is_open, many_clients_at_once]
}

/// The examples' servers.
const VERSIONS: [&str; 2] = ["0.2", "0.3"];

/// A server in the host's network.
struct Server {
    container: Container,
    address: SocketAddr,
}

/// An address that nobody listens at, as yet.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn bundle(version: &str) -> Result<Bundle> {
    let file = format!("target/rootfs/http-rust-{version}/server.wasm");
    let file = suite::repository().join(file);
    let bytes = fs::read(&file).map_err(|error| {
        format!("{}: {error}; build the examples with `make images`", file.display())
    })?;
    let bundle = Bundle::empty(&["/server.wasm"])?.file("/server.wasm", &bytes)?;
    Ok(bundle.without_namespace("network"))
}

impl Server {
    fn start(version: &str) -> Result<Self> {
        Self::start_with(version, |bundle| bundle)
    }

    fn start_with(version: &str, change: impl FnOnce(Bundle) -> Bundle) -> Result<Self> {
        let address = free_address()?;
        let bundle = change(bundle(version)?);
        Self::start_at(address, bundle.annotation("runwasm.http.listen", &address.to_string()))
    }

    fn start_at(address: SocketAddr, bundle: Bundle) -> Result<Self> {
        let container = Container::start_new(bundle)?;
        let server = Self { container, address };
        eventually("the server to listen", PATIENCE, || {
            Ok(TcpStream::connect(address).is_ok().then_some(()))
        })?;
        Ok(server)
    }

    fn get(&self, path: &str) -> Result<(u16, String)> {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    }

    fn post(&self, path: &str, body: &str) -> Result<(u16, String)> {
        let length = body.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }

    fn send(&self, request: &str) -> Result<(u16, String)> {
        ask(self.address, request)
    }

    /// Ends the server in order.
    fn finish(&self) -> Result {
        self.container.kill("TERM")?;
        assert_eq!(self.container.wait()?, 0, "{}", self.container.stderr()?);
        self.container.delete()
    }
}

/// Sends a request and reads the response's status and body, to the end of the connection.
fn ask(address: SocketAddr, request: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    // A server that refuses a request may close before it has read all of it.
    let _ = stream.write_all(request.as_bytes());
    let mut response = Vec::new();
    let end = stream.read_to_end(&mut response);
    let response = String::from_utf8_lossy(&response).into_owned();
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("no response ({end:?}): {response:?}"))?;
    let body = response.split_once("\r\n\r\n").map(|(_, body)| unchunked(&response, body));
    Ok((status, body.unwrap_or_default()))
}

/// The text of a body that may be chunked.
fn unchunked(head: &str, body: &str) -> String {
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let mut text = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        text.push_str(after.get(..size).unwrap_or_default());
        rest = after.get(size + 2..).unwrap_or_default();
    }
    text
}

fn answers_with_the_containers_view() -> Result {
    for version in VERSIONS {
        let server = Server::start(version)?;
        assert_eq!(server.get("/")?, (200, "hello\n".to_owned()));
        assert_eq!(server.get("/nosuch")?, (404, "not found\n".to_owned()));
        server.container.wait_for("serving /nosuch")?;
        server.finish()?;
    }
    let server = Server::start_with("0.2", |bundle| bundle.env(&["A=1", "B=two words"]))?;
    assert_eq!(server.get("/env")?.1, "A=1\nB=two words\n");
    fs::write(server.container.bundle.rootfs().join("data"), "of the container")?;
    assert_eq!(server.get("/file?/data")?, (200, "of the container".to_owned()));
    assert_eq!(server.get("/file?/proc/self/maps")?.0, 404);
    let body = "x".repeat(3_000_000);
    assert!(server.post("/echo", &body)? == (200, body));
    server.finish()
}

fn both_versions_of_http() -> Result {
    for version in VERSIONS {
        let server = Server::start(version)?;
        for (option, spoken) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
            let url = format!("http://{}/", server.address);
            let curl = Cmd::new("curl").args(["-s", option, "-w", "%{http_version}", &url]);
            assert_eq!(curl.run()?.success()?.text(), format!("hello\n{spoken}"));
        }
        // HTTP/1.0 knows no host.
        assert_eq!(server.send("GET / HTTP/1.0\r\n\r\n")?, (200, "hello\n".to_owned()));
        assert_eq!(server.send("nonsense\r\n\r\n")?.0, 400);
        server.finish()?;
    }
    Ok(())
}

fn instances_are_fresh_or_reused() -> Result {
    let server = Server::start_with("0.3", |bundle| bundle.annotation("runwasm.http.reuse", "3"))?;
    let seen: Vec<_> = (0..4).map(|_| server.get("/seen")).collect::<Result<_>>()?;
    let seen: Vec<_> = seen.iter().map(|(_, body)| body.as_str()).collect();
    assert_eq!(seen, ["1\n", "2\n", "3\n", "1\n"]);
    server.finish()
}

fn a_trap_is_one_500_and_one_report() -> Result {
    for version in VERSIONS {
        let server = Server::start(version)?;
        assert_eq!(server.get("/")?.0, 200);
        assert_eq!(server.get("/panic")?.0, 500);
        assert_eq!(server.get("/")?.0, 200);
        let stderr = server.container.stderr()?;
        assert_eq!(stderr.matches("request 2 GET /panic: ").count(), 1, "{stderr}");
        assert!(stderr.contains("unreachable"), "{stderr}");
        server.finish()?;
    }
    Ok(())
}

fn a_guest_without_a_response_is_a_500() -> Result {
    let server = Server::start("0.2")?;
    assert_eq!(server.get("/silent")?.0, 500);
    let stderr = server.container.stderr()?;
    assert!(stderr.contains("GET /silent: the guest returned without a response"), "{stderr}");
    server.finish()
}

/// A guest that only computes is ended too, and others are answered meanwhile.
fn time_is_bounded() -> Result {
    for version in VERSIONS {
        let limit = |bundle: Bundle| bundle.annotation("runwasm.http.timeout", "1");
        let server = Server::start_with(version, limit)?;
        let address = server.address;
        let spinning: Vec<_> = (0..3)
            .map(|_| thread::spawn(move || ask(address, "GET /spin HTTP/1.0\r\n\r\n")))
            .collect();
        assert_eq!(server.get("/")?.0, 200);
        for request in spinning {
            let (status, _) = request.join().map_err(|_| "a client panicked")??;
            assert_eq!(status, 504);
        }
        assert_eq!(server.get("/")?.0, 200);
        assert!(server.container.stderr()?.contains("http.timeout"));
        server.finish()?;
    }
    Ok(())
}

fn requests_at_once_are_bounded() -> Result {
    let bounded = |bundle: Bundle| {
        let bundle = bundle.annotation("runwasm.http.requests", "1");
        bundle.annotation("runwasm.http.timeout", "2")
    };
    let server = Server::start_with("0.2", bounded)?;
    let address = server.address;
    let spinning = thread::spawn(move || ask(address, "GET /spin HTTP/1.0\r\n\r\n"));
    server.container.wait_for("serving /spin")?;
    assert_eq!(server.get("/")?.0, 503);
    assert_eq!(spinning.join().map_err(|_| "a client panicked")??.0, 504);
    assert_eq!(server.get("/")?.0, 200);
    server.finish()
}

fn bodies_are_bounded() -> Result {
    let bounded = |bundle: Bundle| bundle.annotation("runwasm.http.body", "1000");
    let server = Server::start_with("0.2", bounded)?;
    let most = "x".repeat(1000);
    assert_eq!(server.post("/echo", &most)?, (200, most));
    assert_eq!(server.post("/echo", &"x".repeat(1001))?.0, 413);
    // One that does not say how long it is gets no further than the bound.
    let chunk = format!("190\r\n{}\r\n", "x".repeat(400));
    let chunks = format!("{chunk}{chunk}{chunk}0\r\n\r\n");
    let head = "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked";
    let (_, body) = server.send(&format!("{head}\r\n\r\n{chunks}"))?;
    assert!(body.len() <= 1000, "{} bytes", body.len());
    server.finish()
}

fn memory_is_bounded() -> Result {
    let bounded = |bundle: Bundle| bundle.annotation("runwasm.guest.memory", "64MiB");
    let server = Server::start_with("0.2", bounded)?;
    assert_eq!(server.get("/grow?20")?.0, 200);
    assert_eq!(server.get("/grow?100")?.0, 500);
    // What a request had is free again.
    for _ in 0..10 {
        assert_eq!(server.get("/grow?20")?.0, 200);
    }
    server.finish()
}

fn requests_under_way_are_finished() -> Result {
    for (version, path) in [("0.2", "/slow?1500"), ("0.3", "/slow")] {
        let server = Server::start(version)?;
        let address = server.address;
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        let slow = thread::spawn(move || ask(address, &request));
        server.container.wait_for(&format!("serving {path}"))?;
        server.container.kill("TERM")?;
        assert_eq!(slow.join().map_err(|_| "a client panicked")??, (200, "at last\n".to_owned()));
        assert_eq!(server.container.wait()?, 0);
        assert!(TcpStream::connect(server.address).is_err());
        server.container.delete()?;
    }
    Ok(())
}

/// Starts a request that never ends.
fn spin(server: &Server) -> Result {
    let mut stream = TcpStream::connect(server.address)?;
    stream.write_all(b"GET /spin HTTP/1.0\r\n\r\n")?;
    thread::spawn(move || stream.read_to_end(&mut Vec::new()));
    server.container.wait_for("serving /spin")
}

fn draining_is_bounded() -> Result {
    for version in VERSIONS {
        let drain = |bundle: Bundle| bundle.annotation("runwasm.http.drain", "1");
        let server = Server::start_with(version, drain)?;
        spin(&server)?;
        server.finish()?;
    }
    Ok(())
}

fn a_second_signal_ends_it() -> Result {
    let server = Server::start("0.2")?;
    spin(&server)?;
    server.container.kill("TERM")?;
    eventually("the server to stop accepting", PATIENCE, || {
        Ok(TcpStream::connect(server.address).is_err().then_some(()))
    })?;
    server.container.kill("INT")?;
    assert_eq!(server.container.wait()?, 128 + 2);
    server.container.delete()
}

fn access_log_has_a_line_a_request() -> Result {
    let logged = |bundle: Bundle| bundle.annotation("runwasm.http.access_log", "true");
    let server = Server::start_with("0.2", logged)?;
    server.get("/")?;
    server.get("/nosuch")?;
    eventually("the access log", PATIENCE, || {
        let stderr = server.container.stderr()?;
        let has = |text: &str| stderr.lines().any(|line| line.contains(text));
        let all = has("request 1 127.0.0.1:") && has("\"GET /\" 200 6 bytes");
        Ok((all && has("\"GET /nosuch\" 404 10 bytes")).then_some(()))
    })?;
    server.finish()
}

fn an_idle_server_is_idle() -> Result {
    for version in VERSIONS {
        let server = Server::start(version)?;
        assert_eq!(server.get("/")?.0, 200);
        let ticks = || -> Result<u64> {
            let stat = fs::read_to_string(format!("/proc/{}/stat", server.container.pid()?))?;
            let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
            // utime and stime (proc(5)).
            Ok(fields[12].parse::<u64>()? + fields[13].parse::<u64>()?)
        };
        // An instance of 0.3 waits a second for its next request.
        thread::sleep(Duration::from_millis(1500));
        let before = ticks()?;
        thread::sleep(Duration::from_secs(2));
        assert_eq!(ticks()?, before, "in clock ticks of 10 ms");
        server.finish()?;
    }
    Ok(())
}

fn addresses_come_from_where_they_may() -> Result {
    let named = free_address()?;
    let variable = format!("WASMTIME_HTTP_PROXY_SOCKET_ADDR={named}");
    let bundle_with = || bundle("0.2").map(|bundle| bundle.env(&[&variable]));
    let server = Server::start_at(named, bundle_with()?)?;
    assert_eq!(server.get("/")?.0, 200);
    server.finish()?;
    // The annotation is stronger.
    let other = free_address()?;
    let annotated = bundle_with()?.annotation("runwasm.http.listen", &other.to_string());
    let server = Server::start_at(other, annotated)?;
    assert!(TcpStream::connect(named).is_err());
    server.finish()
}

fn an_address_that_cannot_be_used_is_named() -> Result {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let refused = bundle("0.2")?.annotation("runwasm.http.listen", &address).run()?;
    refused.refused(&format!("listen at {address}"))?;
    let variable = "WASMTIME_HTTP_PROXY_SOCKET_ADDR=everywhere";
    bundle("0.2")?.env(&[variable]).run()?.refused(variable)?;
    bundle("0.2")?.env(&["WASMTIME_HTTP_BACKLOG=many"]).run()?.refused("WASMTIME_HTTP_BACKLOG")?;
    let annotated = bundle("0.2")?.annotation("runwasm.http.listen", "8080");
    annotated.create_fails()?.refused("annotation runwasm.http.listen=8080")?;
    Ok(())
}

/// Sockets, epoll, the signalfd, and the artefact by which instances map their memory.
fn nothing_else_is_open() -> Result {
    let server = Server::start("0.2")?;
    assert_eq!(server.get("/")?.0, 200);
    for (number, target) in procfs::descriptors(server.container.pid()?)? {
        let target = target.to_string_lossy().into_owned();
        let known = ["socket:", "anon_inode:[event", "anon_inode:[signalfd]"];
        let artefact = target.contains("/runwasm/cache/");
        let fine = number <= 2 || artefact || known.iter().any(|name| target.starts_with(name));
        assert!(fine, "descriptor {number}: {target}");
    }
    server.finish()
}

fn many_clients_at_once() -> Result {
    for version in VERSIONS {
        let server = Server::start(version)?;
        let address = server.address;
        let clients: Vec<_> = (0..64)
            .map(|_| {
                thread::spawn(move || {
                    (0..20)
                        .map(|_| ask(address, "GET / HTTP/1.0\r\n\r\n"))
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let start = Instant::now();
        for client in clients {
            let answers = client.join().map_err(|_| "a client panicked")??;
            assert!(answers.iter().all(|answer| answer == &(200, "hello\n".to_owned())));
        }
        assert!(start.elapsed() < PATIENCE * 4, "a hang, not a measurement");
        server.finish()?;
    }
    Ok(())
}

//! Listeners that modules of WASI 0.1 are handed, in Go, Rust and C.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::guests::{Guest, PROBE, PROBE_COMPONENT};
use crate::harness::{PATIENCE, Result, eventually, procfs, suite, trials};

pub fn our_tests() -> Vec<Trial> {
    trials!["listeners": serve_in_each_language, a_thousand_clients_at_once,
        slow_and_half_closed_clients, a_server_that_waits_is_idle, signals_end_a_waiting_server,
        sockets_and_input_together, several_listeners_by_name, listeners_before_the_directories,
        clients_may_come_before_the_start, listeners_wait_if_asked, short_descriptors_are_survived,
        unix_sockets_are_replaced_and_open_to_all, addresses_that_cannot_be_used,
        exec_has_no_listeners, components_have_no_listeners]
}

const GO: Guest = Guest::Go("serve");
const RUST: Guest = Guest::Module("serve");
const C: Guest = Guest::C("serve");

/// A server in the host's network that sends back what it is sent.
struct Server {
    container: Container,
    address: SocketAddr,
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn bundle(guest: &Guest, listen: &str) -> Result<Bundle> {
    let bundle = Bundle::wasm(guest, &["/serve.wasm"])?.without_namespace("network");
    Ok(bundle.annotation("runwasm.listen", listen))
}

impl Server {
    fn start(guest: &Guest) -> Result<Self> {
        Self::start_with(guest, |bundle| bundle)
    }

    fn start_with(guest: &Guest, change: impl FnOnce(Bundle) -> Bundle) -> Result<Self> {
        let address = free_address()?;
        let bundle = change(bundle(guest, &format!("tcp://{address}"))?);
        let container = Container::start_new(bundle)?;
        container.wait_for("ready")?;
        Ok(Self { container, address })
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE * 2))?;
        Ok(stream)
    }

    fn finish(&self) -> Result {
        self.container.kill("TERM")?;
        assert_eq!(self.container.wait()?, 128 + 15, "{}", self.container.stderr()?);
        self.container.delete()
    }
}

/// Sends a line and reads it back; the connection stays open.
fn talk(stream: &mut (impl Read + Write), line: &str) -> Result {
    stream.write_all(line.as_bytes())?;
    let mut answer = vec![0; line.len()];
    stream.read_exact(&mut answer)?;
    assert_eq!(String::from_utf8_lossy(&answer), line);
    Ok(())
}

/// Sends everything and ends, and reads everything back.
fn send_all(mut stream: TcpStream, bytes: &[u8]) -> Result {
    let mut reader = stream.try_clone()?;
    let reading = thread::spawn(move || {
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).map(|_| answer)
    });
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let answer = reading.join().map_err(|_| "a client panicked")??;
    assert!(answer == bytes, "{} of {} bytes came back", answer.len(), bytes.len());
    Ok(())
}

fn serve_in_each_language() -> Result {
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_001).collect();
    for guest in [GO, RUST, C] {
        let server = Server::start(&guest)?;
        for bytes in [&b"hello"[..], &bytes, b""] {
            send_all(server.connect()?, bytes)?;
        }
        server.finish()?;
    }
    Ok(())
}

fn a_thousand_clients_at_once() -> Result {
    for guest in [GO, C] {
        let server = Server::start(&guest)?;
        let mut clients: Vec<_> = (0..1000).map(|_| server.connect()).collect::<Result<_>>()?;
        for round in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.write_all(format!("{number} {round}\n").as_bytes())?;
            }
            for (number, client) in clients.iter_mut().enumerate() {
                let mut answer = vec![0; format!("{number} {round}\n").len()];
                client.read_exact(&mut answer)?;
                assert_eq!(String::from_utf8_lossy(&answer), format!("{number} {round}\n"));
            }
        }
        drop(clients);
        let open = || -> Result<usize> { Ok(procfs::descriptors(server.container.pid()?)?.len()) };
        eventually("the connections' end", PATIENCE, || Ok((open()? < 50).then_some(())))?;
        send_all(server.connect()?, b"another")?;
        server.finish()?;
    }
    Ok(())
}

/// Clients that say little, that read nothing for a while, that leave without a word.
fn slow_and_half_closed_clients() -> Result {
    for guest in [GO, C] {
        let server = Server::start(&guest)?;
        let mut slow = server.connect()?;
        slow.write_all(b"in ")?;
        let mut lazy = server.connect()?;
        let sent = vec![7; 200_000];
        lazy.write_all(&sent)?;
        lazy.shutdown(Shutdown::Write)?;
        let silent = server.connect()?;
        silent.shutdown(Shutdown::Write)?;
        for _ in 0..50 {
            send_all(server.connect()?, b"quick")?;
        }
        slow.write_all(b"parts")?;
        let mut answer = [0; 8];
        slow.read_exact(&mut answer)?;
        assert_eq!(&answer, b"in parts");
        let mut answer = Vec::new();
        lazy.read_to_end(&mut answer)?;
        assert!(answer == sent, "{guest:?}: {} bytes", answer.len());
        server.finish()?;
    }
    Ok(())
}

fn a_server_that_waits_is_idle() -> Result {
    for guest in [GO, RUST, C] {
        let server = Server::start(&guest)?;
        let mut client = server.connect()?;
        talk(&mut client, "hello")?;
        let ticks = || -> Result<u64> {
            let stat = fs::read_to_string(format!("/proc/{}/stat", server.container.pid()?))?;
            let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
            // utime and stime (proc(5)).
            Ok(fields[12].parse::<u64>()? + fields[13].parse::<u64>()?)
        };
        thread::sleep(Duration::from_millis(500));
        let before = ticks()?;
        thread::sleep(Duration::from_secs(2));
        assert_eq!(ticks()?, before, "{guest:?}, in clock ticks of 10 ms");
        talk(&mut client, "still there")?;
        server.finish()?;
    }
    Ok(())
}

fn signals_end_a_waiting_server() -> Result {
    for guest in [GO, RUST, C] {
        for (signal, code) in [("TERM", 143), ("INT", 130), ("KILL", 137)] {
            let server = Server::start(&guest)?;
            let mut client = server.connect()?;
            talk(&mut client, "hello")?;
            server.container.kill(signal)?;
            assert_eq!(server.container.wait()?, code, "{guest:?} {signal}");
            assert_eq!(client.read(&mut [0])?, 0, "{guest:?} {signal}");
            server.container.delete()?;
        }
    }
    Ok(())
}

fn sockets_and_input_together() -> Result {
    let address = free_address()?;
    let bundle = bundle(&C, &format!("tcp://{address}"))?;
    let mut run = bundle.make("run", &[])?.open_input().spawn()?;
    run.wait_for("ready")?;
    let mut client = TcpStream::connect(address)?;
    for turn in 0..3 {
        talk(&mut client, "by socket")?;
        run.write(format!("by input {turn}\n").as_bytes())?;
        run.wait_for(&format!("by input {turn}"))?;
    }
    run.close_input();
    talk(&mut client, "the input has ended")?;
    bundle.runtime("kill").args([&bundle.id, "TERM"]).run()?.success()?;
    run.wait()?.expect(143)?;
    crate::harness::audit::nothing_left_of(&bundle.id)
}

/// What the probe sees of its environment, by line.
fn variables(bundle: Bundle) -> Result<Vec<String>> {
    Ok(bundle.args(&["/serve.wasm", "env"]).run()?.success()?.lines())
}

fn several_listeners_by_name() -> Result {
    let (one, two) = (free_address()?, free_address()?);
    let listen = format!("nats=tcp://{one}, tcp://{two}");
    let container = Container::start_new(bundle(&GO, &listen)?)?;
    container.wait_for("ready")?;
    for address in [one, two] {
        talk(&mut TcpStream::connect(address)?, "hello")?;
    }
    container.finish()?;
    let inherited = ["A=1", "LISTEN_FDS=7", "LISTEN_PID=1", "LISTEN_FDNAMES=x"];
    let named = ["A=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=nats:unknown", "LISTEN_FDS_START=4"];
    assert_eq!(variables(bundle(&PROBE, &listen)?.env(&inherited))?, named);
    // Without listeners the environment is the container's own affair.
    let plain = Bundle::wasm(&PROBE, &["/serve.wasm"])?;
    assert_eq!(variables(plain.env(&inherited))?, inherited);
    Ok(())
}

/// Programs find their directories all the same.
fn listeners_before_the_directories() -> Result {
    let first = |bundle: Bundle| bundle.annotation("runwasm.listen.first", "true");
    for guest in [GO, RUST, C] {
        let server = Server::start_with(&guest, first)?;
        talk(&mut server.connect()?, "hello")?;
        server.finish()?;
    }
    let listen = format!("tcp://{},tcp://{}", free_address()?, free_address()?);
    let env = variables(first(bundle(&PROBE, &listen)?).env(&[]))?;
    assert_eq!(env, ["LISTEN_FDS=2", "LISTEN_FDNAMES=unknown:unknown", "LISTEN_FDS_START=3"]);
    for (guest, verb) in
        [(PROBE, &["cat"][..]), (Guest::C("paths"), &[]), (Guest::Go("paths"), &[])]
    {
        for cwd in ["/", "/app"] {
            let bundle = first(bundle(&guest, &listen)?).file("/data/x", b"found")?;
            let args = [&["/serve.wasm"], verb, &["/data/x", "/proc/self/fd/3"]].concat();
            let lines = bundle.directory("/app")?.cwd(cwd).args(&args).run()?.success()?.lines();
            assert_eq!(lines[0].replace('"', ""), "/data/x: found", "{guest:?} in {cwd}");
            assert!(!lines[1].contains("found"), "{guest:?} in {cwd}: {lines:?}");
        }
    }
    Ok(())
}

fn clients_may_come_before_the_start() -> Result {
    let address = free_address()?;
    let container = Container::create(bundle(&GO, &format!("tcp://{address}"))?)?;
    let mut client = TcpStream::connect(address)?;
    client.write_all(b"early")?;
    container.start()?;
    let mut answer = [0; 5];
    client.read_exact(&mut answer)?;
    assert_eq!(&answer, b"early");
    container.finish()
}

fn listeners_wait_if_asked() -> Result {
    let as_it_is = |bundle: Bundle| bundle.args(&["/serve.wasm", "as-it-is"]);
    let blocking = |bundle| as_it_is(bundle).annotation("runwasm.listen.blocking", "true");
    let server = Server::start_with(&RUST, blocking)?;
    send_all(server.connect()?, b"hello")?;
    server.finish()?;
    let address = free_address()?;
    let output = as_it_is(bundle(&RUST, &format!("tcp://{address}"))?).run()?.expect(1)?;
    assert!(output.stderr.contains("WouldBlock"), "{}", output.stderr);
    Ok(())
}

/// More clients than the container may have descriptors: they wait, and nobody is lost.
fn short_descriptors_are_survived() -> Result {
    for guest in [GO, C] {
        let few = |bundle: Bundle| {
            bundle.edit(|config| config["process"]["rlimits"] = serde_json::json!([])).rlimit(
                "RLIMIT_NOFILE",
                32,
                32,
            )
        };
        let server = Server::start_with(&guest, few)?;
        let clients: Vec<_> = (0..64).map(|_| server.connect()).collect::<Result<_>>()?;
        server.container.wait_for("accept")?;
        for mut client in clients {
            talk(&mut client, "hello")?;
        }
        server.finish()?;
    }
    Ok(())
}

fn unix_sockets_are_replaced_and_open_to_all() -> Result {
    let dir = suite::new_dir("sockets")?;
    let path = dir.join("app.sock");
    let start = || -> Result<Container> {
        let bundle = bundle(&GO, "unix:///sockets/app.sock")?.bind(&dir, "/sockets", "rw");
        let container = Container::start_new(bundle)?;
        container.wait_for("ready")?;
        Ok(container)
    };
    let mode =
        |path: &Path| -> Result<u32> { Ok(fs::metadata(path)?.permissions().mode() & 0o777) };
    // The first leaves its socket behind, as a program that is killed does.
    for _ in 0..2 {
        let container = start()?;
        assert_eq!(mode(&path)?, 0o666);
        talk(&mut UnixStream::connect(&path)?, "hello")?;
        container.finish()?;
        assert!(fs::metadata(&path)?.file_type().is_socket());
    }
    let container = start()?;
    let second = bundle(&GO, "unix:///sockets/app.sock")?.bind(&dir, "/sockets", "rw");
    second.create_fails()?.refused("listen at unix:///sockets/app.sock: Address already in use")?;
    talk(&mut UnixStream::connect(&path)?, "the first is still there")?;
    container.finish()?;
    fs::remove_file(&path)?;
    fs::write(&path, "a file")?;
    let third = bundle(&GO, "unix:///sockets/app.sock")?.bind(&dir, "/sockets", "rw");
    third.create_fails()?.refused("Address already in use")?;
    assert_eq!(fs::read(&path)?, b"a file");
    Ok(())
}

fn addresses_that_cannot_be_used() -> Result {
    let refused = |listen: &str, reason: &str| -> Result {
        bundle(&GO, listen)?.create_fails()?.refused(reason)?;
        Ok(())
    };
    let source = "annotation runwasm.listen=";
    for text in ["4222", "tcp://localhost:80", "tcp://1.2.3.4", "udp://1.2.3.4:5", "unix://x"] {
        refused(text, &format!("{source}{text}: {text:?} is nowhere to listen"))?;
    }
    refused("tcp://[::]:1, here", "\"here\" is nowhere to listen")?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    refused(&format!("tcp://{address}"), &format!("listen at tcp://{address}: Address already"))?;
    refused("tcp://192.0.2.1:80", "listen at tcp://192.0.2.1:80: Cannot assign")?;
    refused("unix:///nosuch/x", "listen at unix:///nosuch/x: No such file")?;
    refused(&format!("unix:///{}", "x".repeat(200)), "File name too long")?;
    // What was made before the failure is gone.
    let dir = suite::new_dir("sockets")?;
    let both = bundle(&GO, &format!("unix:///sockets/x,tcp://{address}"))?;
    both.bind(&dir, "/sockets", "rw").create_fails()?.refused("Address already in use")?;
    assert_eq!(fs::read_dir(&dir)?.count(), 0);
    let many: Vec<_> = (0..40).map(|n| format!("unix:///sockets/{n}")).collect();
    let many = bundle(&GO, &many.join(","))?.bind(&dir, "/sockets", "rw");
    let many = many.edit(|config| config["process"]["rlimits"] = serde_json::json!([]));
    many.rlimit("RLIMIT_NOFILE", 32, 32).create_fails()?.refused("Too many open files")?;
    assert_eq!(fs::read_dir(&dir)?.count(), 0);
    Ok(())
}

fn exec_has_no_listeners() -> Result {
    let server = Server::start_with(&PROBE, |bundle| bundle.args(&["/serve.wasm", "sleep"]))?;
    let output = server.container.exec(&["/serve.wasm", "env"]).run()?.success()?;
    assert!(!output.text().contains("LISTEN_"), "{}", output.text());
    server.container.finish()
}

fn components_have_no_listeners() -> Result {
    let address = free_address()?;
    let bundle = bundle(&PROBE_COMPONENT, &format!("tcp://{address}"))?;
    let bundle = bundle.args(&["/serve.wasm", "env"]);
    let output = bundle.make("run", &[])?.run()?.success()?;
    assert!(!output.text().contains("LISTEN_"), "{}", output.text());
    let warnings = bundle.logged("warning")?;
    assert!(warnings.iter().any(|line| line.contains("ignoring listen.addresses")), "{warnings:?}");
    Ok(())
}

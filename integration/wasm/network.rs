//! The network of a guest is its container's. Sockets are of WASI 0.2.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::guests::PROBE_COMPONENT;
use crate::harness::{PATIENCE, Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["wasm": connects_by_tcp, listens_by_tcp, talks_by_udp, names_are_looked_up_in_the_image,
        other_networks_are_out_of_reach]
}

/// A guest in the host's network namespace, where the trial can talk to it.
fn on_host_network(args: &[&str]) -> Result<Bundle> {
    let args = [&["/probe.wasm"], args].concat();
    Ok(Bundle::wasm(&PROBE_COMPONENT, &args)?.without_namespace("network"))
}

/// Answers one caller with its own text in capitals.
fn answer_one(listener: &TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    stream.write_all(text.to_uppercase().as_bytes())
}

fn connects_by_tcp() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let bundle = on_host_network(&["connect", &address, "hello"])?;
    let server = std::thread::spawn(move || answer_one(&listener));
    assert_eq!(bundle.run()?.success()?.text(), format!("{address}: \"HELLO\"\n"));
    Ok(server.join().map_err(|_| "the server panicked")??)
}

fn listens_by_tcp() -> Result {
    let container = Container::start_new(on_host_network(&["listen"])?)?;
    container.wait_for(";")?;
    let text = container.stdout()?;
    let port = text.strip_prefix("port ").and_then(|rest| rest.split(';').next());
    let port: u16 = port.ok_or("no port")?.parse()?;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert_eq!(answer, "hello");
    assert_eq!(container.wait()?, 0);
    container.delete()
}

fn talks_by_udp() -> Result {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let address = socket.local_addr()?.to_string();
    let bundle = on_host_network(&["datagram", &address, "hello"])?;
    let server = std::thread::spawn(move || {
        let mut text = [0; 64];
        let (count, from) = socket.recv_from(&mut text)?;
        socket.send_to(&text[..count].to_ascii_uppercase(), from)
    });
    assert_eq!(bundle.run()?.success()?.text(), format!("{address}: \"HELLO\"\n"));
    server.join().map_err(|_| "the server panicked")??;
    Ok(())
}

fn names_are_looked_up_in_the_image() -> Result {
    let bundle = on_host_network(&["lookup", "guest.test"])?;
    let bundle = bundle.file("/etc/hosts", b"127.0.0.1 localhost\n10.1.2.3 guest.test\n")?;
    assert_eq!(bundle.run()?.success()?.text(), "guest.test: [10.1.2.3]\n");
    Ok(())
}

fn other_networks_are_out_of_reach() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let args = ["/probe.wasm", "connect", &address, "hello"];
    let output = Bundle::wasm(&PROBE_COMPONENT, &args)?.run()?.success()?;
    assert!(output.text().contains(": error "), "{}", output.text());
    Ok(())
}

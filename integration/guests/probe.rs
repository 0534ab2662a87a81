//! Does what its arguments say and prints what it finds. Built for WASI 0.1 and WASI 0.2.

use std::env;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    let rest = &args[2.min(args.len())..];
    match args.get(1).map_or("args", String::as_str) {
        "args" | "healthy" => args.iter().for_each(|arg| println!("[{arg}]")),
        "env" => env::vars().for_each(|(key, value)| println!("{key}={value}")),
        "cat" => rest.iter().for_each(|path| report(path, fs::read_to_string(path))),
        "ls" => rest.iter().for_each(|path| report(path, list(path))),
        "open" => rest.iter().for_each(|path| open(path)),
        "write" => rest.iter().for_each(|path| report(path, write(path))),
        "mkdir" => rest.iter().for_each(|path| report(path, fs::create_dir(path))),
        "exit" => std::process::exit(rest[0].parse().expect("a number")),
        "echo" => copy(),
        "lines" => lines(rest[0].parse().expect("a number")),
        "talk" => {
            lines(rest[0].parse().expect("a number"));
            wait(|| thread::sleep(Duration::from_secs(600)));
        }
        "stderr" => eprint!("{}", rest[0]),
        "terminal" => terminal(),
        "sleep" | "serve" => wait(|| thread::sleep(Duration::from_secs(600))),
        "nap" => wait(|| thread::sleep(Duration::from_millis(200))),
        "spin" => wait(|| loop {
            std::hint::black_box(0);
        }),
        "read" => wait(|| {
            let mut line = String::new();
            let _ = io::stdin().lock().read_line(&mut line);
            println!("read {line:?}");
        }),
        "answer-lines" => wait(|| io::stdin().lines().for_each(|line| println!("read {line:?}"))),
        "connect" => report(&rest[0], connect(&rest[0], &rest[1])),
        "listen" => listen(|stream, text| stream.read_to_end(text)).expect("listen"),
        "answer" => listen(|stream, text| io::BufReader::new(stream).read_until(b'\n', text)).expect("listen"),
        "datagram" => report(&rest[0], datagram(&rest[0], &rest[1])),
        "lookup" => report(&rest[0], lookup(&rest[0])),
        "grow" => grow(),
        "random" => println!("{:016x}", RandomState::new().hash_one(0)),
        "panic" => panic!("as asked"),
        other => panic!("unknown request {other}"),
    }
    ExitCode::SUCCESS
}

fn report(path: &str, result: io::Result<impl std::fmt::Debug>) {
    match result {
        Ok(value) => println!("{path}: {value:?}"),
        Err(error) => println!("{path}: error {:?}", error.kind()),
    }
}

fn list(path: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Tries a file for reading and for reading and writing: the first is enough to leak, the
/// second to write the memory of the process around us.
fn open(path: &str) {
    let read = fs::File::open(path).map(|mut file| {
        let mut bytes = [0; 16];
        file.read(&mut bytes).ok()
    });
    report(path, read);
    report(path, OpenOptions::new().read(true).write(true).open(path).map(|_| "writable"));
}

fn write(path: &str) -> io::Result<String> {
    fs::write(path, "written")?;
    fs::read_to_string(path)
}

fn copy() {
    io::copy(&mut io::stdin().lock(), &mut io::stdout().lock()).expect("copy");
}

fn lines(count: u32) {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for number in 0..count {
        writeln!(out, "line {number}").expect("write");
    }
    out.flush().expect("write");
}

fn terminal() {
    let streams =
        [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    println!("terminal {streams:?}");
    if streams[0] {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).expect("read");
        println!("got:{}", line.trim());
    }
}

fn wait(until: impl FnOnce()) {
    println!("ready");
    until();
    println!("over");
}

/// Sends a text by TCP and reads the answer.
fn connect(address: &str, text: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Says which port it listens on and sends back what it read from the first caller.
fn listen(read: fn(&mut TcpStream, &mut Vec<u8>) -> io::Result<usize>) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("port {};", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    let mut text = Vec::new();
    read(&mut stream, &mut text)?;
    stream.write_all(&text)
}

/// Sends a text by UDP and waits for the answer.
fn datagram(address: &str, text: &str) -> io::Result<String> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(text.as_bytes(), address)?;
    let mut answer = [0; 64];
    let (count, _) = socket.recv_from(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..count]).into_owned())
}

fn lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 1).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// Takes memory, and uses it, until no more is given.
fn grow() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = Vec::new();
        if block.try_reserve_exact(1 << 20).is_err() {
            break;
        }
        block.resize(1 << 20, 1_u8);
        taken.push(block);
    }
    println!("refused after {} MiB", taken.len());
}

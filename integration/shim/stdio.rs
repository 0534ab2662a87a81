//! Input and output: nothing is lost, and nobody waits for somebody else's reader.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use containerd_shim::api::{CloseIORequest, ResizePtyRequest};
use libtest_mimic::Trial;

use super::wasm;
use crate::harness::bundle::Bundle;
use crate::harness::shim::{Shim, Stdio, ok, prepare, refused};
use crate::harness::{Result, procfs, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["shim": a_million_lines_through_fifos, a_million_lines_to_a_file,
        a_million_lines_to_a_log_driver, a_million_lines_of_a_terminal,
        a_terminal_writes_to_a_file_and_to_a_log_driver, a_terminal_gets_its_size,
        a_log_driver_is_told_whose_output_it_reads, a_slow_log_driver_is_waited_for,
        a_log_driver_that_fails_fails_the_create, an_absent_reader_blocks_nobody_else,
        input_ends_when_it_is_closed]
}

const LINES: u32 = 1_000_000;

/// The kernel handles a terminal's output by the character.
const LINES_OF_A_TERMINAL: u32 = 200_000;

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn fifo(bundle: &Bundle, name: &str) -> Result<String> {
    let file = bundle.dir().join(name);
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU)?;
    Ok(path(&file))
}

/// Reads a FIFO to its end.
fn reader(path: &str) -> JoinHandle<std::io::Result<Vec<u8>>> {
    let path = path.to_owned();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

fn join(reader: JoinHandle<std::io::Result<Vec<u8>>>) -> Result<Vec<u8>> {
    Ok(reader.join().map_err(|_| "the reader panicked")??)
}

/// The guest prints numbered lines; with a terminal each ends with a carriage return, too.
fn is_all_of_it(bytes: &[u8], lines: u32) -> Result {
    let mut count = 0;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let expected = format!("line {number}");
        let line = line.trim_ascii_end();
        if line != expected.as_bytes() {
            return Err(format!("{:?} instead of {expected}", String::from_utf8_lossy(line)).into());
        }
        count += 1;
    }
    if count == lines { Ok(()) } else { Err(format!("{count} lines of {lines}").into()) }
}

fn talker(lines: u32) -> Result<Bundle> {
    wasm(&["lines", &lines.to_string()])
}

/// Runs the container to its end and removes it at once.
fn run(bundle: &Bundle, stdio: &Stdio) -> Result {
    let shim = Shim::start(bundle)?;
    shim.run(bundle, stdio)?;
    assert_eq!(ok(shim.exit_code(&bundle.id, ""))?, 0);
    ok(shim.remove(&bundle.id, ""))?;
    shim.finish()
}

fn a_million_lines_through_fifos() -> Result {
    let bundle = talker(LINES)?;
    let out = fifo(&bundle, "out")?;
    let reader = reader(&out);
    run(&bundle, &Stdio { stdout: out, ..Default::default() })?;
    is_all_of_it(&join(reader)?, LINES)
}

fn a_million_lines_to_a_file() -> Result {
    let bundle = talker(LINES)?;
    let file = bundle.dir().join("logs of/out%");
    // A part of the path that is not there, and characters that a URI has to encode.
    let uri = format!("file://{}", path(&file).replace('%', "%25").replace(' ', "%20"));
    run(&bundle, &Stdio::to(uri))?;
    is_all_of_it(&fs::read(file)?, LINES)
}

/// A log driver that runs `script`, and whose first argument is the file for its output.
fn driver(name: &str, script: &str) -> Result<(PathBuf, PathBuf, String)> {
    let dir = suite::new_dir(name)?;
    let (program, output) = (dir.join("driver"), dir.join("output"));
    fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let uri = format!("binary://{}?{}", path(&program), path(&output));
    Ok((program, output, uri))
}

/// It closes descriptor 5 when it is ready, and reads both outputs to their end.
const DRIVER: &str = "exec 5>&-; cat <&4 >\"$1.err\" & cat <&3 >\"$1\"; wait";

fn a_million_lines_to_a_log_driver() -> Result {
    let (_, output, uri) = driver("driver", DRIVER)?;
    run(&talker(LINES)?, &Stdio::to(uri))?;
    // The container's removal has waited for the driver.
    is_all_of_it(&fs::read(output)?, LINES)
}

fn a_million_lines_of_a_terminal() -> Result {
    let bundle = talker(LINES)?;
    let out = fifo(&bundle, "out")?;
    let reader = reader(&out);
    let bundle = bundle.terminal();
    run(&bundle, &Stdio { stdout: out, terminal: true, ..Default::default() })?;
    is_all_of_it(&join(reader)?, LINES)
}

fn a_terminal_writes_to_a_file_and_to_a_log_driver() -> Result {
    let bundle = talker(LINES_OF_A_TERMINAL)?.terminal();
    let file = bundle.dir().join("logs/out");
    let uri = format!("file://{}", path(&file));
    run(&bundle, &Stdio { stdout: uri, terminal: true, ..Default::default() })?;
    is_all_of_it(&fs::read(file)?, LINES_OF_A_TERMINAL)?;

    let (_, output, uri) = driver("driver", DRIVER)?;
    run(&bundle, &Stdio { stdout: uri, terminal: true, ..Default::default() })?;
    is_all_of_it(&fs::read(output)?, LINES_OF_A_TERMINAL)
}

fn a_terminal_gets_its_size() -> Result {
    let bundle = Bundle::sh("read line; stty size")?.terminal();
    let (input, out) = (fifo(&bundle, "in")?, fifo(&bundle, "out")?);
    let reader = reader(&out);
    let shim = Shim::start(&bundle)?;
    let stdio = Stdio { stdin: input.clone(), stdout: out, terminal: true, ..Default::default() };
    shim.run(&bundle, &stdio)?;
    let (id, width, height) = (bundle.id.clone(), 123, 45);
    ok(shim.resize_pty(ResizePtyRequest { id, width, height, ..Default::default() }))?;
    let (id, width) = (bundle.id.clone(), 70_000);
    refused(shim.resize_pty(ResizePtyRequest { id, width, height, ..Default::default() }))?;
    fs::OpenOptions::new().write(true).open(input)?.write_all(b"go\n")?;
    assert_eq!(ok(shim.exit_code(&bundle.id, ""))?, 0);
    let said = String::from_utf8_lossy(&join(reader)?).into_owned();
    assert!(said.contains("45 123"), "{said:?}");
    ok(shim.remove(&bundle.id, ""))?;
    shim.finish()
}

fn a_log_driver_is_told_whose_output_it_reads() -> Result {
    let script =
        "echo \"$@\" >\"$1.args\"; env >\"$1.env\"; exec 5>&-; cat <&3 >\"$1\"; cat <&4 >>\"$1\"";
    let (_, output, uri) = driver("driver", script)?;
    let bundle = Bundle::sh("echo out; echo err >&2")?;
    let shim = Shim::start(&bundle)?;
    shim.run(&bundle, &Stdio::to(format!("{uri}&key=a%20b&more")))?;
    ok(shim.exit_code(&bundle.id, ""))?;
    ok(shim.remove(&bundle.id, ""))?;
    shim.finish()?;
    assert_eq!(fs::read_to_string(&output)?, "out\nerr\n");
    let beside = |name: &str| fs::read_to_string(output.with_added_extension(name));
    // A key without a value is followed by an empty argument, as Go's shims have it.
    assert_eq!(beside("args")?, format!("{}  key a b more \n", path(&output)));
    let env = beside("env")?;
    assert!(env.contains(&format!("CONTAINER_ID={}\n", bundle.id)), "{env}");
    assert!(env.contains("CONTAINER_NAMESPACE=it\n"), "{env}");
    Ok(())
}

fn a_slow_log_driver_is_waited_for() -> Result {
    let (_, output, uri) =
        driver("driver", "exec 5>&-; cat <&3 >/dev/null; sleep 1; echo done >$1")?;
    run(&Bundle::sh("echo text")?, &Stdio::to(uri))?;
    assert_eq!(fs::read_to_string(output)?, "done\n");
    Ok(())
}

fn a_log_driver_that_fails_fails_the_create() -> Result {
    let (program, _, uri) = driver("driver", "exit 3")?;
    let bundle = Bundle::sh("true")?;
    let shim = Shim::start(&bundle)?;
    for terminal in [false, true] {
        let refusal = refused(shim.make(&bundle, &Stdio { terminal, ..Stdio::to(uri.clone()) }))?;
        let expected = format!("the log driver {} ended with 3", path(&program));
        assert!(refusal.message.contains(&expected), "{refusal}");
    }
    shim.finish()
}

/// Neither another container of the pod, nor another process, nor the shim.
fn an_absent_reader_blocks_nobody_else() -> Result {
    let bundle = talker(LINES)?;
    let out = fifo(&bundle, "out")?;
    let shim = Shim::start(&bundle)?;
    shim.run(&bundle, &Stdio { stdout: out, ..Default::default() })?;
    let tty = talker(LINES)?.terminal();
    prepare(&tty)?;
    let out = fifo(&tty, "out")?;
    shim.run(&tty, &Stdio { stdout: out, terminal: true, ..Default::default() })?;

    let other = talker(LINES)?;
    prepare(&other)?;
    let out = fifo(&other, "out")?;
    let reader = reader(&out);
    shim.run(&other, &Stdio { stdout: out, ..Default::default() })?;
    assert_eq!(ok(shim.exit_code(&other.id, ""))?, 0);
    is_all_of_it(&join(reader)?, LINES)?;
    ok(shim.remove(&other.id, ""))?;
    ok(shim.add_exec(&bundle.id, "e", &["/bin/true"], &Stdio::default()))?;
    ok(shim.start_process(&bundle.id, "e"))?;
    assert_eq!(ok(shim.exit_code(&bundle.id, "e"))?, 0);
    // They wait, and can be ended and removed.
    for container in [&bundle, &tty] {
        shim.end(&container.id)?;
    }
    shim.finish()
}

fn input_ends_when_it_is_closed() -> Result {
    let bundle = wasm(&["sleep"])?;
    let shim = Shim::start(&bundle)?;
    shim.run(&bundle, &Stdio::default())?;
    let id = &bundle.id;
    for (exec_id, args) in [("wasm", &["/probe.wasm", "echo"][..]), ("linux", &["/bin/cat"][..])] {
        let (stdin, stdout) =
            (fifo(&bundle, &format!("{exec_id}-in"))?, fifo(&bundle, &format!("{exec_id}-out"))?);
        let reader = reader(&stdout);
        let stdio = Stdio { stdin: stdin.clone(), stdout, ..Default::default() };
        ok(shim.add_exec(id, exec_id, args, &stdio))?;
        let pid = ok(shim.start_process(id, exec_id))?.pid as i32;
        for text in ["one ", "two"] {
            // A client that goes away is not the end.
            fs::OpenOptions::new().write(true).open(&stdin)?.write_all(text.as_bytes())?;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(procfs::is_living(pid), "{exec_id} ended with its client");
        let (id, exec_id) = (id.clone(), exec_id.to_owned());
        let close = CloseIORequest { id, exec_id, stdin: true, ..Default::default() };
        ok(shim.close_io(close.clone()))?;
        assert_eq!(ok(shim.exit_code(&close.id, &close.exec_id))?, 0);
        assert_eq!(join(reader)?, b"one two");
    }
    shim.end(id)?;
    shim.finish()
}

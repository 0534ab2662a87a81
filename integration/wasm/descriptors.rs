//! Descriptors of WASI 0.1: what each call says of each kind.

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::guests::Guest;
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["wasm": descriptors_of_every_kind]
}

/// Errors are by the numbers of WASI: 6 EAGAIN, 8 EBADF, 28 EINVAL, 57 ENOTSOCK, 58 ENOTSUP.
const EXPECTED: [&str; 9] = [
    "renumber 4 to 5: 0; reads a, closed 8, from nothing 8, to nothing 8, to itself 0, next 4",
    "flags: stdin 0 is 4, directory 0, nothing 8, made synchronous 28, appends 0",
    "sockets: 57 57 57 57 57 57 57 57 57 57 57 57 8 8 8 8",
    // Nothing is ready of standard input, and the clock is far off.
    "all 0: [1991 type 1 error 8 bytes 0 hangup 0] [1002 type 2 error 8 bytes 0 hangup 0] \
     [1011 type 1 error 8 bytes 0 hangup 0] [1031 type 1 error 8 bytes 0 hangup 0] \
     [1091 type 1 error 0 bytes 1 hangup 0] [1092 type 2 error 0 bytes 1 hangup 0] \
     [1012 type 2 error 0 bytes 1 hangup 0] [1 type 0 error 58 bytes 0 hangup 0]",
    "none 28:",
    "read without waiting: 1",
    "clocks 0: [1 type 0 error 0 bytes 0 hangup 0]",
    "moments 0: [1 type 0 error 0 bytes 0 hangup 0]",
    "input 0: [1001 type 1 error 0 bytes 5 hangup 0]",
];

fn descriptors_of_every_kind() -> Result {
    let bundle = Bundle::wasm(&Guest::C("descriptors"), &["/d.wasm"])?.writable();
    let bundle = bundle.file("/a", b"a")?.file("/b", b"b")?;
    let mut run = bundle.make("run", &[])?.open_input().spawn()?;
    run.wait_for("moments")?;
    run.write(b"typed")?;
    run.wait_for("input")?;
    run.close_input();
    let lines = run.wait()?.success()?.lines();
    for (line, expected) in lines.iter().zip(EXPECTED) {
        assert_eq!(line, expected);
    }
    // A pipe tells its end by a hang-up.
    assert_eq!(lines[9..], ["end 0: [1001 type 1 error 0 bytes 0 hangup 1]"], "{lines:?}");
    Ok(())
}

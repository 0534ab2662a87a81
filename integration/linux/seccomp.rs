//! System call filters.

use libtest_mimic::Trial;
use serde_json::json;

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::{Result, procfs, trials};

pub fn tests() -> Vec<Trial> {
    trials!["linux": seccomp_refuses_a_call, seccomp_kills, seccomp_filters_an_exec_too,
        seccomp_compares_arguments]
}

const MKDIR: &[&str] = &["mkdir", "mkdirat"];

fn seccomp_refuses_a_call() -> Result {
    let bundle = Bundle::sh("mkdir /made; echo $?; grep Seccomp: /proc/self/status")?.writable();
    let output = bundle.forbid_calls(MKDIR).run()?.success()?;
    assert_eq!(output.text(), "1\nSeccomp:\t2\n");
    assert!(output.stderr.contains("Operation not permitted"), "{}", output.stderr);
    Ok(())
}

fn seccomp_kills() -> Result {
    let bundle = Bundle::sh("mkdir /made; echo $?")?.writable().forbid_calls(MKDIR);
    let bundle = bundle.edit(|config| {
        config["linux"]["seccomp"]["syscalls"] =
            json!([{"names": MKDIR, "action": "SCMP_ACT_KILL"}]);
    });
    // SIGSYS ends mkdir; the shell reports it as 128 + 31.
    assert_eq!(bundle.run()?.success()?.text(), "159\n");
    Ok(())
}

fn seccomp_filters_an_exec_too() -> Result {
    let container = Container::start_new(Bundle::sleeper()?.writable().forbid_calls(MKDIR))?;
    assert_eq!(procfs::status(container.pid()?, "Seccomp")?, "2");
    container.exec(&["mkdir", "/made"]).run()?.refused("Operation not permitted")?;
    let script = "grep Seccomp: /proc/self/status";
    let output = container.exec(&["sh", "-c", script]).run()?.success()?;
    assert_eq!(output.text(), "Seccomp:\t2\n");
    container.finish()
}

fn seccomp_compares_arguments() -> Result {
    // The first argument of socket is the address family; AF_INET is 2.
    for (family, answer) in [(2, "Operation not permitted"), (99, "Connection refused")] {
        let bundle = Bundle::linux(&["nc", "-w", "1", "127.0.0.1", "9"])?;
        let bundle = bundle.forbid_calls(&["socket"]).edit(|config| {
            config["linux"]["seccomp"]["syscalls"][0]["args"] =
                json!([{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}]);
        });
        bundle.run()?.refused(answer)?;
    }
    Ok(())
}

//! Which descriptors and signals a container inherits.

use std::collections::BTreeSet;

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::command::Cmd;
use crate::harness::container::Container;
use crate::harness::{Result, procfs, trials};

pub fn tests() -> Vec<Trial> {
    trials!["cli": no_descriptor_leaks_into_the_container, no_descriptor_leaks_into_an_exec,
        preserve_fds_passes_exactly_those, exec_preserve_fds, no_signal_is_ignored_in_the_container]
}

/// runc 1.1 lets the caller's mask through.
pub fn our_tests() -> Vec<Trial> {
    trials!["cli": no_signal_is_blocked_in_the_container]
}

/// What a careless caller leaves open.
const LEAKS: &str = "exec 5</etc/passwd 7</ 9<>/dev/null";

fn open_in(bundle: Bundle, change: impl Fn(Cmd) -> Cmd, options: &[&str]) -> Result<BTreeSet<i32>> {
    let create = change(bundle.make("create", options)?);
    let container = Container::create_by(bundle, create)?;
    container.start()?;
    container.wait_for("ready")?;
    let open = procfs::descriptors(container.pid()?)?;
    container.finish()?;
    Ok(open.into_keys().collect())
}

fn no_descriptor_leaks_into_the_container() -> Result {
    let bundle = Bundle::linux(&["sh", "-c", "echo ready; exec sleep 60"])?;
    let open = open_in(bundle, |cmd| cmd.after_shell(LEAKS), &[])?;
    assert_eq!(open, BTreeSet::from([0, 1, 2]));
    Ok(())
}

fn no_descriptor_leaks_into_an_exec() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    // The listing itself needs the one descriptor more.
    let output = container.exec(&["ls", "/proc/self/fd"]).after_shell(LEAKS).run()?.success()?;
    assert_eq!(output.lines(), ["0", "1", "2", "3"]);
    container.finish()
}

fn preserve_fds_passes_exactly_those() -> Result {
    let bundle = Bundle::linux(&["sh", "-c", "cat <&4; echo ready; exec sleep 60"])?;
    let create = bundle.make("create", &["--preserve-fds", "2"])?;
    let create = create.after_shell("echo from-4 >4; exec 3</etc/passwd 4<4 5</etc/group 7</");
    let create = create.current_dir(bundle.dir());
    let container = Container::create_by(bundle, create)?;
    container.start()?;
    container.wait_for("from-4\nready")?;
    let open = procfs::descriptors(container.pid()?)?;
    assert_eq!(open.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(open[&3].to_string_lossy(), "/etc/passwd");
    container.finish()
}

fn exec_preserve_fds() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    let exec = container.exec_with(&["--preserve-fds", "1"], &["ls", "/proc/self/fd"]);
    let output = exec.after_shell("exec 3</etc/passwd 4</etc/group 7</").run()?.success()?;
    // 0 to 2, the one preserved, and the listing's own.
    assert_eq!(output.lines(), ["0", "1", "2", "3", "4"]);
    container.finish()
}

fn no_signal_is_ignored_in_the_container() -> Result {
    let bundle = Bundle::linux(&["cat", "/proc/self/status"])?;
    let run = bundle.make("run", &[])?.wrapped("env", &["--ignore-signal=PIPE"]);
    let ignored = procfs::status_mask(&run.run()?.success()?.text(), "SigIgn")?;
    // glibc's posix_spawn, which starts the runtime here, ignores its own signal 32.
    assert_eq!(ignored & 0x7fff_ffff, 0, "{ignored:#x}");
    Ok(())
}

fn no_signal_is_blocked_in_the_container() -> Result {
    let bundle = Bundle::linux(&["grep", "SigBlk", "/proc/self/status"])?;
    let run = bundle.make("run", &[])?.wrapped("env", &["--block-signal=USR2"]);
    assert_eq!(run.run()?.success()?.text(), "SigBlk:\t0000000000000000\n");
    Ok(())
}

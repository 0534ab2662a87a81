//! exec: more processes in a running container.

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;

use crate::harness::bundle::Bundle;
use crate::harness::console::ConsoleSocket;
use crate::harness::container::Container;
use crate::harness::{PATIENCE, Result, eventually, orphans, procfs, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["cli": exec_returns_exit_codes, exec_passes_stdio, exec_environment, exec_cwd,
        exec_user, exec_process_file, exec_detach, exec_tty, exec_joins_all_namespaces,
        exec_of_a_missing_command, exec_drops_capabilities]
}

fn running() -> Result<Container> {
    Container::start_new(Bundle::sleeper()?.env(&["PATH=/bin", "HOME=/", "FROM=config"]))
}

fn exec_returns_exit_codes() -> Result {
    let container = running()?;
    for code in [0, 1, 42, 126, 127, 128, 255] {
        container.exec(&["sh", "-c", &format!("exit {code}")]).run()?.expect(code)?;
    }
    container.finish()
}

fn exec_passes_stdio() -> Result {
    let container = running()?;
    let output = container.exec(&["sh", "-c", "cat; echo oops >&2"]).input("text").run()?;
    let output = output.success()?;
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("text", "oops\n"));
    container.finish()
}

fn exec_environment() -> Result {
    let container = running()?;
    let output = container.exec_with(&["--env", "MORE=a b"], &["env"]).env("HOST", "leak").run()?;
    let mut lines = output.success()?.lines();
    lines.sort();
    assert_eq!(lines, ["FROM=config", "HOME=/", "MORE=a b", "PATH=/bin"]);
    container.finish()
}

fn exec_cwd() -> Result {
    let container = running()?;
    assert_eq!(container.exec(&["pwd"]).run()?.success()?.text(), "/\n");
    assert_eq!(
        container.exec_with(&["--cwd", "/bin"], &["pwd"]).run()?.success()?.text(),
        "/bin\n"
    );
    container.finish()
}

fn exec_user() -> Result {
    let container = running()?;
    let ids = ["sh", "-c", "id -u; id -g"];
    let output = container.exec_with(&["--user", "1000:2000"], &ids).run()?.success()?;
    assert_eq!(output.text(), "1000\n2000\n");
    let output = container.exec_with(&["--user", "1000"], &["id", "-u"]).run()?.success()?;
    assert_eq!(output.text(), "1000\n");
    container.finish()
}

fn exec_process_file() -> Result {
    let container = running()?;
    let file = suite::new_dir("process")?.join("process.json");
    let process = json!({
        "args": ["sh", "-c", "env; id -u; pwd; exit 9"],
        "env": ["PATH=/bin", "HOME=/home", "ONLY=this"],
        "cwd": "/bin",
        "user": {"uid": 77, "gid": 88},
        "noNewPrivileges": true,
    });
    fs::write(&file, process.to_string())?;
    let options = ["--process", &file.to_string_lossy()];
    let output = container.cmd("exec", &options).run()?.expect(9)?;
    let lines = output.lines();
    assert!(lines.contains(&"ONLY=this".to_owned()), "{lines:?}");
    assert!(!lines.contains(&"FROM=config".to_owned()), "{lines:?}");
    assert!(lines.ends_with(&["77".to_owned(), "/bin".to_owned()]), "{lines:?}");
    container.finish()
}

fn exec_detach() -> Result {
    let container = running()?;
    let file = suite::new_dir("pid")?.join("pid");
    let options = ["--detach", "--pid-file", &file.to_string_lossy()];
    container.exec_with(&options, &["sh", "-c", "sleep 0.3; exit 5"]).run()?.success()?;
    let pid: i32 = fs::read_to_string(&file)?.parse()?;
    assert_eq!(procfs::namespace(&pid.to_string(), "pid")?, {
        procfs::namespace(&container.pid()?.to_string(), "pid")?
    });
    assert_eq!(eventually("the exec's end", PATIENCE, || orphans::exit_code(pid))?, 5);
    container.finish()
}

fn exec_tty() -> Result {
    let container = running()?;
    let socket = ConsoleSocket::new()?;
    let path = socket.path().to_string_lossy().into_owned();
    let file = suite::new_dir("pid")?.join("pid");
    let pid_file = file.to_string_lossy();
    let options = ["--tty", "--detach", "--console-socket", &path, "--pid-file", &pid_file];
    let script = "tty; read line; echo got:$line; test -t 0 -a -t 1 -a -t 2 && echo terminal";
    let exec = container.exec_with(&options, &["sh", "-c", script]).spawn()?;
    let mut terminal = socket.receive()?;
    exec.wait()?.success()?;
    terminal.wait_for("/dev/pts/")?;
    terminal.write("hello\n")?;
    terminal.wait_for("got:hello")?;
    terminal.wait_for("terminal")?;
    // Until its exit status is collected, the process keeps the PID namespace alive.
    let pid = fs::read_to_string(&file)?.parse()?;
    assert_eq!(eventually("the exec's end", PATIENCE, || orphans::exit_code(pid))?, 0);
    container.finish()
}

fn exec_joins_all_namespaces() -> Result {
    let container = running()?;
    let pid = container.pid()?.to_string();
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let link = format!("/proc/self/ns/{kind}");
        let inside = container.exec(&["readlink", &link]).run()?.success()?.text();
        assert_eq!(inside.trim(), procfs::namespace(&pid, kind)?, "{kind}");
    }
    let text = container.exec(&["cat", "/proc/self/cgroup"]).run()?.success()?.text();
    let first = container.exec(&["cat", "/proc/1/cgroup"]).run()?.success()?.text();
    assert_eq!(text, first, "the exec'd process is in another cgroup");
    container.finish()
}

fn exec_of_a_missing_command() -> Result {
    let container = running()?;
    let missing = container.exec(&["nosuch"]).run()?;
    missing.refused("exec: \"nosuch\": executable file not found in $PATH")?;
    let missing = container.exec(&["/nosuch"]).run()?;
    missing.refused("no such file or directory")?;
    assert_eq!(container.status()?, "running");
    container.finish()
}

fn exec_drops_capabilities() -> Result {
    let container = running()?;
    let args = ["cat", "/proc/self/status"];
    let status = container.exec_with(&["--user", "1000:1000"], &args).run()?.success()?.text();
    assert_eq!(procfs::status_mask(&status, "CapEff")?, 0);
    assert_eq!(procfs::status_mask(&status, "CapPrm")?, 0);
    let status = container.exec(&args).run()?.success()?.text();
    let first = container.exec(&["cat", "/proc/1/status"]).run()?.success()?.text();
    for field in ["CapBnd", "CapEff", "NoNewPrivs"] {
        let fields = [procfs::status_field(&status, field)?, procfs::status_field(&first, field)?];
        assert_eq!(fields[0], fields[1], "{field}");
    }
    container.finish()
}

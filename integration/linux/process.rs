//! What config.json says of the process: environment, command, user, rights, limits.

use libtest_mimic::Trial;
use serde_json::json;

use crate::harness::bundle::Bundle;
use crate::harness::procfs::{status_field, status_mask};
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["linux": env_is_exact, command_is_found_on_the_containers_path,
        command_that_cannot_run, args_are_exact, user_and_groups, capabilities_of_a_user,
        capabilities_of_root, ambient_capabilities, rlimits, no_new_privileges, cwd,
        cwd_of_the_host_is_refused, oom_score]
}

const KILL: u64 = 1 << 5;
const NET_BIND: u64 = 1 << 10;
const CHOWN: u64 = 1;

fn env_is_exact() -> Result {
    let env = ["PATH=/bin", "HOME=/nowhere", "A=1", "EMPTY=", "SPACE=a  b", "EQUALS=a=b", "UTF=ä"];
    let bundle = Bundle::linux(&["env"])?.env(&env);
    let run = bundle.make("run", &[])?.env("HOST_VARIABLE", "leak").env("LD_LIBRARY_PATH", "/leak");
    let mut lines = run.run()?.success()?.lines();
    let mut expected = env;
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
    Ok(())
}

fn args_are_exact() -> Result {
    let script = "for a in \"$0\" \"$@\"; do echo \"[$a]\"; done";
    let args = ["/bin/sh", "-c", script, "zero", "", " a  b ", "-x", "ü\tt", "$HOME"];
    let output = Bundle::linux(&args)?.run()?.success()?;
    assert_eq!(output.lines(), ["[zero]", "[]", "[ a  b ]", "[-x]", "[ü\tt]", "[$HOME]"]);
    Ok(())
}

fn command_is_found_on_the_containers_path() -> Result {
    let hello = b"#!/bin/sh\necho hello from $0\n";
    let path = ["PATH=/nowhere:/opt/tools:/bin"];
    let bundle = Bundle::linux(&["hello"])?.file("/opt/tools/hello", hello)?.env(&path);
    assert_eq!(bundle.run()?.success()?.text(), "hello from /opt/tools/hello\n");
    // Found by the host's PATH only.
    let bundle = Bundle::linux(&["apt-get"])?;
    bundle.create_fails()?.refused("exec: \"apt-get\": executable file not found in $PATH")?;
    let bundle = Bundle::linux(&["hello"])?.file("/opt/tools/hello", hello)?;
    bundle.create_fails()?.refused("exec: \"hello\": executable file not found in $PATH")?;
    Ok(())
}

fn command_that_cannot_run() -> Result {
    let output = Bundle::linux(&["/no/such"])?.create_fails()?;
    output.refused("exec: \"/no/such\": ")?.refused("no such file or directory")?;
    let bundle = Bundle::linux(&["/data"])?.file("/data", b"text")?;
    std::process::Command::new("chmod").arg("644").arg(bundle.rootfs().join("data")).status()?;
    bundle.create_fails()?.refused("exec: \"/data\": permission denied")?;
    Ok(())
}

fn user_and_groups() -> Result {
    let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [2000, 3000], "umask": 0o027});
    let bundle = Bundle::linux(&["cat", "/proc/self/status"])?;
    let status = bundle.edit(|config| config["process"]["user"] = user).run()?.success()?.text();
    assert_eq!(status_field(&status, "Uid")?, "1000\t1000\t1000\t1000");
    assert_eq!(status_field(&status, "Gid")?, "1001\t1001\t1001\t1001");
    assert_eq!(status_field(&status, "Groups")?, "2000 3000");
    assert_eq!(status_field(&status, "Umask")?, "0027");
    Ok(())
}

/// Bundle that prints its status, with `most` in all sets but `ambient` and `inheritable`.
fn with_capabilities(most: &[&str], ambient: &[&str]) -> Result<Bundle> {
    let sets = json!({
        "bounding": most, "permitted": most, "effective": most,
        "inheritable": ambient, "ambient": ambient,
    });
    let bundle = Bundle::linux(&["cat", "/proc/self/status"])?;
    Ok(bundle.edit(|config| config["process"]["capabilities"] = sets))
}

fn capabilities_of_a_user() -> Result {
    let bundle = with_capabilities(&["CAP_KILL", "CAP_NET_BIND_SERVICE"], &[])?.user(1000, 1000);
    let status = bundle.run()?.success()?.text();
    for field in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_mask(&status, field)?, 0, "{field}");
    }
    assert_eq!(status_mask(&status, "CapBnd")?, KILL | NET_BIND);
    Ok(())
}

fn capabilities_of_root() -> Result {
    let status = with_capabilities(&["CAP_KILL", "CAP_CHOWN"], &[])?.run()?.success()?.text();
    for field in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status_mask(&status, field)?, KILL | CHOWN, "{field}");
    }
    assert_eq!(status_mask(&status, "CapInh")?, 0);
    let bundle = Bundle::linux(&["cat", "/proc/self/status"])?;
    let bundle = bundle.edit(|config| config["process"]["capabilities"] = json!({}));
    let status = bundle.run()?.success()?.text();
    assert_eq!(status_mask(&status, "CapEff")?, 0);
    assert_eq!(status_mask(&status, "CapBnd")?, 0);
    Ok(())
}

fn ambient_capabilities() -> Result {
    let all = ["CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let bundle = with_capabilities(&all, &["CAP_NET_BIND_SERVICE"])?.user(1000, 1000);
    let status = bundle.run()?.success()?.text();
    for field in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_mask(&status, field)?, NET_BIND, "{field}");
    }
    Ok(())
}

fn rlimits() -> Result {
    let bundle = Bundle::linux(&["cat", "/proc/self/limits"])?
        .edit(|config| config["process"]["rlimits"] = json!([]))
        .rlimit("RLIMIT_NOFILE", 111, 222)
        .rlimit("RLIMIT_CORE", 0, 0)
        .rlimit("RLIMIT_STACK", 4_194_304, 8_388_608);
    let text = bundle.run()?.success()?.text();
    let limit = |name: &str| -> Vec<String> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().take(2).map(str::to_owned).collect()
    };
    assert_eq!(limit("Max open files"), ["111", "222"]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    assert_eq!(limit("Max stack size"), ["4194304", "8388608"]);
    Ok(())
}

fn no_new_privileges() -> Result {
    for (given, seen) in [(json!(true), "1"), (json!(false), "0"), (json!(null), "0")] {
        let bundle = Bundle::linux(&["cat", "/proc/self/status"])?.edit(|config| {
            config["process"]["noNewPrivileges"] = given;
        });
        let status = bundle.run()?.success()?.text();
        assert_eq!(status_field(&status, "NoNewPrivs")?, seen);
    }
    Ok(())
}

fn cwd() -> Result {
    let bundle = Bundle::linux(&["pwd"])?.directory("/some/where")?.cwd("/some/where");
    assert_eq!(bundle.run()?.success()?.text(), "/some/where\n");
    let bundle = Bundle::linux(&["./tool"])?.file("/app/tool", b"#!/bin/sh\npwd\n")?.cwd("/app");
    assert_eq!(bundle.run()?.success()?.text(), "/app\n");
    Ok(())
}

/// CVE-2024-21626: a working directory that is a descriptor the runtime has open.
fn cwd_of_the_host_is_refused() -> Result {
    for number in 3..20 {
        let cwd = format!("/proc/self/fd/{number}");
        let bundle = Bundle::sh("pwd; ls /")?.cwd(&cwd);
        let create = bundle.make("create", &[])?.after_shell("exec 7</ 8</etc");
        let output = create.run()?;
        bundle.runtime("delete").args(["--force", &bundle.id]).run()?.success()?;
        assert_ne!(output.code, 0, "{cwd} was accepted");
    }
    Ok(())
}

fn oom_score() -> Result {
    let bundle = Bundle::linux(&["cat", "/proc/self/oom_score_adj"])?;
    let bundle = bundle.edit(|config| config["process"]["oomScoreAdj"] = json!(321));
    assert_eq!(bundle.run()?.success()?.text(), "321\n");
    Ok(())
}

//! Arguments, environment, working directory, memory, randomness: the guest's view.

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;

use super::PROBES;
use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::guests::{Guest, PROBE, source};
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["wasm": runs_modules_text_and_components, runs_modules_of_wasis_predecessor, args_are_exact, env_is_exact,
        pwd_is_added_only_when_missing, initial_cwd, nothing_runs_before_start, exported_function,
        memory_limit_is_seen_by_the_guest, hooks_and_hostname_are_as_for_linux,
        states_from_create_to_delete, pause_and_resume]
}

fn runs_modules_text_and_components() -> Result {
    for guest in [Guest::Wat("hello"), Guest::WatText("hello")] {
        for path in ["/hello.wasm", "/hello.wat", "/hello"] {
            // Text is only text until its name says otherwise.
            if guest == Guest::WatText("hello") && path != "/hello.wat" {
                continue;
            }
            assert_eq!(
                Bundle::wasm(&guest, &[path])?.run()?.success()?.text(),
                "hello\n",
                "{path}"
            );
        }
    }
    for probe in PROBES {
        let output = Bundle::wasm(&probe, &["/probe.wasm"])?.run()?.success()?;
        assert_eq!(output.text(), "[/probe.wasm]\n");
    }
    Ok(())
}

fn runs_modules_of_wasis_predecessor() -> Result {
    for (name, code, printed) in [("hello", 0, "hello\n"), ("exit", 142, "")] {
        let text = fs::read_to_string(source(&format!("{name}.wat")))?;
        let text = text.replace("wasi_snapshot_preview1", "wasi_unstable");
        let text = text.replace("(i32.const 42)", "(i32.const 142)");
        let wasm = wat::parse_str(text).map_err(|error| error.to_string())?;
        let output =
            Bundle::empty(&["/old.wasm"])?.file("/old.wasm", &wasm)?.run()?.expect(code)?;
        assert_eq!(output.text(), printed, "{name}");
    }
    Ok(())
}

fn args_are_exact() -> Result {
    let args = ["/probe.wasm", "args", "", " a  b ", "--flag=x", "ü\tt", "$HOME"];
    for probe in PROBES {
        let output = Bundle::wasm(&probe, &args)?.run()?.success()?;
        let expected = args.map(|arg| format!("[{arg}]"));
        assert_eq!(output.lines(), expected, "{probe:?}");
    }
    Ok(())
}

fn env_is_exact() -> Result {
    let env = ["PATH=/bin", "A=1", "EMPTY=", "SPACE=a  b", "EQUALS=a=b", "UTF=ä"];
    for probe in PROBES {
        let bundle = Bundle::wasm(&probe, &["/probe.wasm", "env"])?.env(&env);
        let run = bundle.make("run", &[])?.env("HOST_VARIABLE", "leak");
        assert_eq!(run.run()?.success()?.lines(), env, "{probe:?}");
        let none = Bundle::wasm(&probe, &["/probe.wasm", "env"])?.env(&[]);
        assert_eq!(none.run()?.success()?.text(), "", "{probe:?}");
    }
    Ok(())
}

fn pwd_is_added_only_when_missing() -> Result {
    let env = |cwd: &str, env: &[&str]| -> Result<Vec<String>> {
        let bundle = Bundle::wasm(&PROBE, &["/probe.wasm", "env"])?.directory("/app")?;
        Ok(bundle.env(env).cwd(cwd).run()?.success()?.lines())
    };
    assert_eq!(env("/", &["A=1"])?, ["A=1"]);
    let mut added = env("/app", &["A=1"])?;
    added.sort();
    assert_eq!(added, ["A=1", "PWD=/app"]);
    assert_eq!(env("/app", &["PWD=/mine", "A=1"])?, ["PWD=/mine", "A=1"]);
    Ok(())
}

fn initial_cwd() -> Result {
    for cwd in ["/", "/app/deep"] {
        let bundle = Bundle::wasm(&Guest::Wat("cwd-component"), &["/cwd.wasm"])?;
        let bundle = bundle.directory("/app/deep")?.cwd(cwd);
        bundle.run()?.expect(i32::try_from(cwd.len())?)?;
    }
    Ok(())
}

fn nothing_runs_before_start() -> Result {
    let container = Container::create(Bundle::wasm(&Guest::Wat("start-section"), &["/s.wasm"])?)?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(container.stdout()?, "", "the start section ran at create");
    container.start()?;
    assert_eq!(container.wait()?, 0);
    assert_eq!(container.stdout()?, "start section\n");
    container.delete()
}

fn exported_function() -> Result {
    let reactor = |function: &str| {
        let bundle = Bundle::wasm(&Guest::Wat("reactor"), &["/reactor.wasm"])?;
        bundle.args(&[&format!("/reactor.wasm#{function}")]).run()
    };
    assert_eq!(reactor("work")?.success()?.text(), "initialized\ncalled\n");
    assert_eq!(reactor("fail")?.expect(9)?.text(), "initialized\n");
    let output = reactor("nosuch")?;
    output.refused("nosuch")?;
    Ok(())
}

fn memory_limit_is_seen_by_the_guest() -> Result {
    let limit = 64 << 20;
    for probe in PROBES {
        let bundle = Bundle::wasm(&probe, &["/probe.wasm", "grow"])?.edit(|config| {
            config["linux"]["resources"]["memory"] = json!({"limit": limit, "swap": limit});
        });
        let text = bundle.run()?.success()?.text();
        let taken = text.strip_prefix("refused after ").and_then(|rest| rest.split(' ').next());
        let taken: u32 = taken.ok_or_else(|| format!("{probe:?}: {text:?}"))?.parse()?;
        assert!((8..64).contains(&taken), "{probe:?}: {text}");
    }
    Ok(())
}

fn hooks_and_hostname_are_as_for_linux() -> Result {
    let dir = crate::harness::suite::new_dir("hooks")?;
    let script = |name: &str| format!("cat >{}/{name}", dir.display());
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm", "nap"])?;
    let bundle = bundle.hook("createRuntime", &script("createRuntime"));
    bundle.hook("poststop", &script("poststop")).run()?.success()?;
    for name in ["createRuntime", "poststop"] {
        assert!(std::fs::read_to_string(dir.join(name))?.contains("\"id\""), "{name}");
    }
    Ok(())
}

fn states_from_create_to_delete() -> Result {
    let container = Container::create(Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])?)?;
    assert_eq!(container.status()?, "created");
    container.start()?;
    container.wait_for("ready")?;
    assert_eq!(container.status()?, "running");
    container.kill("KILL")?;
    assert_eq!(container.wait()?, 137);
    assert_eq!(container.status()?, "stopped");
    container.delete()
}

fn pause_and_resume() -> Result {
    let container = Container::start_new(Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])?)?;
    container.wait_for("ready")?;
    container.cmd("pause", &[]).run()?.success()?;
    assert_eq!(container.status()?, "paused");
    container.cmd("resume", &[]).run()?.success()?;
    assert_eq!(container.status()?, "running");
    container.finish()
}

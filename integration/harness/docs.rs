//! The commands that the documentation shows, run as they stand there.

use std::fs;

use super::command::Cmd;
use super::guests::Guest;
use super::{Result, audit, runtime, suite};

/// Runs each block of the page that follows `<!-- trial: NAME -->`. `tool` is what the block calls
/// by that name; `runwasm` is ours. Lines that begin with `# ` are what the output must have. The
/// directory holds `app.wasm`, `data` and `linux.tar`; `my-app` stands for a container's id.
pub fn run(page: &str, name: &str, tool: &str, command: &Cmd) -> Result {
    let text = fs::read_to_string(suite::repository().join(page))?;
    let comment = format!("<!-- trial: {name} -->\n```sh\n");
    let blocks: Vec<_> = text.split(&comment).skip(1).collect();
    assert!(!blocks.is_empty(), "{page} has no trial for {name}");
    for block in blocks {
        let script = block.split("\n```").next().unwrap_or_default();
        run_block(script, tool, command).map_err(|failed| {
            format!("{page}:\n{script}\n{}", failed.message().unwrap_or_default())
        })?;
    }
    Ok(())
}

fn run_block(script: &str, tool: &str, command: &Cmd) -> Result {
    let dir = suite::new_dir("docs")?;
    let linux = suite::repository().join("target/images/busybox.tar");
    fs::copy(&linux, dir.join("linux.tar"))
        .map_err(|error| format!("{}: {error}; run `make images`", linux.display()))?;
    let app = suite::repository().join("target/rootfs/hello-rust/hello.wasm");
    fs::copy(&app, dir.join("app.wasm"))
        .map_err(|error| format!("{}: {error}; run `make images`", app.display()))?;
    fs::create_dir(dir.join("data"))?;
    fs::write(dir.join("data/file"), Guest::Wat("exit").bytes()?)?;
    let id = suite::unique_id();
    let functions = format!(
        "{tool}() {{ command {} \"$@\"; }}\nrunwasm() {{ {} \"$@\"; }}\n",
        command.line(),
        runtime::path().display()
    );
    let text = functions + &script.replace("my-app", &id);
    let cmd = Cmd::new("sh").args(["-euc", &text]).current_dir(&dir).like_variables(command);
    let output = cmd.env("TMPDIR", &dir).run()?.success()?;
    for wanted in script.lines().filter_map(|line| line.strip_prefix("# ")) {
        assert!(
            output.lines().iter().any(|line| line == wanted || line.starts_with(wanted)),
            "no line {wanted:?} in:\n{}",
            output.text()
        );
    }
    audit::nothing_left_of(&id)
}

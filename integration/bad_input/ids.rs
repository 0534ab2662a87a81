//! Container ids that are no names, and names of containers that are not there.

use std::fs;

use libtest_mimic::Trial;

use super::well_told;
use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::{Result, audit, trials};

pub fn tests() -> Vec<Trial> {
    trials!["bad_input": invalid_ids, duplicate_id, unknown_id]
}

fn invalid_ids() -> Result {
    let long = "a".repeat(4096);
    for id in ["", ".", "..", "a/b", "../escape", "/", "a b", "a\nb", "ä", &long] {
        let bundle = Bundle::sleeper()?;
        bundle.write()?;
        let create = bundle.runtime("create").arg("--bundle").arg(bundle.dir()).args(["--", id]);
        let output = create.run()?;
        let log = fs::read_to_string(bundle.log_file()).unwrap_or_default();
        let told = well_told(&output, &log, "id");
        told.map_err(|failed| format!("{id:?}: {}", failed.message().unwrap_or_default()))?;
        audit::is_empty(&bundle.state_root())?;
        audit::nothing_left_of(&bundle.id)?;
        assert!(!bundle.dir().join("escape").exists());
    }
    Ok(())
}

fn duplicate_id() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    for command in ["create", "run"] {
        fs::write(container.bundle.log_file(), "")?;
        let output = container.bundle.make(command, &[])?.run()?;
        let log = fs::read_to_string(container.bundle.log_file())?;
        well_told(&output, &log, "container with given ID already exists")?;
        output.refused("container with given ID already exists")?;
    }
    assert_eq!(container.status()?, "running");
    container.finish()
}

fn unknown_id() -> Result {
    let bundle = Bundle::sleeper()?;
    let commands: [&[&str]; 9] = [
        &["state"],
        &["start"],
        &["kill"],
        &["delete"],
        &["exec"],
        &["pause"],
        &["resume"],
        &["ps"],
        &["update", "--resources", "-"],
    ];
    for command in commands {
        let cmd = bundle.runtime(command[0]).args(&command[1..]).arg(&bundle.id);
        let cmd = if command[0] == "exec" { cmd.arg("true") } else { cmd };
        let output = cmd.input("{}").run()?.refused("container does not exist")?;
        let log = fs::read_to_string(bundle.log_file())?;
        well_told(&output, &log, "container does not exist")?;
        fs::remove_file(bundle.log_file())?;
    }
    audit::is_empty(&bundle.state_root())
}

//! Memory that containers share: the code of their module, and that of the runtime they run in.

use std::fs;

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::guests::PROBE;
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["memory": containers_of_one_module_share_its_code, runtime_has_few_pages_of_its_own]
}

/// How many containers run the same module.
const CONTAINERS: u64 = 4;

/// What /proc/PID/smaps says of some mappings, in kB.
#[derive(Debug, Default)]
struct Memory {
    resident: u64,
    /// What is resident divided by how many processes share it, page by page.
    proportional: u64,
    written: u64,
}

impl Memory {
    /// The sums over the mappings of `pid` that are chosen by permissions and file.
    fn of(pid: i32, chosen: impl Fn(&str, &str) -> bool) -> Result<Self> {
        let mut sum = Self::default();
        let mut counts = false;
        for line in fs::read_to_string(format!("/proc/{pid}/smaps"))?.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (words[0], words.get(1)) {
                // A mapping: addresses, permissions, offset, device, inode and perhaps a file.
                (first, Some(permissions)) if first.contains('-') => {
                    counts = chosen(permissions, words.get(5).unwrap_or(&""));
                }
                ("Rss:", Some(value)) if counts => sum.resident += value.parse::<u64>()?,
                ("Pss:", Some(value)) if counts => sum.proportional += value.parse::<u64>()?,
                ("Private_Dirty:", Some(value)) if counts => sum.written += value.parse::<u64>()?,
                _ => {}
            }
        }
        Ok(sum)
    }
}

fn sleeping() -> Result<Container> {
    let container = Container::start_new(Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])?)?;
    container.wait_for("ready")?;
    Ok(container)
}

fn containers_of_one_module_share_its_code() -> Result {
    let containers = (0..CONTAINERS).map(|_| sleeping()).collect::<Result<Vec<_>>>()?;
    for container in &containers {
        // The part of the artefact that the guest writes to is its own.
        let code = Memory::of(container.pid()?, |permissions, file| {
            file.starts_with("/var/lib/runwasm/cache/") && !permissions.contains('w')
        })?;
        assert!(code.resident > 0, "no artefact is mapped: {code:?}");
        assert_eq!(code.written, 0, "{code:?}");
        // All touch the same pages, but for the few that one has needed so far and another not.
        assert!(code.proportional <= code.resident / CONTAINERS * 3 / 2, "{code:?}");
    }
    containers.iter().try_for_each(Container::finish)
}

/// A position-independent binary would have a megabyte of pages of its own in each container.
fn runtime_has_few_pages_of_its_own() -> Result {
    let container = sleeping()?;
    let binary = Memory::of(container.pid()?, |_, file| file.ends_with("/runwasm"))?;
    assert!(binary.resident > 0, "the binary is not mapped");
    assert!(binary.written <= 256, "{binary:?}");
    container.finish()
}

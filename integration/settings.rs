//! Settings: the configuration file, `--set` and annotations.

use std::fs;

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::guests::PROBE;
use crate::harness::{Result, suite, trials};

pub fn our_tests() -> Vec<Trial> {
    trials!["settings": the_stronger_source_wins, unknown_settings_are_named]
}

/// How many MiB a guest gets with these settings.
fn granted(bundle: impl FnOnce(Bundle) -> Bundle) -> Result<u32> {
    let text = bundle(Bundle::wasm(&PROBE, &["/probe.wasm", "grow"])?).run()?.success()?.text();
    let taken = text.strip_prefix("refused after ").and_then(|rest| rest.split(' ').next());
    Ok(taken.ok_or_else(|| format!("{text:?}"))?.parse()?)
}

fn with_file(text: &str) -> Result<impl Fn(Bundle) -> Bundle> {
    let file = suite::new_dir("config")?.join("config.toml");
    fs::write(&file, text)?;
    let file = file.to_string_lossy().into_owned();
    Ok(move |mut bundle: Bundle| {
        bundle.options.extend(["--config".to_owned(), file.clone()]);
        bundle
    })
}

fn the_stronger_source_wins() -> Result {
    let file = with_file("[guest]\nmemory = \"64MiB\"\n")?;
    let file = granted(file)?;
    assert!((40..64).contains(&file), "{file}");
    let low = with_file("[guest]\nmemory = \"64MiB\"\n")?;
    let option = granted(|bundle| low(bundle).setting("guest.memory=32MiB"))?;
    assert!((16..32).contains(&option), "{option}");
    let annotated = granted(|bundle| {
        low(bundle).setting("guest.memory=32MiB").annotation("runwasm.guest.memory", "16MiB")
    })?;
    assert!((4..16).contains(&annotated), "{annotated}");
    Ok(())
}

fn unknown_settings_are_named() -> Result {
    let bundle = || Bundle::wasm(&PROBE, &["/probe.wasm", "args"]);
    let refused = |bundle: Bundle, text: &str| bundle.create_fails()?.refused(text);
    refused(bundle()?.setting("guest.memroy=1"), "--set guest.memroy=1: unknown field `memroy`")?;
    refused(bundle()?.annotation("runwasm.memory", "1"), "annotation runwasm.memory")?;
    refused(bundle()?.annotation("runwasm.cache.size", "1"), "annotation runwasm.cache.size")?;
    let file = with_file("[cache]\n\nsiez = 1\n")?;
    refused(file(bundle()?), "config.toml, line 3: unknown field `siez`")?;
    Ok(())
}

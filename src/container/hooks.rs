//! Hooks that this runtime runs itself, since libcontainer stops at the first that fails and does
//! not say which.

use std::collections::HashMap;

use libcontainer::container::State;
use libcontainer::hooks::run_hooks;
use oci_spec::runtime::{Hook, Hooks, Spec};

use crate::error::{Context, Error, ErrorKind, Result};

/// Runs the hooks of `kind` one after the other until one fails.
///
/// # Errors
/// Naming the hook that failed.
pub fn run(
    kind: &str,
    hooks: &[Hook],
    state: &State,
    env: Option<&HashMap<String, String>>,
) -> Result<()> {
    for hook in hooks {
        run_hooks(Some(&vec![hook.clone()]), Some(state), None, None, env)
            .context(ErrorKind::Os, || format!("{kind} hook {}", hook.path().display()))?;
    }
    Ok(())
}

/// Runs all hooks of `kind`, whatever they return: the runtime spec makes a failure of poststart
/// and poststop hooks a warning.
pub fn run_all(kind: &str, hooks: Option<&Vec<Hook>>, state: &State) {
    for hook in hooks.into_iter().flatten() {
        if let Err(error) = run(kind, std::slice::from_ref(hook), state, None) {
            log::warn!("{error}");
        }
    }
}

/// Checks that the programs of hooks that run outside the container are there.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] naming the hook.
pub fn check(spec: &Spec) -> Result<()> {
    for (kind, hooks) in outside(spec.hooks().as_ref()) {
        for (i, hook) in hooks.iter().enumerate() {
            if !hook.path().exists() {
                return Err(Error::invalid(format!(
                    "hooks.{kind}[{i}]: {} does not exist: no such file or directory",
                    hook.path().display()
                )));
            }
        }
    }
    Ok(())
}

/// Adds to a failure of libcontainer's hooks which programs it can have been.
pub fn name_in(error: Error, hooks: Option<&Hooks>) -> Error {
    let text = error.to_string();
    // libcontainer writes the kinds as words.
    let words = [
        ("prestart hooks", "prestart"),
        ("create runtime hooks", "createRuntime"),
        ("create container hooks", "createContainer"),
    ];
    let Some((_, kind)) = words.iter().find(|(words, _)| text.contains(words)) else {
        return error;
    };
    let paths: Vec<String> = outside(hooks)
        .into_iter()
        .filter(|(name, _)| name == kind)
        .flat_map(|(_, hooks)| hooks.iter().map(|hook| hook.path().display().to_string()))
        .collect();
    Error::new(error.kind(), format!("hooks.{kind} ({}): {text}", paths.join(", ")))
}

/// The kinds whose paths are resolved in the runtime's mount namespace (runtime-spec,
/// `config.md#posix-platform-hooks`).
fn outside(hooks: Option<&Hooks>) -> Vec<(&'static str, &Vec<Hook>)> {
    let Some(hooks) = hooks else {
        return Vec::new();
    };
    let kinds = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    kinds.into_iter().filter_map(|(kind, hooks)| Some((kind, hooks.as_ref()?))).collect()
}

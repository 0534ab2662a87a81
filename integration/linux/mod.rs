//! Linux containers: what the runtime specification says, no more. runc passes all of it.

mod cgroups;
mod files;
mod hooks;
mod namespaces;
mod paths;
mod process;
mod rootless;
mod seccomp;

use libtest_mimic::Trial;

/// What every OCI runtime does.
pub fn tests() -> Vec<Trial> {
    let modules = [
        cgroups::tests(),
        files::tests(),
        hooks::tests(),
        namespaces::tests(),
        paths::tests(),
        process::tests(),
        rootless::tests(),
        seccomp::tests(),
    ];
    modules.into_iter().flatten().collect()
}

/// What the specification says and runc 1.1 does not do.
pub fn our_tests() -> Vec<Trial> {
    hooks::our_tests()
}

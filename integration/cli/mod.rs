//! The command line: each command does what runc's does.

mod console;
mod descriptors;
mod exec;
mod lifecycle;
mod report;
mod run;

use libtest_mimic::Trial;

/// What every OCI runtime with runc's command line does.
pub fn tests() -> Vec<Trial> {
    let modules = [
        console::tests(),
        descriptors::tests(),
        exec::tests(),
        lifecycle::tests(),
        report::tests(),
        run::tests(),
    ];
    modules.into_iter().flatten().collect()
}

/// What only ours does.
pub fn our_tests() -> Vec<Trial> {
    let modules =
        [console::our_tests(), descriptors::our_tests(), report::our_tests(), run::our_tests()];
    modules.into_iter().flatten().collect()
}

//! One verb a file, on libcontainer.
//!
//! libcontainer's builders read `config.json` from disk and cannot be handed a changed spec, skip
//! seccomp for exec'd processes, and let failing hooks block deletion; so this module drives its
//! process layer ([`libcontainer::process`]) itself. It must be called from a process with a
//! single thread, since libcontainer clones it.

pub mod cgroup;
pub mod cgroup_mounts;
pub mod checks;
pub mod console;
pub mod create;
pub mod delete;
pub mod diagnosis;
pub mod direct;
pub mod exec;
pub mod executor;
pub mod foreground;
pub mod hierarchies;
pub mod hooks;
pub mod kill;
pub mod launch;
pub mod linux;
pub mod network;
pub mod pause;
pub mod propagation;
pub mod start;
pub mod state;
pub mod unified;
pub mod update;
pub mod wasm;
pub mod without_proc;

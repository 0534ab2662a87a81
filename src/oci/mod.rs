//! What the OCI runtime spec says about a container: the bundle, the decision wasm or Linux, and
//! what a wasm guest sees of it. Knows the spec and no engine.

pub mod annotations;
pub mod bundle;
pub mod guest;
pub mod mounts;
pub mod rootfs;
pub mod wasm_file;
pub mod workload;

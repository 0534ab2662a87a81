//! The annotations that decide how a container runs.

/// Set by containerd's CRI and by CRI-O: `sandbox` for a pod's pause container.
pub const CRI_CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
/// crun's handler annotation (crun `src/libcrun/custom-handler.c`).
pub const HANDLER: &str = "run.oci.handler";
/// The image annotation of the "compat" variant (crun `src/libcrun/handlers/handler-utils.c`).
pub const VARIANT: &str = "module.wasm.image/variant";
/// Before the name of a setting, see [`crate::config`].
pub const PREFIX: &str = "runwasm.";
/// For the shim: the image of a container that was made without one.
pub const ARTIFACT: &str = "runwasm.artifact";
/// Added to `state`: `wasm` or `linux`.
pub const WORKLOAD: &str = "runwasm.workload";
/// Added to `state`: why it is wasm or Linux.
pub const WORKLOAD_REASON: &str = "runwasm.workload.reason";

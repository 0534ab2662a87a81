//! `state`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::container::state::Container;
use crate::error::{Context, Result};
use crate::oci::annotations::{WORKLOAD, WORKLOAD_REASON};

/// The state of a container as runc prints it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateView {
    oci_version: String,
    id: String,
    /// 0 when stopped, as in runc.
    pid: i32,
    status: &'static str,
    bundle: PathBuf,
    rootfs: PathBuf,
    created: Option<chrono::DateTime<chrono::Utc>>,
    annotations: BTreeMap<String, String>,
    owner: String,
}

impl StateView {
    /// What `state` and `list` print of `container`.
    pub fn new(container: &Container) -> Self {
        let state = &container.inner.state;
        let mut annotations: BTreeMap<_, _> =
            state.annotations.clone().unwrap_or_default().into_iter().collect();
        annotations.insert(WORKLOAD.to_owned(), container.record.workload.clone());
        annotations.insert(WORKLOAD_REASON.to_owned(), container.record.reason.clone());
        let owner = state.creator.map(|uid| {
            let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
            user.map_or_else(|| format!("#{uid}"), |user| user.name)
        });
        Self {
            oci_version: state.oci_version.clone(),
            id: state.id.clone(),
            pid: container.init().unwrap_or_default(),
            status: container.status().as_str(),
            bundle: state.bundle.clone(),
            rootfs: container.record.rootfs.clone(),
            created: state.created,
            annotations,
            owner: owner.unwrap_or_default(),
        }
    }

    /// The columns of `list`.
    pub fn columns(&self) -> [String; 6] {
        [
            self.id.clone(),
            self.pid.to_string(),
            self.status.to_owned(),
            self.bundle.display().to_string(),
            self.created.map(|time| time.to_rfc3339()).unwrap_or_default(),
            self.owner.clone(),
        ]
    }
}

/// Prints the state as JSON.
///
/// # Errors
/// When standard output is closed.
pub fn state(container: &Container) -> Result<()> {
    print_json(&StateView::new(container))
}

/// Prints `value` as indented JSON.
///
/// # Errors
/// When standard output is closed.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    use std::io::Write;
    let text = serde_json::to_string_pretty(value).os(|| "encode JSON")?;
    writeln!(std::io::stdout(), "{text}").os(|| "write to standard output")
}

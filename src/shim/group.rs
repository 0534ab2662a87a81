//! Which containers share a shim.

use std::path::Path;

use crate::error::Result;
use crate::shim::spec::Config;

/// The annotations that name a group, the strongest first.
const ANNOTATIONS: [&str; 2] = ["io.kubernetes.cri.sandbox-id", "io.containerd.runc.v2.group"];

/// The group of the container `id`, from the annotations in its bundle: one shim a pod, and one
/// shim a container outside pods.
pub fn of_bundle(bundle: &Path, id: &str) -> Result<String> {
    let config = Config::read(bundle)?;
    let group = ANNOTATIONS.iter().find_map(|name| config.annotations.get(*name));
    Ok(group.filter(|group| !group.is_empty()).map_or(id, String::as_str).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(config: &str) -> Result<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        of_bundle(dir.path(), "me")
    }

    #[test]
    fn a_pod_is_a_group_then_the_label_then_the_container() {
        let both = r#"{"annotations":{"io.containerd.runc.v2.group":"g",
                       "io.kubernetes.cri.sandbox-id":"pod"}}"#;
        assert_eq!(group(both).unwrap(), "pod");
        let label = r#"{"annotations":{"io.containerd.runc.v2.group":"g"}}"#;
        assert_eq!(group(label).unwrap(), "g");
        assert_eq!(group(r#"{"ociVersion":"1.0.2"}"#).unwrap(), "me");
        assert_eq!(group(r#"{"annotations":{"io.containerd.runc.v2.group":""}}"#).unwrap(), "me");
    }

    #[test]
    fn a_bundle_without_a_readable_config_is_an_error_that_names_it() {
        assert!(group("{").unwrap_err().to_string().contains("config.json"));
        let dir = tempfile::tempdir().unwrap();
        assert!(of_bundle(dir.path(), "me").unwrap_err().to_string().contains("config.json"));
    }
}

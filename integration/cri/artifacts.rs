//! Wasm OCI artifacts in pods: nothing is unpacked, and no annotation is needed.

use libtest_mimic::Trial;

use crate::client::{Pod, container};
use crate::harness::{Result, suite, trials};
use crate::server::{ctr, socket};

pub fn our_tests() -> Vec<Trial> {
    trials!["artifacts": the_command_names_the_layer]
}

/// The example, under a name as a registry gives it.
fn the_command_names_the_layer() -> Result {
    let archive = suite::repository().join("target/images/artifact.tar");
    if !archive.exists() {
        return Err(format!("{} is missing: run `make images` first", archive.display()).into());
    }
    let pod = Pod::run()?;
    let import = ctr(&socket()?).args(["image", "import", "--no-unpack"]).arg(archive);
    import.run()?.success()?;
    let image = "localhost/artifact:latest";
    for (program, wanted) in [("greet.wasm", "hello, pod\n"), ("/part.wasm", "goodbye, pod\n")] {
        let output = pod.output(&container(image, &[program, "pod"]))?.success()?;
        assert_eq!(output.text(), wanted);
    }
    let refused = pod.start(&container(image, &["/other.wasm"])).err();
    let message = refused.as_ref().and_then(|failed| failed.message()).unwrap_or_default();
    assert!(message.contains("names none of its files: greet.wasm, part.wasm"), "{message}");
    pod.remove()
}

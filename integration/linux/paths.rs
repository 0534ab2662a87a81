//! Masked and read-only paths, and images that try to lead the runtime astray with links.

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;

use crate::harness::bundle::Bundle;
use crate::harness::{Result, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["linux": masked_paths, readonly_paths, default_masks, missing_masked_paths_are_no_error,
        mount_target_link_stays_inside, dev_null_link_cannot_redirect_a_mask]
}

fn masked_paths() -> Result {
    let script = "cat /secret | wc -c; ls /hidden | wc -l; echo x >/hidden/new; echo $?";
    let bundle = Bundle::sh(script)?.writable();
    let bundle = bundle.file("/secret", b"password")?.file("/hidden/file", b"password")?;
    let bundle =
        bundle.edit(|config| config["linux"]["maskedPaths"] = json!(["/secret", "/hidden"]));
    assert_eq!(bundle.run()?.success()?.text(), "0\n0\n1\n");
    Ok(())
}

fn readonly_paths() -> Result {
    let script = "cat /fixed/file; echo x >/fixed/file; echo $?; echo x >/fixed/new; echo $?; \
        echo x >/free && echo free";
    let bundle = Bundle::sh(script)?.writable().file("/fixed/file", b"content\n")?;
    let bundle = bundle.edit(|config| config["linux"]["readonlyPaths"] = json!(["/fixed"]));
    assert_eq!(bundle.run()?.success()?.text(), "content\n1\n1\nfree\n");
    Ok(())
}

fn default_masks() -> Result {
    let bundle = Bundle::sh(
        "for path in \"$@\"; do { cat $path || ls $path; } 2>/dev/null; done; \
        echo x >/proc/sys/kernel/domainname",
    )?;
    let masked = bundle.config["linux"]["maskedPaths"].as_array().cloned().unwrap_or_default();
    let masked: Vec<&str> = masked.iter().filter_map(|path| path.as_str()).collect();
    // Which of them a kernel has differs; this one has some, or the trial shows nothing.
    let on_host = |path: &&str| fs::read_dir(path).is_ok_and(|mut dir| dir.next().is_some());
    assert!(masked.iter().any(on_host), "nothing to mask in {masked:?}");
    assert!(masked.contains(&"/proc/keys") && masked.contains(&"/proc/kcore"), "{masked:?}");
    let script = bundle.config["process"]["args"][2].as_str().unwrap_or_default().to_owned();
    let args = [&["sh", "-c", &script, "sh"], &masked[..]].concat();
    let output = bundle.args(&args).run()?.expect(1)?;
    assert_eq!(output.text(), "", "a masked path shows something");
    assert!(output.stderr.contains("Read-only file system"), "{}", output.stderr);
    Ok(())
}

fn missing_masked_paths_are_no_error() -> Result {
    let bundle = Bundle::sh("echo fine")?.edit(|config| {
        config["linux"]["maskedPaths"] = json!(["/no/such/path"]);
        config["linux"]["readonlyPaths"] = json!(["/nor/this"]);
    });
    assert_eq!(bundle.run()?.success()?.text(), "fine\n");
    Ok(())
}

/// CVE-2021-30465 and its kin: the target of a mount is resolved inside the root.
fn mount_target_link_stays_inside() -> Result {
    let outside = suite::new_dir("outside")?;
    let up = format!("../../../../../../../..{}", outside.display());
    let bundle = Bundle::sh("cat /absolute/sub/file /relative/other/file; exit 3")?
        .link("/absolute", &outside.to_string_lossy())?
        .link("/relative", &up)?
        .writable();
    let shared = suite::new_dir("shared")?;
    fs::write(shared.join("file"), "content\n")?;
    let bundle = bundle.bind(&shared, "/absolute/sub", "ro").bind(&shared, "/relative/other", "ro");
    let output = bundle.run()?;
    // A runtime may refuse such a target or follow it inside the root, never outside.
    if output.code == 3 {
        assert_eq!(output.text(), "content\ncontent\n");
    }
    let made = fs::read_dir(&outside)?.count();
    assert_eq!(made, 0, "a directory was made on the host");
    Ok(())
}

/// CVE-2025-31133: /dev/null of the image is a link, and a mask bind-mounts it.
fn dev_null_link_cannot_redirect_a_mask() -> Result {
    let script = "cat /secret | wc -c; cat /proc/sys/kernel/core_pattern >/dev/null; \
        echo '|/evil' >/secret; echo '|/evil' >/dev/null; exit 3";
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    let bundle = Bundle::sh(script)?.file("/secret", b"password")?;
    let bundle = bundle.link("/dev/null", "/proc/sys/kernel/core_pattern")?.edit(|config| {
        config["linux"]["maskedPaths"] = json!(["/secret"]);
    });
    bundle.run()?.expect(3)?;
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern")?, before);
    Ok(())
}

//! A registry on this machine with images that look like those that critest pulls, under the
//! names that it knows.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::bundle::install_busybox;
use crate::harness::command::{Cmd, Running};
use crate::harness::{PATIENCE, Result, eventually, suite};
use crate::images::buildah;

/// What every image has. `sleep` is for those that are run without a command.
const BASE: &str = "FROM scratch\nCOPY . /\nENV PATH=/bin\nCMD [\"sleep\", \"1000\"]\n";

/// What an image has besides, and its names without the registry.
const IMAGES: &[(&str, &[&str])] = &[
    ("", &["e2e-test-images/busybox:1.29-2"]),
    (
        "CMD [\"nginx\", \"master process\", \"80\"]",
        &["e2e-test-images/nginx:1.14-2", "e2e-test-images/httpd:2.4.39-4"],
    ),
    (
        "CMD [\"nginx\", \"master process\", \"12003\"]",
        &[
            "k8s-staging-cri-tools/hostnet-nginx-amd64:latest",
            "k8s-staging-cri-tools/hostnet-nginx-arm64:latest",
        ],
    ),
    // Without --chmod buildah takes the bit away.
    (
        "COPY --chmod=4755 bin/nonewprivs /bin/\nCMD [\"nonewprivs\"]",
        &["e2e-test-images/nonewprivs:1.3"],
    ),
    ("USER 1002", &["k8s-staging-cri-tools/test-image-user-uid:latest"]),
    ("USER www-data", &["k8s-staging-cri-tools/test-image-user-username:latest"]),
    ("USER 1003:1004", &["k8s-staging-cri-tools/test-image-user-uid-group:latest"]),
    ("USER www-data:1004", &["k8s-staging-cri-tools/test-image-user-username-group:latest"]),
    ("USER 1000", &["k8s-staging-cri-tools/test-image-predefined-group:latest"]),
    ("", &["k8s-staging-cri-tools/test-image-1:latest"]),
    ("", &["k8s-staging-cri-tools/test-image-2:latest"]),
    ("", &["k8s-staging-cri-tools/test-image-3:latest"]),
    ("", &["k8s-staging-cri-tools/test-image-latest:latest"]),
    ("", &["k8s-staging-cri-tools/test-image-tag:test"]),
    ("", &["k8s-staging-cri-tools/test-image-tag:all"]),
    (
        "",
        &[
            "k8s-staging-cri-tools/test-image-tags:1",
            "k8s-staging-cri-tools/test-image-tags:2",
            "k8s-staging-cri-tools/test-image-tags:3",
        ],
    ),
    ("", &["pause:3.9"]),
];

/// The files of the images besides busybox, each with its mode.
const FILES: &[(&str, u32, &str)] = &[
    // It is looked for by its name, its file and its command line.
    (
        "bin/nginx",
        0o755,
        "#!/bin/sh\ntrap 'kill $!; exit' TERM\necho $$ >/var/run/nginx.pid\n\
        echo httpd\nhttpd -f -p \"$2\" -h /srv &\nwait\n",
    ),
    // What the busybox of Debian lacks.
    ("bin/ipcs", 0o755, "#!/bin/sh\nexec cat /proc/sysvipc/shm\n"),
    ("bin/pgrep", 0o755, "#!/bin/sh\nexec pidof \"$1\"\n"),
    ("srv/index.html", 0o644, "hello\n"),
    ("var/run/.keep", 0o644, ""),
    ("tmp/.keep", 0o644, ""),
    (
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\n\
        nobody:x:65534:65534::/:/bin/false\ndefault-user:x:1000:1000::/:/bin/sh\n",
    ),
    (
        "etc/group",
        0o644,
        "root:x:0:\nwww-data:x:33:\ndefault-user:x:1000:\n\
        nogroup:x:65534:\ngroup-defined-in-image:x:50000:default-user\n",
    ),
];

/// The registry; it ends when dropped.
pub struct Registry {
    _process: Running,
}

impl Registry {
    /// Starts it, fills it, and writes below `hosts`, where containerd looks for it, that every
    /// image is to be had there.
    pub fn start(hosts: &Path) -> Result<Self> {
        let program = suite::repository().join("target/kubernetes/registry");
        let process =
            Cmd::new(program).args(["-port", "0"]).limit(super::critest::LIMIT).spawn()?;
        let port = eventually("the port of the registry", PATIENCE, || {
            let text = process.stderr()?;
            let line = text.lines().find_map(|line| line.split_once("serving on port "));
            Ok(line.map(|(_, port)| port.trim().to_owned()))
        })?;
        fill(&port)?;
        let dir = hosts.join("_default");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("hosts.toml"), format!("server = \"http://127.0.0.1:{port}\"\n"))?;
        Ok(Self { _process: process })
    }
}

fn fill(port: &str) -> Result {
    let dir = suite::new_dir("critest-images")?;
    let root = dir.join("root");
    fill_root(&root)?;
    for (number, (more, names)) in IMAGES.iter().enumerate() {
        // Each image is another, whatever it has in common with the rest.
        let recipe = format!("{BASE}LABEL number={number}\n{more}\n");
        let (file, tag) = (dir.join("Containerfile"), format!("localhost/critest-{number}"));
        fs::write(&file, recipe)?;
        let build = buildah(&dir).args(["build", "--quiet", "--layers", "--timestamp", "0"]);
        let build = build.args(["--tag", &tag]).arg("--file").arg(&file).arg(&root);
        build.run()?.success()?;
        for name in *names {
            let target = format!("docker://127.0.0.1:{port}/{name}");
            let push = buildah(&dir).args(["push", "--quiet", "--tls-verify=false", &tag, &target]);
            push.run()?.success()?;
        }
    }
    Ok(())
}

fn fill_root(root: &Path) -> Result {
    fs::create_dir(root)?;
    install_busybox(root)?;
    for (path, mode, text) in FILES {
        let file: PathBuf = root.join(path);
        fs::create_dir_all(file.parent().ok_or("a file lies in a directory")?)?;
        // Not into a link to busybox.
        drop(fs::remove_file(&file));
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    let source = suite::repository().join("integration/cri/nonewprivs.c");
    let compile = Cmd::new("cc").args(["-static", "-O2", "-Wall", "-Werror", "-o"]);
    compile.arg(root.join("bin/nonewprivs")).arg(source).run()?.success().map(drop)
}

"""A containerd of our own, with its own directories, socket and namespace."""

import glob
import os
import shutil
import signal
import subprocess
import time

import images
import measure

CONFIG = """version = 2
root = "{0}/root"
state = "{0}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{0}/s"
"""


class Containerd:
    """Runs while it is used in a `with` statement. Our shim is the first on its PATH."""

    def __init__(self, directory, binaries):
        self.directory = directory
        self.namespace = f"bench-{os.getpid()}"
        self.environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
        self.server = None
        self.base = [shutil.which("ctr"), "--address", f"{directory}/s",
                     "--namespace", self.namespace]
        os.makedirs(directory)

    def __enter__(self):
        config = os.path.join(self.directory, "config.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(self.directory))
        with open(os.path.join(self.directory, "log"), "wb") as log:
            self.server = subprocess.Popen(
                ["containerd", "--config", config], env=self.environment, stdout=log, stderr=log,
                start_new_session=True)
        for _ in range(100):
            if not subprocess.run(self.base + ["version"], capture_output=True).returncode:
                return self
            time.sleep(0.1)
        raise measure.Failed(f"containerd does not answer; its log: {self.directory}/log")

    def __exit__(self, *_):
        self.remove(self.ids())
        self.server.send_signal(signal.SIGTERM)
        self.server.wait()
        shutil.rmtree(os.path.join("/run/containerd/runwasm", self.namespace), ignore_errors=True)
        # The parent of the containers' cgroups, in each hierarchy.
        for pattern in ("/sys/fs/cgroup", "/sys/fs/cgroup/*"):
            for directory in glob.glob(os.path.join(pattern, self.namespace)):
                os.rmdir(directory)

    def load(self, bundle, program, arguments=()):
        """Makes the root file system of `bundle` an image. Returns its name."""
        name = f"bench.local/{os.path.basename(bundle)}:latest"
        path = os.path.join(self.directory, "image.tar")
        images.archive(os.path.join(bundle, "rootfs"), [f"/{program}", *arguments], name, path)
        measure.output(self.base + ["images", "import", "--snapshotter", "overlayfs", path])
        os.remove(path)
        return name

    def command(self, runtime, image, identity, *flags):
        """`ctr run` of `image` with the shim of `runtime`."""
        return self.base + ["run", "--runtime", runtime, "--snapshotter", "overlayfs", *flags,
                            image, identity]

    def ids(self):
        """All containers."""
        return measure.output(self.base + ["containers", "list", "--quiet"]).split()

    def remove(self, ids):
        """Ends and deletes containers."""
        if ids:
            subprocess.run(self.base + ["tasks", "delete", "--force", *ids], capture_output=True)
            measure.output(self.base + ["containers", "delete", *ids])

"""Bundles: what an OCI runtime is given, the same for every runtime."""

import json
import os
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))


class Guests:
    """The guest programs, each compiled twice from the same source: for Linux, linked statically,
    and for WASI 0.1."""

    def __init__(self, directory):
        self.directory = directory

    def path(self, name, wasm):
        """The program `name`, compiled on first use."""
        source = os.path.join(HERE, "guests", f"{name}.c")
        path = os.path.join(self.directory, f"{name}.wasm" if wasm else name)
        if not os.path.exists(path):
            compiler = ["clang", "--target=wasm32-wasi"] if wasm else ["cc", "-static"]
            flags = ["-O2", "-Wall", "-Werror", source, "-o", path]
            subprocess.run(compiler + flags, check=True)
        return path


class Bundles:
    """Makes bundles from what `runc spec` writes, which every OCI runtime understands."""

    def __init__(self, directory, guests, runc):
        self.directory = directory
        self.guests = guests
        os.makedirs(directory)
        subprocess.run([runc, "spec", "--bundle", directory], check=True)
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
            self.default = json.load(file)

    def make(self, name, wasm, arguments=()):
        """A bundle that runs the guest `name`. Returns its directory."""
        kind = "wasm" if wasm else "linux"
        return self.make_from(f"{kind}-{'-'.join((name, *arguments))}",
                              self.guests.path(name, wasm), arguments)

    def make_from(self, directory, program, arguments=(), cwd="/"):
        """A bundle called `directory` that runs the file `program`. It has a directory /data."""
        directory = os.path.join(self.directory, directory)
        rootfs = os.path.join(directory, "rootfs")
        if os.path.exists(directory):
            return directory
        os.makedirs(os.path.join(rootfs, "data"))
        entrypoint = os.path.basename(program)
        shutil.copy(program, rootfs)
        config = json.loads(json.dumps(self.default))
        config["process"].update(
            terminal=False, args=[f"/{entrypoint}", *arguments], cwd=cwd)
        config["root"]["readonly"] = False
        if entrypoint.endswith(".wasm"):
            # For runtimes that want to be told; runwasm looks at the file.
            config["annotations"] = {"run.oci.handler": "wasm"}
        with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        return directory

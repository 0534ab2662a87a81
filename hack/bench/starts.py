"""How fast containers start and go away."""

import os
import time
from dataclasses import dataclass

import lab
import measure

MS = 1000


@dataclass
class Shim:
    """A contender under containerd."""

    name: str
    runtime: str
    wasm: bool
    image: str = ""


def lifecycle(bench):
    """create, start, wait for the end, delete: what an engine does for each container."""
    title = "create + start + delete of a hello world"
    for name, text in [("lifecycle", title), ("create", "of these: create"),
                       ("start", "of these: start"), ("delete", "of these: delete")]:
        bench.result(name, text, "ms")
    pid_file = os.path.join(bench.directory, "pid")

    def once(contender, keep):
        directory = bench.bundles.make("hello", contender.wasm)
        base, identity = bench.base(contender), bench.identity()

        def step(name, *arguments):
            command = [*base, *arguments, identity]
            keep(name, measure.seconds(measure.run, command) * MS)

        begin = time.monotonic()
        step("create", "create", "--bundle", directory, "--pid-file", pid_file)
        with open(pid_file, encoding="utf-8") as file:
            pid = int(file.read())
        step("start", "start")
        measure.wait(pid, ["the container"])
        step("delete", "delete")
        keep("lifecycle", (time.monotonic() - begin) * MS)

    bench.interleave(bench.runtimes, once)


def run(bench):
    """The command line's `run`, in the foreground; and bare wasmtime, which makes no container."""
    bench.result("run", "`run` of a hello world", "ms")
    floor = lab.Contender(lab.FLOOR, bench.wasmtime, True)

    def once(contender, keep):
        if contender is floor:
            command = [floor.path, "run", bench.guests.path("hello", True)]
        else:
            directory = bench.bundles.make("hello", contender.wasm)
            command = bench.runtime(contender, "run", "--bundle", directory)
        environment = bench.wasmtime_environment
        keep("run", measure.seconds(lambda: measure.run(command, env=environment)) * MS)

    bench.interleave([*bench.runtimes, floor], once)


def shims(bench, daemon, guest):
    """The contenders under containerd, each with an image of `guest`."""
    contenders = [
        Shim(lab.WASM, "io.containerd.wasm.v1", True),
        Shim(lab.LINUX, "io.containerd.wasm.v1", False),
        Shim("runc", "io.containerd.runc.v2", False),
        *(Shim(name, name, True) for name in bench.shims),
    ]
    images = {}
    for contender in contenders:
        if contender.wasm not in images:
            directory = bench.bundles.make(guest, contender.wasm)
            program = f"{guest}.wasm" if contender.wasm else guest
            images[contender.wasm] = daemon.load(directory, program)
        contender.image = images[contender.wasm]
    return contenders


def containerd(bench, daemon):
    """`ctr run --rm`, one at a time, and 40 of them with 8 at a time."""
    contenders = shims(bench, daemon, "hello")
    bench.result("ctr", "`ctr run --rm` of a hello world", "ms")
    bench.result("parallel", "40 × `ctr run --rm`, 8 at a time", "containers/s", True)

    def command(contender):
        return daemon.command(contender.runtime, contender.image, bench.identity(), "--rm")

    def once(contender, keep):
        keep("ctr", measure.seconds(measure.run, command(contender)) * MS)

    def forty(contender, keep):
        commands = [command(contender) for _ in range(40)]
        keep("parallel", 40 / measure.seconds(at_a_time, 8, commands))

    bench.interleave(contenders, once)
    bench.interleave(contenders, forty, rounds=max(3, bench.rounds // 5), warm_up=1)


def at_a_time(limit, commands):
    """Runs all `commands`, at most `limit` at the same time."""
    running = {}
    for command in commands:
        if len(running) == limit:
            reap(running)
        running[measure.spawn(command)] = command
    while running:
        reap(running)


def reap(running):
    """Waits for the end of any."""
    while True:
        pid, status = os.wait()
        # Orphans, such as shims, become our children too.
        if pid in running:
            break
    command = running.pop(pid)
    if status:
        raise measure.Failed(f"wait status {status}: {' '.join(command)}")

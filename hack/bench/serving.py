"""Serving HTTP: requests a second and how long the slowest take, beside `wasmtime serve`."""

import json
import os
import re
import signal
import socket
import time

import lab
import measure

ADDRESS = ("127.0.0.1", 18080)
# Seconds of load for one sample, of which there are few: it is an average itself.
LOAD = 3
CONNECTIONS = (1, 32, 256)
# The example's component, by the version of WASI.
PROGRAM = os.path.join(lab.REPOSITORY, "target", "rootfs", "http-rust-{0}", "server.wasm")
UNITS = {"us": 0.001, "ms": 1, "s": 1000}


def serving(bench):
    """The hello of examples/http-rust, at several numbers of connections, and in 64 MB."""
    contenders = [
        lab.Contender(lab.WASM, bench.runwasm, True),
        lab.Contender(lab.FLOOR, bench.wasmtime, True),
    ]
    for connections in CONNECTIONS:
        measured(bench, contenders, f"http-{connections}", "0.2", connections)
    measured(bench, contenders, "http3-32", "0.3", 32)
    measured(bench, contenders[:1], "http-64mb", "0.2", 32, 64 << 20)


def measured(bench, contenders, name, version, connections, memory=None):
    """Two results of one load: requests a second, and the 99th percentile."""
    title = f"HTTP hello, WASI {version}, {connections} connections"
    if memory:
        title += f", {memory >> 20} MB of memory"
    bench.result(name, title, "requests/s", True)
    bench.result(f"{name}-p99", f"{title}: 99 % within", "ms")

    def once(contender, keep):
        pid = measure.spawn(command(bench, contender, version, memory),
                            stderr=measure.DEV_NULL, env=bench.wasmtime_environment)
        try:
            wait_until_it_listens()
            rate, slowest = load(connections)
        finally:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        keep(name, rate)
        keep(f"{name}-p99", slowest)

    bench.interleave(contenders, once, rounds=max(3, bench.rounds // 5), warm_up=0)


def command(bench, contender, version, memory):
    program, address = PROGRAM.format(version), "{}:{}".format(*ADDRESS)
    if contender.name == lab.FLOOR:
        return [contender.path, "serve", "-Scli", f"--addr={address}", program]
    directory = bench.bundles.make_from(f"http-{version}-{memory}", program)
    path = os.path.join(directory, "config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    # On the host's network, where the load comes from.
    linux = config["linux"]
    linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "network"]
    if memory:
        linux["resources"]["memory"] = {"limit": memory}
    config["annotations"]["runwasm.http.listen"] = address
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)
    return bench.runtime(contender, "run", "--bundle", directory)


def wait_until_it_listens():
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(ADDRESS).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise measure.Failed("the server does not listen")


def load(connections):
    """Requests a second, and the milliseconds within which 99 of 100 are answered."""
    url = "http://{}:{}/".format(*ADDRESS)
    text = measure.output([lab.find("wrk"), "--threads=1", f"--connections={connections}",
                           f"--duration={LOAD}s", "--latency", url])
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    slowest = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    if not rate or not slowest or "Non-2xx" in text:
        raise measure.Failed(f"wrk says:\n{text}")
    return float(rate[1]), float(slowest[1]) * UNITS[slowest[2]]

#!/usr/bin/env python3
"""Compares runwasm with other runtimes, all in one run on one machine.

`run` measures and writes JSON; `docs` makes the tables and charts of docs/benchmarks.md of it;
`check` compares its ratios with those of an earlier run; `baseline` makes it that earlier run.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile

import budgets
import charts
import daemon
import density
import lab
import measure
import programs
import report
import serving
import starts
import steps

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(REPOSITORY, "target"))
TOOLS = os.path.join(TARGET, "bench", "tools", "bin")
RESULTS = os.path.join(TARGET, "bench", "results.json")
BASELINE = os.path.join(HERE, "baseline.json")
DOCUMENT = os.path.join(REPOSITORY, "docs", "benchmarks.md")
CHARTS = os.path.join(REPOSITORY, "docs", "benchmarks")
CACHE = "/var/lib/runwasm"
PRIVATE = "RUNWASM_BENCH_PRIVATE"

# The workloads in the order in which they are run; those in the second group need containerd.
PLAIN = {
    "lifecycle": starts.lifecycle,
    "run": starts.run,
    "steps": steps.steps,
    "sigterm": programs.spinning,
    "guests": programs.guests,
    "large": programs.large,
    "serving": serving.serving,
}
UNDER_CONTAINERD = {"ctr": starts.containerd, "density": density.density}


def main():
    arguments = parse()
    if arguments.command == "run":
        in_private_mounts()
        measured = run(arguments)
        report.show(measured)
        write_json(arguments.json, measured)
        print(f"\n{arguments.json} has every sample")
        return
    measured = load(arguments.json)
    if arguments.command == "docs":
        write_document(measured)
    elif arguments.command == "baseline":
        ratios = budgets.ratios(measured["results"])
        write_json(BASELINE, {name: dataclasses.asdict(ratio) for name, ratio in ratios.items()})
    else:
        worse = list(report.regressions(load(BASELINE), measured))
        print("\n".join(worse) or "no ratio is worse than in the baseline")
        sys.exit(1 if worse else 0)


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "docs", "check", "baseline"])
    parser.add_argument("--json", default=RESULTS, help="where the results are (%(default)s)")
    parser.add_argument("--rounds", type=int, default=30,
                        help="how often each short workload is run (%(default)s)")
    parser.add_argument("--only", action="append", choices=[*PLAIN, *UNDER_CONTAINERD],
                        help="run this workload; may be given several times")
    parser.add_argument("--oci", action="append", default=[], type=named, metavar="NAME=PATH",
                        help="compare with another OCI runtime, for Linux and wasm if it runs it")
    parser.add_argument("--shim", action="append", default=[], metavar="NAME",
                        help="compare with another containerd shim that runs wasm, such as "
                             "io.containerd.wasmtime.v1")
    return parser.parse_args()


def named(text):
    name, _, path = text.partition("=")
    if not name or not os.path.isabs(path):
        raise argparse.ArgumentTypeError("use NAME=PATH with an absolute path")
    return name, path


def in_private_mounts():
    """Goes on in a mount namespace in which runwasm's compile cache is an empty directory: the
    machine's own is neither used nor changed, and no mount of a workload stays behind."""
    if os.geteuid():
        raise SystemExit("run this as root: containers and containerd need it")
    if PRIVATE not in os.environ:
        os.environ[PRIVATE] = "yes"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])


def run(arguments):
    """Measures, in a directory that is removed afterwards."""
    directory = tempfile.mkdtemp(prefix="runwasm-bench.")
    cache = os.path.join(directory, "cache")
    os.makedirs(cache)
    os.makedirs(CACHE, exist_ok=True)
    subprocess.run(["mount", "--bind", cache, CACHE], check=True)
    measure.adopt_orphans()
    bench = None
    try:
        bench = lab.Lab(arguments, directory, os.path.join(TARGET, "release"), tool("wasmtime"))
        chosen = arguments.only or [*PLAIN, *UNDER_CONTAINERD]
        for name in [name for name in PLAIN if name in chosen]:
            announce(name)
            PLAIN[name](bench)
        if any(name in chosen for name in UNDER_CONTAINERD):
            with daemon.Containerd(os.path.join(directory, "c"), bench.binaries) as server:
                for name in [name for name in UNDER_CONTAINERD if name in chosen]:
                    announce(name)
                    UNDER_CONTAINERD[name](bench, server)
        return describe(bench)
    finally:
        if bench:
            bench.close()
        subprocess.run(["umount", CACHE], check=True)
        shutil.rmtree(directory, ignore_errors=True)


def announce(name):
    print(f"measuring {name} …", file=sys.stderr, flush=True)


def tool(name):
    """What hack/bench/setup.sh has installed."""
    path = os.path.join(TOOLS, name)
    if not os.path.exists(path):
        raise SystemExit(f"{path} is missing: run hack/bench/setup.sh")
    return path


def describe(bench):
    """The results with what one has to know about them."""
    results = {name: dataclasses.asdict(result) for name, result in bench.results.items()}
    versions = {
        "runwasm": version([bench.runwasm, "--version"]),
        "wasmtime": version([bench.wasmtime, "--version"]),
        **{c.name: version([c.path, "--version"]) for c in bench.runtimes if not c.wasm
           and c.name != lab.LINUX},
        "containerd": version([lab.find("containerd"), "--version"]),
    }
    return {"date": datetime.date.today().isoformat(), "rounds": bench.rounds,
            "machine": machine(), "versions": versions, "steps": bench.steps,
            "results": results}


def version(command):
    words = measure.output(command).split("\n", 1)[0].split()
    numbers = [word for word in words if word[0].isdigit() or word[0] == "v" and word[1:2].isdigit()]
    return numbers[0] if numbers else "of unknown version"


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return {"cores": os.cpu_count(), "cpu": models[0] if models else platform.machine(),
            "memory": f"{memory:.0f} GiB", "kernel": platform.release(),
            "cgroup": "v2" if unified else "v1"}


def write_document(measured):
    """Renews the tables and the charts."""
    with open(DOCUMENT, encoding="utf-8") as file:
        document = report.into(file.read(), measured)
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(document)
    os.makedirs(CHARTS, exist_ok=True)
    for name, drawing in charts.draw(measured["results"], report.number):
        with open(os.path.join(CHARTS, name), "w", encoding="utf-8") as file:
            file.write(drawing)


def load(path):
    if not os.path.exists(path):
        raise SystemExit(f"{path} is missing: run `make bench` first")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()

"""What the workloads share: the programs that are compared, where they are, and the results."""

import os
import random
import shutil
import time
from dataclasses import dataclass, field

import bundle
import measure

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# The names under which results are kept.
WASM = "runwasm"
LINUX = "runwasm, Linux"
FLOOR = "wasmtime"

# Seconds before each measurement: what the kernel still does for one contender, such as freeing
# its cgroup, or waiting for a quiescent state on its behalf, is not to slow or help the next.
REST = 0.05


@dataclass
class Contender:
    """One line of a comparison: a program, and what it runs."""

    name: str
    path: str
    wasm: bool


@dataclass
class Result:
    """The samples of a workload, one list for each contender."""

    title: str
    unit: str
    more_is_better: bool = False
    series: dict = field(default_factory=dict)


class Lab:
    """Everything a workload needs."""

    def __init__(self, arguments, directory, binaries, wasmtime):
        self.rounds = arguments.rounds
        self.directory = directory
        # Where runtimes keep it: in memory.
        self.state = f"/run/bench-{os.getpid()}"
        self.binaries = binaries
        self.runwasm = os.path.join(binaries, "runwasm")
        self.wasmtime = wasmtime
        self.results = {}
        self.steps = {}
        self.shims = arguments.shim
        guests = os.path.join(directory, "guests")
        os.makedirs(guests)
        self.guests = bundle.Guests(guests)
        self.bundles = bundle.Bundles(
            os.path.join(directory, "bundles"), self.guests, find("runc"))
        self.count = 0
        # wasmtime's cache, private like ours.
        self.wasmtime_environment = {
            **os.environ, "XDG_CACHE_HOME": os.path.join(directory, "wasmtime-cache")}
        self.runtimes = [
            Contender(WASM, self.runwasm, True),
            Contender(LINUX, self.runwasm, False),
            Contender("crun", find("crun"), False),
            Contender("runc", find("runc"), False),
        ]
        for name, path in arguments.oci:
            self.add_runtime(name, path)

    def add_runtime(self, name, path):
        """Adds an OCI runtime given by flag, and what it runs of Linux and of wasm."""
        linux, wasm = Contender(name, path, False), Contender(f"{name}, wasm", path, True)
        for contender in (linux, wasm):
            directory = self.bundles.make("hello", contender.wasm)
            try:
                printed = measure.output(self.runtime(contender, "run", "--bundle", directory))
                works = "hello world" in printed
            except measure.Failed:
                works = False
            if works:
                self.runtimes.append(contender)
            else:
                print(f"{name} does not run the {'wasm' if contender.wasm else 'Linux'} hello")

    def identity(self):
        """A container id that nobody else uses."""
        self.count += 1
        return f"bench{os.getpid()}-{self.count}"

    def runtime(self, contender, verb, *options):
        """A command that makes a new container: `run`, with a new id."""
        return [*self.base(contender), verb, *options, self.identity()]

    def base(self, contender):
        """The program with a state directory of its own."""
        return [contender.path, "--root", f"{self.state}/{contender.name.replace(', ', '-')}"]

    def result(self, name, title, unit, more_is_better=False):
        """The result called `name`, empty at first."""
        return self.results.setdefault(name, Result(title, unit, more_is_better))

    def interleave(self, contenders, action, rounds=None, warm_up=2):
        """Calls `action` once a round for each contender, in an order that changes: what disturbs
        the machine for a while disturbs all alike. What the first rounds measure is forgotten."""
        order = list(contenders)
        for contender in order * warm_up:
            action(contender, lambda *_: None)
        for _ in range(rounds or self.rounds):
            random.shuffle(order)
            for contender in order:
                time.sleep(REST)
                action(contender, lambda name, value, c=contender: self.keep(name, c.name, value))

    def keep(self, result, contender, value):
        """Adds a sample."""
        self.results[result].series.setdefault(contender, []).append(value)

    def close(self):
        """Removes the state of what was compared."""
        shutil.rmtree(self.state, ignore_errors=True)


def find(program):
    """The path of an installed program."""
    path = shutil.which(program)
    if path is None:
        raise SystemExit(f"{program} is missing: run hack/setup.sh and hack/bench/setup.sh")
    return path

"""Where the time of a start goes, step by step.

The commands run under strace, which stops them only at the few system calls that mark the end of
a step (`--seccomp-bpf`), so that watching hardly slows them down.
"""

import os
import re
import statistics
import time

import lab
import measure

# The steps of each command and the system call that ends each, in order.
CREATE = [
    ("process start, arguments", r'mkdir\('),
    ("seal: a read-only mount of the binary", r'execveat\('),
    ("process start again, arguments", r'close_range\('),
    ("read and check the bundle, claim the id", r'mkdir\("[^"]*/bench\d+-\d+"'),
    ("write the state", r'rename\(.*state.json'),
    ("decide: is it wasm?", r'mkdir\("/var/lib/runwasm'),
    ("cache: find, verify", r'utimensat\('),
    ("load, link", r'rename\(.*runwasm.json'),
    ("network namespace", r'unshare\(CLONE_NEWNET'),
    ("cgroup: make, limit", r'unshare\(CLONE_NEWPID'),
    ("fork, join the cgroup", r'unshare\(CLONE_NEWUTS'),
    ("other namespaces", r'unshare\(CLONE_NEWNS'),
    ("mounts", r'pivot_root\('),
    ("pivot", r'capset\('),
    ("capabilities, user, checks, write the state", r'rename\(.*state.json'),
    ("process end", r'exit_group\('),
]
START = [
    ("process start, arguments", r'flock\('),
    ("load the state, wake the container", r'connect\('),
    ("write the state, process end", r'exit_group\('),
]
GUEST = [
    ("wake up, close descriptors", r'close_range\('),
    ("instantiate, run, exit", r'exit_group\('),
]
DELETE = [
    ("process start, arguments", r'flock\('),
    ("load the state, remove the cgroup", r'unlink(at)?\('),
    ("remove the state, process end", r'exit_group\('),
]
CALLS = ("execve,execveat,mkdir,close_range,rename,utimensat,unshare,pivot_root,accept4,capset,"
         "exit_group,flock,connect,unlink,unlinkat")
LINE = re.compile(r"\d+ +(\d+\.\d+) (.*)")


def steps(bench):
    """Measures the steps of create, start, the guest and delete."""
    found = {}
    # The first one compiles.
    warm = lab.Contender(lab.WASM, bench.runwasm, True)
    measure.run(bench.runtime(warm, "run", "--bundle", bench.bundles.make("hello", True)))
    for _ in range(max(5, bench.rounds // 2)):
        for name, value in once(bench):
            found.setdefault(name, []).append(value)
    bench.steps = {name: statistics.median(values) for name, values in found.items()}


def once(bench):
    """The steps of one container: (name, milliseconds)."""
    directory = bench.bundles.make("hello", True)
    base = bench.base(lab.Contender(lab.WASM, bench.runwasm, True))
    identity = bench.identity()
    pid_file = os.path.join(bench.directory, f"{identity}.pid")
    traces = {verb: os.path.join(bench.directory, f"{verb}.strace")
              for verb in ("create", "start", "delete")}

    def traced(verb, *options):
        return [lab.find("strace"), "-f", "--seccomp-bpf", "-qq", "-ttt", "-e", f"trace={CALLS}",
                "-o", traces[verb], "--", *base, verb, *options, identity]

    create = traced("create", "--bundle", directory, "--pid-file", pid_file)
    tracer = measure.spawn(create)
    # The tracer stays until the container ends, so its end does not tell that create is done.
    while not os.path.exists(pid_file):
        time.sleep(0.005)
    time.sleep(0.05)
    measure.run(traced("start"))
    measure.wait(tracer, create)
    measure.run(traced("delete"))
    lines = events(traces["create"])
    yield from durations("create", CREATE, lines)
    guest = next(i for i, (_, call) in enumerate(lines) if "accept4 resumed" in call)
    yield from durations("guest", GUEST, lines[guest:])
    yield from durations("start", START, events(traces["start"]))
    yield from durations("delete", DELETE, events(traces["delete"]))


def events(path):
    """The calls of a trace: (seconds, call)."""
    with open(path, encoding="utf-8", errors="replace") as file:
        matches = [LINE.match(line) for line in file]
    return [(float(match[1]), match[2]) for match in matches if match]


def durations(command, marks, lines):
    """How long each step took: from the end of the one before to its mark."""
    rest = iter(lines)
    before, _ = next(rest)
    for step, mark in marks:
        for now, call in rest:
            if re.match(mark, call):
                yield f"{command}: {step}", (now - before) * 1000
                before = now
                break
        else:
            raise measure.Failed(f"{command} makes no call {mark}: hack/bench/steps.py is stale")

"""What many idle containers cost: memory, processes, threads, and whether the next one is slower."""

import os
import time

import measure
import starts

STEPS = (1, 10, 25, 50, 75, 100)
IDLE = 50


def density(bench, daemon):
    """Starts 100 containers, 8 at a time, and looks at them on the way."""
    for name, title, unit in [
        ("pss", f"memory (PSS) of an idle container with its shim, {IDLE} running", "MB"),
        ("pss-shim", "of these: the shim", "MB"),
        ("rss", f"memory (RSS) of an idle container with its shim, {IDLE} running", "MB"),
        ("processes", "processes of an idle container with its shim", ""),
        ("threads", "threads of an idle container with its shim", ""),
    ]:
        bench.result(name, title, unit)
    bench.result("start100", "starting 100 containers, 8 at a time", "containers/s", True)
    for step in STEPS:
        bench.result(f"total-{step}", f"memory (PSS) of {step} containers and their shims", "MB")
    contenders = starts.shims(bench, daemon, "idle")

    def once(contender, keep):
        populate(bench, daemon, contender, keep)

    bench.interleave(contenders, once, rounds=max(1, bench.rounds // 10), warm_up=0)


def populate(bench, daemon, contender, keep):
    """One population of 100."""
    elapsed, ids = 0.0, []
    for step in STEPS:
        new = [bench.identity() for _ in range(step - len(ids))]
        commands = [daemon.command(contender.runtime, contender.image, identity, "--detach")
                    for identity in new]
        elapsed += measure.seconds(starts.at_a_time, 8, commands)
        ids += new
        # What starting leaves behind for a moment is not what an idle container costs.
        time.sleep(1)
        total = totals(daemon.namespace)
        keep(f"total-{step}", total["pss"])
        if step == IDLE:
            for name, value in total.items():
                keep(name, value / step)
    keep("start100", len(ids) / elapsed)
    daemon.remove(ids)


def totals(namespace):
    """The sums over all shims of a containerd namespace and everything below them."""
    parents, shims = {}, []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[pid] = read(pid, "stat").rsplit(")", 1)[1].split()[1]
            words = read(pid, "cmdline").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "containerd-shim" in words[0] and namespace in words:
            shims.append(pid)
    below = [pid for pid in parents if pid not in shims and descends(pid, shims, parents)]
    memory = {pid: rollup(pid) for pid in shims + below}
    return {
        "pss": sum(m["Pss"] for m in memory.values()),
        "pss-shim": sum(memory[pid]["Pss"] for pid in shims),
        "rss": sum(m["Rss"] for m in memory.values()),
        "processes": len(memory),
        "threads": sum(len(os.listdir(f"/proc/{pid}/task")) for pid in memory),
    }


def descends(pid, ancestors, parents):
    """Whether one of `ancestors` is above `pid`."""
    while pid in parents:
        if pid in ancestors:
            return True
        pid = parents[pid]
    return False


def read(pid, name):
    with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
        return file.read()


def rollup(pid):
    """The sums of /proc/PID/smaps_rollup that end in kB, as MB."""
    fields = (line.split() for line in read(pid, "smaps_rollup").splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) / 1000 * 1.024 for words in fields}

"""The budgets: what runwasm is to reach, most of them relative to another program in the same
run."""

import math
import statistics
from dataclasses import dataclass

import lab


@dataclass
class Budget:
    """`subject` divided by `reference` in the workload `result` is at most `limit`; at least, when
    more is better. Without a reference the value itself is."""

    result: str
    subject: str
    reference: str
    limit: float


BUDGETS = [
    Budget("lifecycle", lab.WASM, "crun", 0.85),
    Budget("run", lab.WASM, "crun", 0.8),
    Budget("lifecycle", lab.LINUX, "runc", 1.0),
    Budget("ctr", lab.WASM, "runc", 0.85),
    Budget("parallel", lab.WASM, "runc", 1.3),
    Budget("pss", lab.WASM, "", 1.8),
    Budget("processes", lab.WASM, "", 2),
    Budget("large", lab.WASM, lab.FLOOR, 1.3),
    Budget("http-32", lab.WASM, lab.FLOOR, 1.8),
    Budget("sigterm", lab.WASM, "", 50),
]

# What bench-check watches besides the budgets.
WATCHED = [
    ("start100", lab.WASM, "runc"),
    ("pss", lab.WASM, "runc"),
    ("large-first", lab.WASM, lab.FLOOR),
    ("cpu", lab.WASM, lab.FLOOR),
    ("files", lab.WASM, lab.FLOOR),
    ("output", lab.WASM, lab.FLOOR),
    ("run", lab.WASM, lab.FLOOR),
]


@dataclass
class Ratio:
    """A ratio, and the bounds between which it lies with 95 % confidence."""

    value: float
    low: float
    high: float


def compare(series, subject, reference):
    """The median of the ratios of samples of the same round, and the confidence interval of that
    median by order statistics. `None` if one was not measured."""
    if subject not in series or (reference and reference not in series):
        return None
    samples = series[subject]
    if reference:
        samples = [a / b for a, b in zip(samples, series[reference])]
    samples = sorted(samples)
    count = len(samples)
    margin = 1.96 * math.sqrt(count) / 2
    low = max(0, math.floor(count / 2 - margin))
    high = min(count - 1, math.ceil(count / 2 + margin))
    return Ratio(statistics.median(samples), samples[low], samples[high])


def ratios(results):
    """All ratios that are watched, by name."""
    lines = [(b.result, b.subject, b.reference) for b in BUDGETS] + WATCHED
    found = {}
    for result, subject, reference in lines:
        if result in results:
            ratio = compare(results[result]["series"], subject, reference)
            if ratio:
                found[f"{result}: {subject} / {reference}" if reference
                      else f"{result}: {subject}"] = ratio
    return found


def judge(results):
    """Each budget that was measured: (budget, its result, ratio, whether it is met)."""
    for budget in BUDGETS:
        result = results.get(budget.result)
        ratio = result and compare(result["series"], budget.subject, budget.reference)
        if ratio:
            better = result["more_is_better"]
            met = ratio.value >= budget.limit if better else ratio.value <= budget.limit
            yield budget, result, ratio, met

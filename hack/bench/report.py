"""Tables: on the terminal, in docs/benchmarks.md, and the comparison with a baseline."""

import re
import statistics

import budgets


def number(value):
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def judged(report):
    """The rows of the table of budgets."""
    for budget, result, ratio, met in budgets.judge(report["results"]):
        bound = "at least" if result["more_is_better"] else "at most"
        against = f" × {budget.reference}" if budget.reference else f" {result['unit']}".rstrip()
        spread = f"{number(ratio.low)} to {number(ratio.high)}"
        yield (f"{result['title']} ({budget.subject})", f"{bound} {budget.limit:g}{against}",
               number(ratio.value), spread, "met" if met else "**not met**")


def medians(report):
    """The rows of the table of medians, and the names of its columns."""
    names = []
    for result in report["results"].values():
        names += [name for name in result["series"] if name not in names]
    rows = []
    for result in report["results"].values():
        series = result["series"]
        cells = [number(statistics.median(series[name])) if name in series else ""
                 for name in names]
        rows.append((result["title"], result["unit"], *cells))
    return ["what", "unit", *names], rows


JUDGED_COLUMNS = ["what", "budget", "measured", "95 % of the time", ""]


def table(columns, rows):
    """A table in Markdown, aligned so that it reads as text too."""
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    def row(cells):
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths)) + " |"
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([row(columns), rule, *map(row, rows)])


def steps(report):
    """The rows of the table of steps, with a sum for each command."""
    whole = {}
    for name, value in report["steps"].items():
        whole.setdefault(name.split(": ", 1)[0], []).append((name.split(": ", 1)[1], value))
    for command, rows in whole.items():
        yield (f"**{command}**", f"**{number(sum(value for _, value in rows))}**")
        yield from ((step, number(value)) for step, value in rows)


def text(report):
    """Everything, for the terminal and for the document."""
    machine = report["machine"]
    about = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return {
        "machine": f"{machine['cores']} cores ({machine['cpu']}), {machine['memory']}, "
                   f"Linux {machine['kernel']}, cgroup {machine['cgroup']}, {report['date']}. "
                   f"{about}. {report['rounds']} rounds.",
        "budgets": table(JUDGED_COLUMNS, list(judged(report))),
        "medians": table(*medians(report)),
        "steps": table(["step", "ms"], list(steps(report))),
    }


def show(report):
    """Prints the tables."""
    for part in text(report).values():
        # A table without rows is that of a workload that was not chosen.
        if part.count("\n") != 1:
            print(f"\n{part}")


def into(document, report):
    """Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->` in a document."""
    for name, part in text(report).items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        document, found = pattern.subn(lambda m, p=part: f"{m[1]}{p}\n{m[2]}", document)
        if not found:
            raise SystemExit(f"the document has no <!-- {name} -->")
    return document


# A sample of one says nothing about its spread.
LEAST_SPREAD = 0.03


def regressions(baseline, report):
    """Sentences about the ratios that became worse by more than both runs' own spread."""
    results = report["results"]
    for name, ratio in budgets.ratios(results).items():
        if name not in baseline:
            continue
        before = baseline[name]
        sign = -1 if results[name.split(":")[0]]["more_is_better"] else 1
        spread = max(ratio.high - ratio.low, before["high"] - before["low"]) / 2
        spread = max(spread, LEAST_SPREAD * before["value"])
        if sign * (ratio.value - before["value"]) > spread:
            yield (f"{name}: {number(before['value'])} before, {number(ratio.value)} now "
                   f"(spread {number(spread)})")

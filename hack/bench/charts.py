"""Charts as SVG: horizontal bars, and lines over the number of containers."""

import statistics
from html import escape

import density
import lab

OURS, OTHERS = "#2f6fde", "#9aa5b1"
LINES = {lab.WASM: OURS, lab.LINUX: "#7c4dbd", "runc": "#d9822b"}
MORE_LINES = ["#2e8b57", "#c23b3b", "#555555"]
FONT = 'font-family="sans-serif" font-size="13"'


def svg(width, height, body):
    """A drawing on white, which is readable on a dark page too."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" {FONT}>\n'
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
            + "\n".join(body) + "\n</svg>\n")


def label(x, y, words, extra=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="#222222" {extra}>{escape(words)}</text>'


def bars(result, number):
    """One bar for each contender, the shortest first; or the longest, if more is better."""
    medians = {name: statistics.median(values) for name, values in result["series"].items()}
    order = sorted(medians, key=medians.get, reverse=result["more_is_better"])
    longest = max(medians.values())
    body = [label(10, 22, f"{result['title']}, {result['unit']}".rstrip(", "),
                  'font-weight="bold"')]
    for row, name in enumerate(order):
        y = 36 + row * 26
        width = 380 * medians[name] / longest
        colour = OURS if name.startswith(lab.WASM) else OTHERS
        body += [label(10, y + 15, name),
                 f'<rect x="140" y="{y}" width="{width:.1f}" height="20" fill="{colour}"/>',
                 label(146 + width, y + 15, number(medians[name]))]
    return svg(600, 46 + 26 * len(order), body)


def growth(results, number):
    """The memory of 1 to 100 containers."""
    steps = density.STEPS
    first = results[f"total-{steps[0]}"]["series"]
    lines = {name: [statistics.median(results[f"total-{step}"]["series"][name]) for step in steps]
             for name in first}
    top = max(max(values) for values in lines.values())
    body = [label(10, 22, "memory (PSS) of n containers and their shims, MB",
                  'font-weight="bold"')]

    def point(step, value):
        return 50 + 420 * step / steps[-1], 250 - 200 * value / top

    for step in steps:
        x, _ = point(step, 0)
        body.append(label(x, 268, str(step), 'text-anchor="middle"'))
    body.append('<path d="M50 250H480M50 250V45" stroke="#222222" fill="none"/>')
    body.append(label(45, 54, number(top), 'text-anchor="end"'))
    spare = iter(MORE_LINES * 3)
    for name, values in lines.items():
        colour = LINES.get(name) or next(spare)
        points = " ".join("{:.1f},{:.1f}".format(*point(*pair)) for pair in zip(steps, values))
        body.append(f'<polyline points="{points}" fill="none" stroke="{colour}" '
                    'stroke-width="2"/>')
        x, y = point(steps[-1], values[-1])
        body.append(label(x + 8, y + 4, name))
    return svg(600, 280, body)


# The charts of the document, by file name.
BARS = ["lifecycle", "run", "ctr", "parallel", "pss", "large", "cpu", "files", "output"]


def draw(results, number):
    """All charts: file name and content."""
    for name in BARS:
        if name in results:
            yield f"{name}.svg", bars(results[name], number)
    if f"total-{density.STEPS[0]}" in results:
        yield "growth.svg", growth(results, number)

"""Figures as SVG text, ready to stand in a page."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adaptune.results.epoch import EpochMetrics
from adaptune.results.score import Measure, number
from adaptune.results.summary import Interval, MethodSummary
from adaptune.results.trial import Trial
from adaptune.runtime.wording import worded

PALETTE = ("#8a94a6", "#e08e45", "#1f6feb", "#2a9d8f", "#b5519c", "#4f772d", "#c0392b", "#6b5b95")
STILL = 1e-7
"""Relative change under which a tensor counts as unmoved: float32 rounding."""

KINDS = {
    "convolution": "#8a94a6",
    "batch-norm weight": "#1f6feb",
    "batch-norm bias": "#2a9d8f",
    "batch-norm mean": "#e08e45",
    "batch-norm variance": "#c0392b",
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "adaptune",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa3b2",
    "axes.labelcolor": "#414b5c",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "xtick.color": "#5c6678",
    "ytick.color": "#5c6678",
    "legend.frameon": False,
    "grid.color": "#e4e8ee",
    "axes.axisbelow": True,
}


def colors(names: Sequence[str]) -> dict[str, str]:
    """Give each name its colour; known methods keep theirs on every page.

    >>> colors(["daft"])["daft"] == colors(["ft", "daft"])["daft"]
    True
    """
    known = {"ft": PALETTE[0], "lp-ft": PALETTE[1], "daft": PALETTE[2], "lp": PALETTE[3]}
    free = [color for color in PALETTE if color not in known.values()]
    others = [name for name in names if name not in known]
    return known | {name: free[i % len(free)] for i, name in enumerate(others)}


def svg(figure: Figure) -> str:
    """Give a figure as an SVG element, without the XML head."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


def reached(summary: Sequence[MethodSummary], measure: Measure) -> str:
    """Draw each method's score on every test set, with 95% intervals."""
    tests = [*(["ID"] if summary[0].id else []), *summary[0].domains]
    palette = colors([line.method for line in summary])
    with mpl.rc_context(STYLE):
        rows = len(tests) * (len(summary) + 1)
        highest = max(cell.high for line in summary for cell in _cells(line))
        beside = 1.0 if measure.unit == "percent" else highest / 100
        figure = Figure(figsize=(7.4, 0.75 + 0.26 * rows))
        axes = figure.add_subplot()
        for at, line in enumerate(summary):
            cells = _cells(line)
            place = [i * (len(summary) + 1.0) + at for i in range(len(tests))]
            middle = [cell.mean for cell in cells]
            reach = [
                [cell.mean - cell.low for cell in cells],
                [cell.high - cell.mean for cell in cells],
            ]
            color = palette[line.method]
            axes.barh(place, middle, height=0.8, color=color, alpha=0.85, label=line.method)
            axes.errorbar(middle, place, xerr=reach, fmt="none", ecolor="#2b3342", elinewidth=1)
            for y, cell in zip(place, cells, strict=True):
                axes.text(cell.high + beside, y, measure.number(cell.mean), va="center", fontsize=9)
        axes.set_yticks(
            [i * (len(summary) + 1.0) + (len(summary) - 1) / 2 for i in range(len(tests))], tests
        )
        axes.invert_yaxis()
        if measure.unit == "percent":
            axes.set_xlim(0, min(112, 10 + highest))
        axes.set_xlabel(measure.title)
        axes.grid(axis="x")
        if len(summary) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return svg(figure)


def _cells(line: MethodSummary) -> list[Interval]:
    """Give what a method reached on each test set that there is."""
    return [*([line.id] if line.id else []), *line.domains.values()]


def feature_histograms(moved: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw how cosine similarity and distance of features before and after spread, by name."""
    palette = colors(list(moved))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 2.9))
        panels = figure.subplots(1, 2)
        titles = ("cosine similarity (1: unmoved)", "Euclidean distance (0: unmoved)")
        keys = ("cosine_histogram", "l2_histogram")
        for axes, key, title in zip(panels, keys, titles, strict=True):
            for name, one in moved.items():
                counts, edges = one[key]["counts"], one[key]["edges"]
                share = [100 * count / max(sum(counts), 1) for count in counts]
                axes.stairs(share, edges, color=palette[name], fill=True, alpha=0.25)
                axes.stairs(share, edges, color=palette[name], linewidth=1.4, label=name)
            axes.set_title(title)
            axes.set_ylabel(worded("percent of images"))
        panels[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figure.subplots_adjust(wspace=0.25)
        return svg(figure)


def layer_changes(changes: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Draw the relative change of weights and statistics, layer by layer, a panel for each name."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * max(len(changes), 2), 2.9))
        panels = figure.subplots(1, len(changes), sharey=True, squeeze=False)[0]
        for axes, (name, lines) in zip(panels, changes.items(), strict=True):
            _layers(axes, lines)
            axes.set_title(name)
        panels[0].set_ylabel("relative change", labelpad=12)
        panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figure.subplots_adjust(wspace=0.12)
        return svg(figure)


def _layers(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    """Draw one panel; what did not move at all has no place on a logarithmic scale."""
    for kind, color in KINDS.items():
        values = [line["change"] for line in lines if line["kind"] == kind]
        place = [100 * (i + 0.5) / len(values) for i in range(len(values))]
        moved = [(x, y) for x, y in zip(place, values, strict=True) if y > STILL]
        x, y = zip(*moved, strict=True) if moved else ((), ())
        axes.plot(x, y, ".-", color=color, linewidth=1, markersize=4, label=kind)
    axes.set_yscale("log")
    axes.set_xlim(0, 100)
    if not any(line["change"] > STILL for line in lines):
        axes.text(50, 1, "unmoved", ha="center", va="center", color="#5c6678")
    axes.set_xlabel("depth in percent")
    axes.grid(axis="y")


def curves(metrics: Mapping[str, Sequence[EpochMetrics]], measure: Measure) -> str:
    """Draw the training loss and, where there is any, the score on ID validation by epoch."""
    palette = colors(list(metrics))
    draws: dict[str, Callable[[EpochMetrics], float]] = {"training loss": lambda line: line.loss}
    if any(line.val is not None for lines in metrics.values() for line in lines):
        draws[measure.label(f"{measure.name} on ID validation")] = lambda line: number(line.val)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.7 * len(draws), 2.9))
        panels = figure.subplots(1, len(draws), squeeze=False)[0]
        for axes, (title, draw) in zip(panels, draws.items(), strict=True):
            for name, lines in metrics.items():
                points = [(line.epoch, draw(line)) for line in lines]
                shown = [(x, y) for x, y in points if not math.isnan(y)]
                x, y = zip(*shown, strict=True) if shown else ((), ())
                axes.plot(x, y, ".-", color=palette[name], label=name)
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.grid(axis="y")
            axes.xaxis.get_major_locator().set_params(integer=True)
        if len(metrics) > 1:
            panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figure.subplots_adjust(wspace=0.2)
        return svg(figure)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Draw what was taken for what: rows are true classes, in shares of each row."""
    shares = [[100 * n / max(sum(row), 1) for n in row] for row in matrix]
    side = min(9.0, 2.2 + 0.22 * len(classes))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(side, side))
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="equal")
        if len(classes) <= 60:
            axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
            axes.set_yticks(range(len(classes)), classes, fontsize=7)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        for spine in axes.spines.values():
            spine.set_visible(False)
        return svg(figure)


def trade(summary: Sequence[MethodSummary], measure: Measure) -> str:
    """Draw the mean score on other domains against feature distortion, a point for each method."""
    palette = colors([line.method for line in summary])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.9))
        axes = figure.add_subplot()
        for line in summary:
            cell, x = line.ood, line.distortion
            if cell is None or x is None:
                continue
            reach = [[cell.mean - cell.low], [cell.high - cell.mean]]
            color = palette[line.method]
            axes.errorbar(x, cell.mean, yerr=reach, fmt="o", color=color, markersize=8)
            axes.annotate(
                line.method, (x, cell.mean), (8, 4), textcoords="offset points", color=color
            )
        axes.set_xlim(-0.05, 1.05)
        where = "ID" if summary[0].id else next(iter(summary[0].domains))
        axes.set_xlabel(f"feature distortion (1 - mean cosine, {where})")
        axes.set_ylabel(measure.label(f"mean OOD {measure.name}"))
        axes.grid()
        return svg(figure)


def rates(found: Mapping[str, Mapping[str, Any]], measure: Measure) -> str:
    """Draw the score against the body's rate for each method, at home and elsewhere."""
    palette = colors(list(found))
    keys = {
        measure.key("id"): measure.label(f"ID {measure.name}"),
        measure.key("ood"): measure.label(f"mean OOD {measure.name}"),
    }
    shown = [key for key in keys if all(key in one["curves"] for one in found.values())]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.7 * len(shown), 2.9))
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for axes, key in zip(panels, shown, strict=True):
            for name, one in found.items():
                x, y = zip(*one["curves"][key], strict=True)
                axes.plot(x, y, ".-", color=palette[name], label=name)
            axes.set_xscale("log")
            axes.set_ylim(bottom=0)
            axes.set_title(keys[key])
            axes.set_xlabel("learning rate of the body")
            axes.grid(axis="y")
        panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figure.subplots_adjust(wspace=0.25)
        return svg(figure)


def trials(found: Sequence[Trial], names: Sequence[str], measure: Measure) -> str:
    """Draw the score on ID validation against each value searched; hollow: stopped early."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(4.4, 3.4 * len(names)), 2.9))
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            for ended, face in (("complete", PALETTE[2]), ("pruned", "none")):
                own = [one for one in found if one.state == ended and one.reached is not None]
                points = [(t.values[name], t.reached) for t in own if name in t.values]
                x, y = zip(*points, strict=True) if points else ((), ())
                label = "stopped early" if ended == "pruned" else "complete"
                axes.scatter(x, y, s=36, facecolor=face, edgecolor=PALETTE[2], label=label)
            axes.set_xscale("log")
            axes.set_xlabel(name)
            axes.grid(axis="y")
        panels[0].set_ylabel(measure.label("ID validation"))
        panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return svg(figure)

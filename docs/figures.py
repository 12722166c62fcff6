"""The figure of a method's page: what it gained, and how sure that is."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

Gain = Mapping[str, Any]


def drawn(gains: Sequence[Gain]) -> str:
    """Draw gains as an SVG: a line each, its mean and 95% interval."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.8 + 0.3 * len(gains)))
    axis = figure.subplots()
    places = range(len(gains))
    means = [gain["mean"] for gain in gains]
    below = [gain["mean"] - gain["low"] for gain in gains]
    above = [gain["high"] - gain["mean"] for gain in gains]
    axis.errorbar(means, places, xerr=[below, above], fmt="o", color="#0f766e", capsize=3)
    axis.axvline(0, color="grey", linewidth=0.8)
    axis.set_yticks(places, [label(gain) for gain in gains], fontsize=8)
    axis.set_ylim(len(gains) - 0.5, -0.5)
    axis.set_xlabel("points, with a 95% interval over pairs", fontsize=8)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    kept = io.StringIO()
    with rc_context({"svg.hashsalt": "adaptune"}):
        figure.savefig(kept, format="svg", bbox_inches="tight", metadata={"Date": None})
    return kept.getvalue()


def label(gain: Gain) -> str:
    """Say what was compared with what, and by which measure where that is not accuracy.

    >>> label({"variant": "glc", "against": "source-only", "measure": "h"})
    'glc over source-only: h'
    """
    measure = gain["measure"].removeprefix("accuracy").removeprefix(", ")
    return f"{gain['variant']} over {gain['against']}" + f": {measure}" * bool(measure)

"""How much one way gains over another, over pairs of domains or streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptune.summary import interval

Values = Mapping[str, float]
"""What was reached on each pair, a mean over seeds."""


def gain(
    own: Values,
    theirs: Values,
    *,
    setting: str,
    variant: str,
    said: Mapping[str, Any],
    against: str,
    measure: str,
    seeds: int,
) -> dict[str, Any]:
    """Give the mean over the pairs that both have, with Student's 95% interval over pairs.

    ``said`` is what the protocol says of the variant: its method and options.
    """
    pairs = [one for one in own if one in theirs]
    return {
        "setting": setting,
        "variant": variant,
        "base": said["method"],
        "options": {key: value for key, value in said.items() if key != "method"},
        "against": against,
        "measure": measure,
        "unit": "points",
        **interval([own[one] - theirs[one] for one in pairs]),
        "count": len(pairs),
        "seeds": seeds,
        "pairs": [{"pair": o, "value": own[o], "reference": theirs[o]} for o in pairs],
    }

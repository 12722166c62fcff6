"""How much one way gains over another, over pairs of domains or streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from adaptune.results.run import RunResults
from adaptune.results.summary import interval

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
        **vars(interval([own[one] - theirs[one] for one in pairs])),
        "count": len(pairs),
        "seeds": seeds,
        "pairs": [{"pair": o, "value": own[o], "reference": theirs[o]} for o in pairs],
    }


def alike(
    runs: Sequence[RunResults], variant: str, others: Sequence[RunResults], reference: str
) -> tuple[list[RunResults], list[RunResults]]:
    """Give the runs of a variant and of its reference on pairs and seeds that both have."""
    own = {(one.domain, one.seed): one for one in runs if one.method == variant}
    theirs = {(one.domain, one.seed): one for one in others if one.method == reference}
    both = [key for key in own if key in theirs]
    return [own[key] for key in both], [theirs[key] for key in both]


def values(runs: Sequence[RunResults], measure: str) -> dict[str, float]:
    """Give the mean over seeds of what runs of one variant reach on each pair."""
    reached: dict[str, list[float]] = {}
    for one in runs:
        reached.setdefault(one.domain, []).append(measured(one, measure))
    return {place: mean(values) for place, values in reached.items()}


def measured(one: RunResults, measure: str) -> float:
    """Give one measure of a run.

    They are the accuracy on the target, that on its images that no label was asked of, what the
    network that was started from reaches on those, or a score of its open set.
    """
    (value,) = one.elsewhere.values()
    rest = one.unasked
    known: dict[str, float] = {
        one.measure.name: value,
        **({"unasked": rest.after, "before": rest.before} if rest else {}),
        **open_set(one),
    }
    return known[measure]


def asked(runs: Sequence[RunResults]) -> bool:
    """Tell whether labels of some images were given."""
    return any(one.unasked for one in runs)


def open_set(one: RunResults) -> Mapping[str, float]:
    """Give the scores of a run's open set, if it is one."""
    (target,) = one.elsewhere
    scores: Mapping[str, float] = one.scores[target].detail.get("open_set", {})
    return scores


def row_of(part: str, one: RunResults) -> dict[str, Any]:
    """Keep of a run what tables need."""
    ((target, value),) = one.elsewhere.items()
    own = one.to_dict()
    return {
        "part": part,
        "pair": one.domain,
        **{key: own[key] for key in ("method", "base", "options", "seed", "seconds")},
        **({"id": one.home} if one.home is not None else {}),
        one.measure.name: value,
        **open_set(one),
        **({"unasked": own["unasked"]} if one.unasked else {}),
        "label_free": one.label_free.get(target, {}),
    }

"""What a comparison over training domains decides and what it does not, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from adaptune.results.ranking import Versus
from adaptune.results.score import Measure
from adaptune.results.summary import Interval

FEW = 5
"""Training domains below which a comparison says little of other domains."""


def verdicts(versus: Iterable[Versus], best: str, domains: int, measure: Measure) -> dict[str, str]:
    """Say of the best method how it compares with each other one, by the other's name."""
    return {one.other: verdict(one, domains, measure) for one in versus if one.one == best}


def verdict(found: Versus, domains: int, measure: Measure) -> str:
    """Say by how much one method is better elsewhere, and whether that is more than chance.

    Args:
        found: The two methods over all runs.
        domains: How many training domains there are, each with as many seeds as the others.
        measure: What scores are of.

    >>> away, home = Interval(2.0, -1.0, 5.0), Interval(1.0, 0.5, 1.5)
    >>> told = verdict(Versus("a", "b", home, away, 2, 0, 0, 260), 2, Measure()).split(". ")
    >>> for sentence in told:
    ...     print(sentence)
    Elsewhere a is 2.0 points better than b (95%: -1.0 to 5.0; 2 wins, 0 ties, 0 losses)
    At home it is 1.0 points better (95%: 0.5 to 1.5)
    2 training domains with 1 seed do not decide between them
    One seed does not show how much the luck of a run matters.
    """
    counts = f"{found.wins} wins, {found.ties} ties, {found.losses} losses"
    said = [f"Elsewhere {found.one} is {_by(found.ood, measure, f' than {found.other}', counts)}"]
    if not math.isnan(found.id.mean):
        said.append(f"At home it is {_by(found.id, measure)}")
    seeds = max(1, found.matches // domains)
    drawn = {"domains": domains >= FEW, "seeds": seeds > 1, "test images": found.images > 0}
    chance = [name for name, counted in drawn.items() if counted]
    cells = f"{_counted(domains, 'training domain')} with {_counted(seeds, 'seed')}"
    if found.ood.low <= 0 <= found.ood.high:
        said.append(f"{cells} {'do' if domains > 1 else 'does'} not decide between them")
    elif domains < FEW:
        said.append(
            f"On these domains that is more than {_choice(chance)} explains; "
            f"{_counted(domains, 'training domain')} {'are' if domains > 1 else 'is'} too few to "
            "speak of others"
        )
    else:
        said.append(f"Over {cells} that is more than {_choice(chance)} explains")
    if seeds == 1:
        said.append("One seed does not show how much the luck of a run matters")
    if not found.images:
        said.append("The choice of test images is not counted in")
    return ". ".join(said) + "."


def _by(gap: Interval, measure: Measure, than: str = "", more: str = "") -> str:
    """Write a difference, turned so that it is not below 0, with its interval.

    >>> _by(Interval(-2.0, -3.0, -1.0), Measure(), " than b")
    '2.0 points worse than b (95%: 1.0 to 3.0)'
    """
    worse = gap.mean < 0
    middle, low, high = (-gap.mean, -gap.high, -gap.low) if worse else (gap.mean, gap.low, gap.high)
    by = f"{measure.number(middle)} {measure.steps}".rstrip()
    span = f"95%: {measure.number(low)} to {measure.number(high)}" + f"; {more}" * bool(more)
    return f"{by} {'worse' if worse else 'better'}{than} ({span})"


def _choice(chance: Sequence[str]) -> str:
    """Name what might have been chosen otherwise.

    >>> _choice(["domains", "seeds", "test images"]), _choice([])
    ('the choice of domains, seeds and test images', 'their difference')
    """
    *first, last = chance or [""]
    if not last:
        return "their difference"
    return f"the choice of {', '.join(first)}{' and ' if first else ''}{last}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"

"""Numbers that people give, held against what they may be."""

from __future__ import annotations

import math

MOST = 2**31 - 1
"""The largest count of anything."""

SEEDS = (-(2**63), 2**63 - 1)
"""What torch takes for a seed."""


def check_range(
    option: str,
    value: float | None,
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> None:
    """Refuse a number that is not from ``low`` to ``high``, or not finite; None is no number.

    Args:
        option: What people call it, such as ``--epochs``.
        value: The number.
        low: The least that it may be; with ``above`` it must be more.
        high: The most that it may be; with ``below`` it must be less.
        above: Whether ``low`` itself is too low.
        below: Whether ``high`` itself is too high.

    Raises:
        ValueError: If it is out of range.

    >>> check_range("--epochs", 0, 1)
    Traceback (most recent call last):
    ValueError: --epochs must be at least 1: got 0
    """
    if value is None:
        return
    fits = low <= value <= high and math.isfinite(value)
    if not fits or (above and value == low) or (below and value == high):
        bounds = [f"{'above' if above else 'at least'} {low}"] if low > -math.inf else []
        if high < MOST or (high < math.inf and value > high):
            bounds.append(f"{'below' if below else 'at most'} {high}")
        raise ValueError(
            f"{option} must be {' and '.join(bounds) or 'a finite number'}: got {value}"
        )

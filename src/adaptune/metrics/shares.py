"""Shares of rows, with their intervals."""

from __future__ import annotations

import math


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Give the 95% interval of a share, by Wilson's score (1927).

    >>> tuple(round(bound, 3) for bound in wilson(8, 10))
    (0.49, 0.943)
    """
    share = right / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)

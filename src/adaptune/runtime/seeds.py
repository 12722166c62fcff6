"""Seeds made of numbers."""

from __future__ import annotations


def seed_for(*parts: int) -> int:
    """Mix numbers into one seed, so that neighbours share nothing.

    >>> seed_for(0, 1) != seed_for(1, 0)
    True
    """
    seed = 0
    for part in parts:
        seed = (seed ^ (part + 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9 % 2**64
        seed ^= seed >> 31
    return seed % 2**63

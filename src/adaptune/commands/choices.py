"""Which methods a command can use, by their setting."""

from __future__ import annotations

from collections.abc import Sequence

from adaptune.methods import METHODS

STREAMING = sorted(name for name, method in METHODS.items() if method.setting == "test-time")
"""Methods that answer a stream and train nothing beforehand."""

TRAINING = sorted(set(METHODS) - set(STREAMING))
"""Methods that training runs."""

SEARCHED = [name for name in TRAINING if METHODS[name].needs.labeled]
"""Methods that train from a backbone, as a search does; others go on from a finished run."""

MOST_SEEDS = 1000
"""The most seeds of a comparison."""

MOST_JOBS = 256
"""The most processes of a comparison or a search."""

MOST_TRIALS = 100_000
"""The most trials of a search."""


def as_choices(names: Sequence[str]) -> str:
    """Write names as the help of an option shows choices.

    >>> as_choices(["ft", "lp"])
    '{ft,lp}'
    """
    return f"{{{','.join(names)}}}"

"""Which methods a command can use, by their setting."""

from __future__ import annotations

from collections.abc import Sequence

from adaptune.engine.method import task_kind
from adaptune.methods import METHODS
from adaptune.tasks import TASKS

AT_TEST_TIME = {name for name, method in METHODS.items() if method.setting == "test-time"}
"""Methods that train nothing beforehand."""

STREAMING = sorted(AT_TEST_TIME | {name for name, method in METHODS.items() if method.streams})
"""Methods that answer a stream."""

TRAINING = sorted(set(METHODS) - AT_TEST_TIME)
"""Methods that training runs."""

SEARCHED = [name for name in TRAINING if METHODS[name].needs.labeled]
"""Methods that train from a backbone, as a search does; others go on from a finished run."""


def methods_for(task: str) -> list[str]:
    """Name the methods that training runs on a task; none on one that there is not.

    >>> "glc" in methods_for("classification"), methods_for("no-such")
    (True, [])
    """
    if task not in TASKS:
        return []
    return [name for name in TRAINING if issubclass(TASKS[task], task_kind(METHODS[name]))]


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

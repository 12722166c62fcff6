"""What a run's network answers on the fixed sample of each set, so that runs can be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from adaptune.runtime.files import to_json, write_text


@dataclass(frozen=True)
class Answers:
    """Numbers of classes, row by row, in the order of the data set.

    ``val`` are the answers on ID validation and ``labels`` what is right there, ``tests`` the
    answers on other domains by test set, without what is right.
    """

    val: Sequence[int] = ()
    labels: Sequence[int] = ()
    tests: dict[str, Sequence[int]] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        """Write the answers as JSON, in one step."""
        write_text(file, json.dumps(to_json(asdict(self))) + "\n")


def read_answers(file: Path) -> Answers:
    """Read what `Answers.write` wrote; none where there is no file, as of earlier versions.

    >>> read_answers(Path("no such file")).tests
    {}
    """
    return Answers(**json.loads(file.read_text())) if file.is_file() else Answers()

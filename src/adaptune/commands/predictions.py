"""What is written of each file that a network is asked about: a line of a CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from adaptune.networks.network import Network
from adaptune.tasks.task import Task

COLUMNS = ("path", "predicted", "confidence", "problem")


@dataclass
class PredictionLines:
    """Lines of ``files``, each as soon as it is answered; ``problems`` are those not read, by row.

    ``answers`` are the task's, by row; ``written`` are the rows that have their line.
    """

    files: Sequence[Path]
    net: Network
    task: Task
    problems: Mapping[int, str]
    answers: dict[int, float] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)

    def answered(self, logits: Tensor, index: Tensor) -> Iterator[list[str]]:
        """Give the lines of a batch, and of files before its end that could not be read."""
        logits, rows = logits.float(), index.tolist()
        sure = logits.softmax(1).amax(1).tolist()
        found = dict(zip(rows, answers_of(self.net, self.task, logits), strict=True))
        self.answers |= found
        yield from self._in_order(
            {
                row: [self.task.words(answer, self.net.classes), f"{confidence:.4f}", ""]
                for (row, answer), confidence in zip(found.items(), sure, strict=True)
            }
        )

    def rest(self) -> Iterator[list[str]]:
        """Give the lines of files that could not be read and have none yet."""
        yield from self._in_order({})

    def _in_order(self, found: dict[int, list[str]]) -> Iterator[list[str]]:
        lost = {row: ["", "", self.problems[row]] for row in self.problems.keys() - self.written}
        for row, words in sorted((found | lost).items()):
            yield [str(self.files[row]), *words]
        self.written |= found.keys() | lost.keys()


def answers_of(net: Network, task: Task, logits: Tensor) -> list[float]:
    """Give the task's answers to what a network says, which may be that a row is unknown."""
    answers: list[float] = task.answer(net.with_unknown(logits)).tolist()
    return answers

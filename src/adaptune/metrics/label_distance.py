"""A tally of how far answers lie from the truth, under a metric on labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adaptune.metrics.tally import Mistake
from adaptune.ops.label_distances import frechet_costs
from adaptune.ops.rows import need_rows
from adaptune.results.score import Score, Scores
from adaptune.runtime.processes import add_up
from adaptune.types import Outputs

RULES = ("frechet_mean", "likeliest_class")


class DistanceTally:
    """Adds up squared distances of answers from the truth: of Frechet means, of likeliest classes.

    Args:
        classes: How many classes the network has; they are the first answers.
        distances: Those between answers, (Y, Y). Labels are numbers of answers.

    The main score is the Frechet means' mean squared distance. The detail of its scores has, by
    rule, that distance (``squared_distance``) and what share is right, in percent (``right``).
    It keeps sums alone, and no mistakes.
    """

    def __init__(self, classes: int, distances: Tensor) -> None:
        self.classes, self.squares = classes, distances.double().square()
        self.rows = torch.zeros(2, dtype=torch.float64)
        self.sums = torch.zeros(len(RULES), 3, dtype=torch.float64)

    def add(self, outputs: Outputs) -> None:
        """Count one batch.

        Raises:
            ValueError: If the outputs are not one prediction a row.
        """
        need_rows(outputs.logits, "a score by distances")
        squares = self.squares.to(outputs.logits.device)
        costs = frechet_costs(outputs.logits, squares[:, : self.classes].sqrt())
        expected = costs.gather(1, outputs.y.unsqueeze(1)).sum()
        sums = []
        for answer in (costs.argmin(1), outputs.logits.argmax(1)):
            far = squares[outputs.y, answer]
            right = (answer == outputs.y).double()
            sums.append(torch.stack([far.sum(), far.square().sum(), right.sum()]))
        rows = torch.stack([torch.full_like(expected, len(outputs.y)), expected])
        self.rows = self.rows.to(rows.device) + rows
        self.sums = self.sums.to(rows.device) + torch.stack(sums)

    def merge(self) -> None:
        """Add up what all processes counted."""
        self.rows, self.sums = add_up(self.rows), add_up(self.sums)

    def scores(self) -> Scores:
        """Score the set, with the normal interval of the mean.

        Raises:
            ValueError: If it had no row.
        """
        count, expected = self.rows.tolist()
        if not count:
            raise ValueError(
                "no example could be scored: the set is empty, or no file could be read"
            )
        detail = {
            rule: {"squared_distance": far / count, "right": 100 * right / count}
            for rule, (far, _, right) in zip(RULES, self.sums.tolist(), strict=True)
        }
        far, squared, _ = self.sums[0].tolist()
        mean = far / count
        error = math.sqrt(max(squared / count - mean**2, 0.0) / count)
        low, high = max(0.0, mean - 1.96 * error), mean + 1.96 * error
        main = Score("squared distance", mean, low, high, error, unit="", better="lower")
        return Scores(main, expected / count, int(count), detail)

    def mistakes(self) -> list[Mistake]:
        """Give none."""
        return []


def describe_rules(scores: Scores) -> str:
    """Say what either rule comes to.

    >>> tally = DistanceTally(2, 1 - torch.eye(2))
    >>> tally.add(Outputs(torch.eye(2), torch.tensor([0, 0]), torch.eye(2), torch.arange(2)))
    >>> print(describe_rules(tally.scores()).split(";")[0])
    the Frechet mean is 0.5 from the truth, squared, on average and right in 50.0%
    """
    mean, class_ = (scores.detail[rule] for rule in RULES)
    return (
        f"the Frechet mean is {mean['squared_distance']:.4g} from the truth, squared, on average "
        f"and right in {mean['right']:.1f}%; the likeliest class {class_['squared_distance']:.4g} "
        f"and {class_['right']:.1f}%"
    )

"""Batch statistics calibrated at test time."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from adaptune.batchnorm.layers import mixed_statistics, need_batchnorm, train_batchnorm_only
from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.ops.rows import rows
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, Between, Group, Needs, Objective


class AlphaBN(Method):
    """Normalise by a mix of the source's statistics and the batch's; no gradient by default.

    Every batch norm normalises by ``alpha`` of its running statistics and 1 - ``alpha`` of those
    of the batch at hand, mean and variance alike, in training and when predicting; running
    statistics, weights and biases stay. Source: Test-time Batch Statistics Calibration for
    Covariate Shift (You, Li and Zhao, 2021).

    Unverified, since the paper's text could not be had: the loss of ``core`` (this one is the
    off-diagonal mass of the normalised correlation), what it moves and how fast, and the default of
    ``alpha`` (that of another implementation). The batch's variance is the biased one, by which
    train mode normalises.

    Args:
        alpha: The share of running statistics: 1 is eval mode and 0 train mode, to the bit.
        core: Add the paper's online learning by the correlation of classes: weights and biases of
            batch norms learn, the rest is frozen.
        lr: The rate of what ``core`` moves.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "test-time"

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        alpha: Annotated[float, Between(0.05, 1.0)] = 0.9,
        core: bool = False,
        lr: Annotated[float, Between(1e-5, 1e-2)] = 0.00025,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        mixed_statistics(alpha)  # which refuses what is no share
        self.alpha, self.core, self.lr = alpha, core, lr
        need_batchnorm(net.body)
        if core:
            train_batchnorm_only(net)

    def groups(self) -> list[Group]:
        """Train nothing, or batch norms alone."""
        return [Group(self.net, self.lr)] if self.core else []

    def forward(self, x: Tensor) -> Tensor:
        """Predict by the mix of statistics."""
        with mixed_statistics(self.alpha):
            return self.net(x)  # type: ignore[no-any-return]

    def objective(self, batch: Batch) -> Objective:
        """Ask for classes that are not taken for one another, if for anything."""
        logits = self(batch.unlabeled.x)
        terms = {"core": class_correlation(rows(logits).softmax(1))} if self.core else {}
        return Objective(terms, logits)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Answer; with ``core``, learn from it too."""
        if self.core:
            return super().step(batch, descend)
        with torch.no_grad():
            return self.objective(batch)


def class_correlation(predictions: Tensor) -> Tensor:
    """Give the mean share of each class's correlation that is with other classes, 0 to 1.

    Of C = P'P over rows P (N, K) of probabilities, row k is divided by its sum; the share is 1
    less the diagonal. It is 0 where every row is certain and every class occurs.

    >>> class_correlation(torch.eye(3)), class_correlation(torch.full((5, 4), 0.25))
    (tensor(0.), tensor(0.7500))
    """
    correlation = predictions.T @ predictions
    own = correlation.diagonal() / correlation.sum(1).clamp_min(torch.finfo(predictions.dtype).tiny)
    return 1 - own.mean()

"""Laplacian adjusted maximum likelihood at test time."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.batchnorm.layers import mixed_statistics
from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Group, Needs, Objective


class LAME(Method):
    """Correct a batch's predictions together: images alike get classes alike; no weight changes.

    Of a batch with predictions q, assignments z minimise sum_i KL(z_i | q_i) less sum_ij w_ij z_i .
    z_j, where w_ij is 1 if j is among the ``neighbours`` of i by the cosine of features, 0 if not.
    In turn z becomes the softmax of log q + w z, from q on, until what is minimised stands still.
    Nothing is kept from batch to batch. Source: Parameter-free Online Test-time Adaptation (Boudiaf
    et al., 2022).

    It is for streams in which what comes together is alike; where the classes of a batch are mixed
    it can do harm. Batch norms keep to their running statistics, as in the paper; with ``alpha``
    below 1, which is ours, they normalise by a mix with the batch's, as in alpha-bn.

    Args:
        neighbours: How many images of the batch each is drawn to.
        rounds: The most turns of the assignments.
        alpha: The share of running statistics by which batch norms normalise.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "test-time"

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        neighbours: int = 5,
        rounds: int = 100,
        alpha: Annotated[float, Between(0.05, 1.0)] = 1.0,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        mixed_statistics(alpha)  # which refuses what is no share
        if neighbours < 0 or rounds < 0:
            raise ValueError(f"these are numbers from 0 up: got {neighbours} and {rounds}")
        self.neighbours, self.rounds, self.alpha = neighbours, rounds, alpha

    def groups(self) -> list[Group]:
        """Train nothing."""
        return []

    def forward(self, x: Tensor) -> Tensor:
        """Predict the images of a batch together."""
        with mixed_statistics(self.alpha):
            features = self.net.body(x)
        logs = self.net.head(features).log_softmax(1)
        return assigned(logs, nearest(features, self.neighbours), self.rounds)

    def objective(self, batch: Batch) -> Objective:
        """Ask for nothing."""
        return Objective({}, self(batch.unlabeled.x))

    @torch.no_grad()
    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Answer."""
        del descend
        return self.objective(batch)


def nearest(features: Tensor, number: int) -> Tensor:
    """Say of rows (N, D) which others are among the nearest of each: ones in (N, N).

    They are fewer where there are no more.

    >>> nearest(torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]]), 1)
    tensor([[0., 1., 0.],
            [1., 0., 0.],
            [0., 1., 0.]])
    """
    unit = F.normalize(features)
    alike = (unit @ unit.T).fill_diagonal_(-torch.inf)
    near = alike.topk(min(number, len(alike) - 1), 1).indices
    return torch.zeros_like(alike).scatter_(1, near, 1.0)


def assigned(logs: Tensor, alike: Tensor, rounds: int = 100) -> Tensor:
    """Correct log-probabilities (N, K) by which rows are alike, (N, N): log-probabilities (N, K).

    >>> assigned(torch.tensor([[0.9, 0.1], [0.4, 0.6]]).log(), 1 - torch.eye(2)).argmax(1)
    tensor([0, 0])
    """
    found, before = logs, math.nan
    for _ in range(rounds):
        pull = alike @ found.exp()
        found = (logs + pull).log_softmax(1)
        chances = found.exp()
        # 0 log 0 is 0, also where the network's own log-probability is without end.
        apart = torch.where(chances > 0, chances * (found - logs), 0.0).sum()
        now = float(apart - (chances * (alike @ chances)).sum())
        if abs(now - before) <= 1e-8 * abs(before):
            break
        before = now
    return found

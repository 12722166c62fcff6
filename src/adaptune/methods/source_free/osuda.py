"""Off-the-shelf source-free adaptation of batch norms."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

from adaptune.batchnorm.drift import SourceNorms
from adaptune.batchnorm.layers import need_batchnorm
from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.ops.information import entropy
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, Between, Domains, Group, Needs, Objective


class OSUDA(Method):
    """Lead batch norms from the source's statistics to the target's, and hold what they learnt.

    The network was trained on the source, which is not needed any more. In training a batch norm
    normalises by ``start`` exp(-t) of the source's mean and variance and the rest the batch's.
    Its weight and bias are held near the source's, those of channels whose means differ little
    more, and the mean entropy of predictions goes down. Running statistics, by which it predicts,
    begin as the source's and follow the target's batches. Only the body moves. Source: Adapting
    Off-the-Shelf Source Segmenter for Target Medical Image Segmentation (Liu et al., 2021).

    Checked is what the paper's abstract says; its equations are as others hand them on: that
    weights of channels are 1 + a with a proportional to 1 / (1 + d) (see `SourceNorms.drift`), and
    the decay. What t counts is not said there: here it rises from 0 to ``decay`` over the run. The
    weights of both terms, that the head stays and that running statistics predict are ours.

    Args:
        lr: The body's rate.
        start: The share of the source's statistics at the beginning.
        decay: How far exp(-t) falls over the run: t in the end.
        hold: How much it counts that weights and biases of batch norms stay, a sum over channels.
        certain: How much the entropy counts.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "source-free"

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.001,
        start: float = 1.0,
        decay: Annotated[float, Between(1.0, 30.0)] = 10.0,
        hold: Annotated[float, Between(1e-5, 0.1)] = 0.001,
        certain: Annotated[float, Between(0.01, 10.0)] = 1.0,
    ) -> None:
        super().__init__(net, task)
        if not 0 <= start <= 1:
            raise ValueError(f"the share of the source's statistics is from 0 to 1: got {start}")
        self.lr, self.start, self.decay, self.hold, self.certain = lr, start, decay, hold, certain
        need_batchnorm(net.body)
        self.source = SourceNorms(net.body)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Take what batch norms are for the source's."""
        self.source.start(self.net.body)
        return {}

    def groups(self) -> list[Group]:
        """Train the body alone."""
        return [Group(self.net.body, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for certain predictions, and for weights and biases that stay."""
        share = self.start * math.exp(-self.decay * batch.progress)
        with self.source.mixed(self.net.body, share):
            logits = self.net(batch.unlabeled.x)
        terms = {
            "certain": self.certain * entropy(logits).mean(),
            "drift": self.hold * self.source.drift(self.net.body),
        }
        return Objective(terms, logits)

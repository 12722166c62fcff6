"""Where methods of places begin: a network that knows the toy's source, and small targets."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

from places import DensePlaces, dense_network
from toy import CLASSES

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.heads import Readout
from adaptune.networks.network import Network
from adaptune.tasks.segmentation import Segmentation

TASK = Segmentation(len(CLASSES))
PLAN = Plan(epochs=4, seed=5, layout="contiguous")


def source_trained(seed: int = 0) -> Network[Readout]:
    """Give a network that was fine-tuned on the source alone."""
    return deepcopy(_source_trained(seed))


@cache
def _source_trained(seed: int) -> Network[Readout]:
    net = dense_network(seed)
    for _ in fit(FineTune(net, TASK), DensePlaces(), PLAN):
        pass
    return net


class FewOfTheTarget(DensePlaces):
    """The toy with only the first images of its target to learn from; scored on all of them."""

    def __init__(self, count: int = 1, *, tint: float = 1.0) -> None:
        super().__init__(tint=tint)
        self.all = self.target
        self.target = self.target[:count]

    def accuracy(self, model) -> float:
        few, self.target = self.target, self.all
        try:
            return super().accuracy(model)
        finally:
            self.target = few

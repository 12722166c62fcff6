"""Digits in another light of which four are of no known class, for methods that reject."""

from __future__ import annotations

import torch
from test_methods_on_digits import CLASSES, Digits, network

from adaptune.engine.evaluate import evaluate
from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.types import Labeled

KNOWN = 6
"""The digits below it are known."""


class OpenDigits(Digits):
    """Six digits as the scanner saw them, and all ten of other writers in another light."""

    def __init__(self) -> None:
        super().__init__()
        kept = self.y < KNOWN
        self.x, self.y, self.domain = self.x[kept], self.y[kept], self.domain[kept]
        self.truth = self.truth.clamp(max=KNOWN)

    def h_score(self, method: Method, threshold: float) -> float:
        """Score a method whose network rejects above a threshold, in percent."""
        method.eval().net.threshold = threshold
        rows = torch.arange(len(self.target))
        batch = Labeled(self.target, rows * 0, rows, y=self.truth)
        found: float = evaluate(method, [batch], method.task).scores.detail["open_set"]["h"]
        return found

    def best_h_score(self, method: Method) -> float:
        """Score it at the threshold that is best for it, which the target's labels tell."""
        return max(self.h_score(method, threshold / 20) for threshold in range(1, 20))


def six_digits() -> Network:
    """Give a network of the known digits."""
    return network(CLASSES[:KNOWN])

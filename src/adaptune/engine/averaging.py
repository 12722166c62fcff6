"""Weights averaged along a run, or drawn back to where it began: what is judged and kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from adaptune.batchnorm.layers import batchnorms
from adaptune.batchnorm.renewal import renew_statistics
from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.runtime.shards import joined, shard_like, whole
from adaptune.types import Domains, Needs

Item = TypeVar("Item")


class Averaging:
    """What a plan hands back of the weights that are trained: their average, or a point before it.

    - ``ema``: after each step a <- a + (1 - d) (w - a), from the weights w that training started
      from, with d = min(decay, (1 + t) / (10 + t)) after t earlier steps, so that an average of few
      steps does not hang on its beginning. Steps that are left out count, too.
    - ``swa``: the equal average of the weights at the end of each epoch from a share of the run on,
      while the rate stays what it is there (`Plan.share`); until then it is the weights. Source:
      Averaging Weights Leads to Wider Optima and Better Generalization (Izmailov et al., 2018).
    - ``interpolate`` A: (1 - A) s + A a, where s is what training started from, as `prepare` left
      it, and a the average or the weights. Source: Robust Fine-Tuning of Zero-Shot Models (Wortsman
      et al., 2022); there s has the head that text gives.

    All parameters of the method's network are averaged, its buffers never, nor what else the method
    keeps. Statistics of batch norms belong to weights: where the layers are in train mode they are
    measured anew on the training images whenever other weights are handed back, in one pass, in
    which each batch is normalised by its own (`renew_statistics`); where they are held they stay.
    Izmailov et al. take such a pass over training batches at the end; that it is one without
    augmentation, after each epoch, is ours, and so is what it sees where a method learns from two
    sides: batches of both (`training_images`). At A = 0 statistics are those of the start.

    It costs a copy of the parameters for the average, one for the start, and, while interpolated
    weights are handed back, one for these; a checkpoint holds the first two. Where a method is
    trained in shards (``trained``) the first two are sharded, and joined to be handed back.
    """

    def __init__(self, method: Method, plan: Plan, trained: Method | None = None) -> None:
        self.method, self.plan, self.count = method, plan, 0
        self.trained = trained or method
        self.mean = self._copies(statistics=False) if plan.average != "none" else {}
        self.start = self._copies(statistics=True) if plan.interpolate < 1 else {}
        self.own: dict[str, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Count a step in an exponential average."""
        if self.plan.average == "ema":
            decay = min(self.plan.average_decay, (1 + self.count) / (10 + self.count))
            self._follow(1 - decay)

    @torch.no_grad()
    def end(self, epoch: int) -> None:
        """Count an epoch, from 1, that has ended, in an equal average."""
        if self.plan.average == "swa" and epoch / self.plan.epochs >= self.plan.average_from:
            self._follow(1 / (1 + self.count))

    def _follow(self, share: float) -> None:
        weights = self._weights(self.trained)
        means = [self.mean[name] for name in weights]
        torch._foreach_lerp_(means, list(weights.values()), share)
        self.count += 1

    @torch.no_grad()
    def hand_back(self, data: Domains) -> None:
        """Put what is judged and kept in the place of the weights that are trained.

        These keep their memory, which a state that was taken before goes on to see.
        """
        if self.own or not (self.count or self.start):
            return
        judged, statistics = self._judged(), self._statistics(self.method)
        for name, tensor in (self._weights(self.method) | statistics).items():
            self.own[name] = tensor.data
            tensor.data = whole(judged[name].detach()) if name in judged else tensor.clone()
        if statistics and self.plan.interpolate and self.method.net.batchnorm != "eval":
            renew_statistics(self.method.net.body, lambda: training_images(data, self.method.needs))

    def take_back(self) -> None:
        """Put the weights that are trained back in their place, to the bit."""
        if self.own:
            own = self._weights(self.method) | self._statistics(self.method)
            for name, tensor in own.items():
                tensor.data = self.own[name]
        self.own = {}

    def _judged(self) -> Mapping[str, Tensor]:
        """Give the weights to hand back; at the start itself its statistics, too."""
        if not self.plan.interpolate:
            return self.start
        weights = self.mean if self.count else self._weights(self.trained)
        if not self.start:
            return weights
        share = self.plan.interpolate
        return {name: torch.lerp(self.start[name], one, share) for name, one in weights.items()}

    def _weights(self, method: Method) -> dict[str, Tensor]:
        return dict(method.net.named_parameters())

    def _statistics(self, method: Method) -> dict[str, Tensor]:
        """Give the running statistics of batch norms, by name."""
        found = {
            f"{name}.{what}": getattr(norm, what)
            for name, norm in batchnorms(method.net)
            for what in ("running_mean", "running_var")
        }
        return {name: one for name, one in found.items() if one is not None}

    def _copies(self, *, statistics: bool) -> dict[str, Tensor]:
        own = self._weights(self.trained)
        own |= self._statistics(self.trained) if statistics else {}
        return {name: one.detach().clone() for name, one in own.items()}

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint holds beside the weights that are trained."""
        return {"count": self.count, "mean": joined(self.mean), "start": joined(self.start)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.count = state["count"]
        for kept, known in ((self.mean, state["mean"]), (self.start, state["start"])):
            for name, one in kept.items():
                one.copy_(shard_like(known[name], one))


def averaging_of(
    method: Method, plan: Plan, state: Mapping[str, Any] | None, trained: Method | None = None
) -> Averaging:
    """Begin an average, or go on with that of a state.

    Raises:
        ValueError: If the plan asks for one, and the state knows none.
    """
    made = Averaging(method, plan, trained)
    if state is not None and plan.averages:
        if "average" not in state:
            raise ValueError(
                "what was saved knows no average of weights, nor where training started from: go "
                "on without --average and --interpolate, as it was begun"
            )
        made.load_state_dict(state["average"])
    return made


def training_images(data: Domains, needs: Needs) -> Iterator[Tensor]:
    """Give what a method trains on, in batches, shuffled, without augmentation.

    Labelled images come once each, and so do a target's. Where it learns from both, a batch has
    both, and the side that has fewer begins again until the other has ended.
    """
    sides: list[Callable[[], Iterable[Any]]] = []
    if needs.labeled:
        sides.append(lambda: data.scan("train", shuffled=True))
    if needs.unlabeled:
        sides.append(lambda: data.unlabeled(shuffled=True))
    for rows in abreast(*sides):
        yield torch.cat([side.x for side in rows]) if len(rows) > 1 else rows[0].x


def abreast(*passes: Callable[[], Iterable[Item]]) -> Iterator[list[Item]]:
    """Give items of several passes side by side, until each has ended; the shorter begin again.

    One that has no items is left out.

    >>> list(abreast(lambda: "abc", lambda: "12", lambda: ""))
    [['a', '1'], ['b', '2'], ['c', '1']]
    """
    begun = [iter(one()) for one in passes]
    ended = [False for _ in passes]
    while True:
        row = []
        for at, one in enumerate(passes):
            found = list(islice(begun[at], 1))
            if not found:
                ended[at], begun[at] = True, iter(one())
                found = list(islice(begun[at], 1))
            row += found
        if all(ended):
            return
        yield row

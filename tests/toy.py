"""A small network with batch norms and a small learnable data set, for methods and loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache

import torch
from torch import nn
from torch.utils.data import TensorDataset

from adaptune.data import DomainData, Loading, from_datasets
from adaptune.engine.loop import fit
from adaptune.engine.method import Method, task_kind, teachers_of
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.runs.setup import Setup
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled, Needs, Split, Unlabeled, empty_unlabeled

CLASSES = ("red", "green", "blue")


def classifies(method: type[Method]) -> bool:
    """Tell whether a method works on classification of images, and so on the toy."""
    return issubclass(Classification, task_kind(method)) and not method.needs.tokens


def body() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 7),
    )


def network(seed: int = 0) -> Network:
    """Give a network whose batch norms have seen other data than the toy's.

    It is made once for a seed; what is drawn next is what would be if it were made each time.
    """
    made, state = _network(seed)
    torch.set_rng_state(state)
    return deepcopy(made)


@cache
def _network(seed: int) -> tuple[Network, torch.Tensor]:
    torch.manual_seed(seed)
    module = body().train()
    with torch.no_grad():
        for _ in range(30):
            module(1.5 * torch.randn(16, 3, 8, 8) + 0.3)
    return Network.from_module(module, head="8", classes=CLASSES), torch.get_rng_state()


def images(count: int, shift: float = 0.0, seed: int = 0) -> TensorDataset:
    """Give noisy images in which one channel is brighter: the class."""
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    x = 0.6 * torch.randn(count, 3, 8, 8, generator=random) + shift
    x[torch.arange(count), y] += 1.0
    return TensorDataset(x, y)


def tinted(x: torch.Tensor, tint: float) -> torch.Tensor:
    """Make the first channel brighter and the second darker, so that one class looks like another.

    Of networks trained without, one class in three is lost at 1.0, until batch norms adapt.
    """
    return x + tint * torch.tensor([1.0, -0.6, 0.2]).view(3, 1, 1)


def domains(count: int = 70, *, batch_size: int = 16, seed: int = 0) -> DomainData:
    """Give train, val and test sets of the toy, and a shifted domain."""
    return from_datasets(
        images(count),
        images(30, seed=1),
        images(30, seed=2),
        classes=CLASSES,
        ood={"shifted": images(30, shift=0.5, seed=3)},
        loading=Loading(batch_size=batch_size, seed=seed),
    )


def trained(seed: int = 0, *, lr: float = 0.03, epochs: int = 6) -> Network:
    """Give a network that was trained a little on the source of `TwoDomains`."""
    return deepcopy(_trained(seed, lr, epochs))


@cache
def _trained(seed: int, lr: float, epochs: int) -> Network:
    net = network(seed)
    method = FineTune(net, Classification(len(CLASSES)), lr=lr)
    plan = Plan(epochs=epochs, seed=seed, layout="channels_last")  # the same bits in any process
    for _ in fit(method, TwoDomains(), plan):
        pass
    return net


def target_mean(make: Callable[[Network], Method], seeds: int = 2) -> float:
    """Train on a source and a target in another colour; give the mean score there, in percent."""
    scores = []
    for seed in range(seeds):
        method, data = make(network(seed)), TwoDomains(cast=0.6)
        for _ in fit(method, data, Plan(epochs=12, seed=seed)):
            pass
        scores.append(data.accuracy(method))
    return sum(scores) / len(scores)


@cache
def source_alone(seeds: int = 2) -> float:
    """Give what fine-tuning on the source reaches there; see `target_mean`."""
    return target_mean(lambda net: FineTune(net, Classification(len(CLASSES))), seeds)


def teachers(method: type[Method]) -> list[object]:
    """Give what a method takes after network and task: nothing, or networks of other seeds."""
    takes = teachers_of(method)
    if takes == "none":
        return []
    first, second = (Reference(trained(seed), network().preprocess) for seed in (1, 2))
    return [first] if takes == "one" else [(first, second)]


class Toy(Setup):
    """The setting of the toy: its network, whatever backbone is named."""

    def network(self, classes: tuple[str, ...]) -> Network:
        del classes
        return network()


class TwoDomains:
    """Labelled sources and an unlabelled target in memory, served as a method needs them.

    Of the target only images are there; ``truth`` holds its labels for whoever scores. Every
    source has brightness of its own, and the target is shifted further, with a ``cast`` in colour
    or a ``tint``: classes look alike to a network trained on the source. ``asked`` lists
    the rows whose labels were asked for, ``budget`` is how many may be.
    """

    def __init__(
        self,
        *,
        sources: int = 1,
        count: int = 96,
        batch_size: int = 24,
        budget: int = 100,
        cast: float = 0.0,
        tint: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.size, self.seed = batch_size, seed
        sets = [images(count, shift=0.4 * d, seed=10 + d).tensors for d in range(sources)]
        self.x, self.y = (torch.cat(part) for part in zip(*sets, strict=True))
        self.domain = torch.arange(sources).repeat_interleave(count)
        self.target, self.truth = images(count, shift=-0.8, seed=30).tensors
        self.target = self.target + cast * torch.tensor([1.0, 0.0, -1.0])[:, None, None]
        self.target = tinted(self.target, tint)
        self.sources, self.budget = sources, budget
        self.queried: list[int] = []

    def batches(self, needs: Needs, epoch: int, start: int = 0) -> Iterator[Batch]:
        random = torch.Generator().manual_seed(1000 * self.seed + epoch)
        mine, theirs = (torch.randperm(len(x), generator=random) for x in (self.x, self.target))
        for number in range(start, self.steps(needs)):
            at = torch.arange(number * self.size, (number + 1) * self.size)
            some = theirs[at % len(theirs)]
            views = tuple(
                self.target[some] + 0.1 * torch.randn(self.target[some].shape, generator=random)
                for _ in range(needs.views)
            )
            labeled = self._labeled(mine[at % len(mine)] if needs.labeled else mine[:0])
            yield Batch(
                labeled, self._unlabeled(some, views) if needs.unlabeled else empty_unlabeled()
            )

    def scan(self, split: Split, *, shuffled: bool = False) -> Iterator[Labeled]:
        del split, shuffled
        for rows in torch.arange(len(self.x)).split(self.size):
            yield self._labeled(rows)

    def unlabeled(self, *, shuffled: bool = False) -> Iterator[Unlabeled]:
        del shuffled
        for rows in torch.arange(len(self.target)).split(self.size):
            yield self._unlabeled(rows)

    def query_labels(self, index: torch.Tensor) -> torch.Tensor:
        self.queried += index.tolist()
        assert len(self.queried) <= self.budget
        return self.truth[index]

    def steps(self, needs: Needs) -> int:
        return (len(self.x) if needs.labeled else len(self.target)) // self.size

    def accuracy(self, model: nn.Module) -> float:
        """Score a model in eval mode on the target, in percent."""
        model.eval()
        with torch.no_grad():
            right = model(self.target)[:, : len(CLASSES)].argmax(1) == self.truth
        return 100 * float(right.double().mean())

    def _labeled(self, rows: torch.Tensor) -> Labeled:
        return Labeled(self.x[rows], self.domain[rows], rows, y=self.y[rows])

    def _unlabeled(self, rows: torch.Tensor, views: tuple[torch.Tensor, ...] = ()) -> Unlabeled:
        domain = torch.full_like(rows, self.sources)
        return Unlabeled(self.target[rows], domain, rows, views)

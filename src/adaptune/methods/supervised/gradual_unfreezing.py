"""Fine-tuning that begins with the head and unfreezes the layers below one after the other."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar

from torch import nn

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.networks.stages import group_parameters, layer_groups
from adaptune.tasks.task import Task
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Objective


class GradualUnfreezing(Method):
    """Train the head first, then one more group of layers at a time, the lower the slower.

    Groups are the body's stages (`layer_groups`). The head, random at first, learns at ``lr``, each
    group at the rate of the one above it divided by ``factor``. Batch norms of layers that are
    still frozen normalise by their running statistics, which stay; those of the others do as
    ``batchnorm`` says, by default the same. Source: Universal Language Model Fine-tuning for Text
    Classification (Howard and Ruder, 2018).

    The paper unfreezes one more group an epoch, and then goes on until nothing gains. Here groups
    are unfrozen evenly over the first ``share`` of the run, whatever its epochs, so that all learn
    in the rest: a head and five stages in ten epochs are the paper's one an epoch. Rates follow the
    plan's schedule, where the paper's rise and fall in triangles. Stages of images are ours, the
    paper's groups are the layers of a language model.

    Args:
        lr: The rate of the head.
        factor: By what each group's rate is divided to give that of the group below it.
        share: The share of the run after which nothing is frozen; 0 freezes nothing.
        batchnorm: What batch norms of unfrozen layers do: train, eval or converted (DAFT's
            conversion, then train).
    """

    setting: ClassVar[str] = "supervised"

    def __init__(
        self,
        net: Network,
        task: Task,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.01,
        factor: float = 2.6,
        share: float = 0.5,
        batchnorm: BatchNormPolicy = "eval",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not 1 <= factor < float("inf"):
            raise ValueError(f"the factor between rates is a number from 1 up: got {factor}")
        if not 0 <= share <= 1:
            raise ValueError(f"share is one of the run, from 0 to 1: got {share}")
        self.lr, self.factor, self.share, self.batchnorm = lr, factor, share, batchnorm
        self.stages = layer_groups(net.body)[::-1]

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; say which layers are unfrozen together."""
        ends = [f"{names[0]} to {names[-1]}" for names in self.stages]
        return {"groups": ["head", *ends], **super().prepare(data)}

    def parts(self) -> list[nn.Module]:
        """Give what is unfrozen one after the other: the head, then the body's stages downwards."""
        return [self.net.head, *group_parameters(self.net.body, self.stages)]

    def groups(self) -> list[Group]:
        """Train each part more slowly than the one above it."""
        return [Group(one, self.lr / self.factor**at) for at, one in enumerate(self.parts())]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Move what is unfrozen at this point of the run."""
        count = unfrozen(batch.progress, 1 + len(self.stages), self.share)
        free = {name for names in self.stages[: count - 1] for name in names}
        for name, norm in batchnorms(self.net.body):
            norm.train(name in free)
        return descend(partial(self.objective, batch), *self.parts()[:count])

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)


def unfrozen(progress: float, parts: int, share: float) -> int:
    """Say how many of a network's parts learn at ``progress``, 0 to 1, of the run.

    All of them do from ``share`` of the run on, and up to there one more at equal distances.

    >>> [unfrozen(epoch / 10, 6, 0.5) for epoch in range(8)]
    [1, 2, 3, 4, 5, 6, 6, 6]
    >>> unfrozen(0.0, 6, 0.0)
    6
    """
    if progress >= share:
        return parts
    return 1 + int(progress / share * (parts - 1) + 1e-9)

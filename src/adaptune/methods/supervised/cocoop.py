"""Prompts to which every image adds."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch

from adaptune.engine.method import Method
from adaptune.networks.joint import Words
from adaptune.networks.network import Network
from adaptune.networks.prompt_start import start_prompts
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, Between, Group, Objective


class CoCoOp(Method):
    """Learn vectors in class texts, and what each image adds to them, so that new classes keep.

    As `coop` with shared vectors; two layers make of an image's embedding one vector more, which is
    added to all, so every image is compared with texts of its own: a batch costs as many texts as
    it has images, times classes. Source: Conditional Prompt Learning for Vision-Language Models
    (Zhou et al., 2022).

    The first layer has a sixteenth of the space's axes, as in the paper, which trains with one
    image a batch. Where there is an output at every place, the image's embedding is that of its
    mean features, which is ours. Body, tower and scale are frozen; batch norms keep to their
    running statistics.

    Args:
        lr: The rate of the vectors and layers.
        context: How many vectors there are.
    """

    setting: ClassVar[str] = "supervised"
    task: Labelling
    net: Network[Words]

    def __init__(
        self,
        net: Network[Words],
        task: Labelling,
        *,
        lr: Annotated[float, Between(1e-4, 1.0)] = 0.002,
        context: int = 4,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        self.lr, self.context = lr, context
        hidden = max(len(net.head.joint.weight) // 16, 1)
        self.prompts = start_prompts(net, "image-prompts", context, hidden=hidden)

    def groups(self) -> list[Group]:
        """Train the vectors and what images add."""
        return [Group(self.prompts, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        with torch.no_grad():
            features = self.net.body(batch.labeled.x)
        logits = self.net.head(features)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)

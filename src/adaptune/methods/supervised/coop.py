"""Prompts that learn from a few images."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch

from adaptune.engine.method import Method
from adaptune.networks.joint import Words
from adaptune.networks.network import Network
from adaptune.networks.prompt_start import start_prompts
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, Between, Group, Objective


class CoOp(Method):
    """Learn the words around class names: vectors in the place of tokens, and nothing else.

    Each class's texts are read with ``context`` vectors before its name, and these go down the
    task's loss of the classes so made; body, tower and scale are frozen. Source: Learning to Prompt
    for Vision-Language Models (Zhou et al., 2022).

    Vectors stand behind what a tokenizer puts before every text. Where texts begin alike (``a photo
    of a``), the last vectors take those places and begin as what stood there, as the paper's
    initialisation by words does; the rest is put before them and begins at random. The paper's
    rate falls over 50 to 200 epochs of at most 16 images a class. Batch norms keep to their running
    statistics.

    Args:
        lr: The rate of the vectors.
        context: How many vectors there are, 4 or 16 in the paper.
        per_class: Whether each class has its own, or all share the same.
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
        per_class: bool = False,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        self.lr, self.context, self.per_class = lr, context, per_class
        self.prompts = start_prompts(net, "prompts", context, per_class=per_class)

    def groups(self) -> list[Group]:
        """Train the vectors."""
        return [Group(self.prompts, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        with torch.no_grad():
            features = self.net.body(batch.labeled.x)
        logits = self.net.head(features)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)

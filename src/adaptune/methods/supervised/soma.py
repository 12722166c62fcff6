"""Adaptation of minor singular components."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

from adaptune.engine.method import Method
from adaptune.methods.supervised.l2_sp import penalised, squared_norm
from adaptune.networks.layers.lora import adaptable_layers, add_minor_components
from adaptune.networks.network import Network
from adaptune.tasks.task import Task
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Objective, Rate


class SoMA(Method):
    """Let only the smallest singular components of the later layers learn, and the head.

    What was pretrained lies in a weight's large components, so these stay. Each linear layer and
    convolution of one group is split by its SVD (`add_minor_components`, in peft's adapters): its
    ``rank`` smallest components and its bias learn, the rest is frozen, weights and biases of batch
    norms too. The first third of the layers is frozen altogether. What is saved is a plain network,
    components folded into the weights. A decoder that begins at random learns as the head does.
    Batch norms stay in eval mode unless ``batchnorm`` says otherwise. Source: SoMA: Singular Value
    Decomposed Minor Components Adaptation (Yun et al., 2024).

    The paper adapts transformers, by AdamW, from block 8 of 24 on; convolutions, all kernels
    flattened to (O, I h w), and layers that are counted one by one are ours. Its decay of 0.05
    falls along a cosine to 1e-5. Here it is a term, ``decay / 2`` times the squared norm of all
    weights that learn, components and head, so how fast they shrink goes by the rate too; the
    plan's own should stay 0.

    Args:
        lr: The rate of head and components; the paper's are half as fast as its decoder.
        rank: How many components of each layer learn.
        frozen: The share of layers, from the input up, of which none learns.
        decay: The weight decay at the start of the run.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    setting: ClassVar[str] = "supervised"

    def __init__(
        self,
        net: Network,
        task: Task,
        *,
        lr: Rate = 0.01,
        rank: int = 16,
        frozen: float = 0.334,
        decay: Annotated[float, Between(1e-4, 0.5)] = 0.05,
        batchnorm: BatchNormPolicy = "eval",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if rank < 1 or not 0 <= frozen < 1 or not 0 <= decay < math.inf:
            raise ValueError(
                "rank is a number from 1 up, frozen a share from 0 to below 1, decay a weight from "
                f"0 up: got {rank}, {frozen} and {decay}"
            )
        self.lr, self.rank, self.frozen, self.decay = lr, rank, frozen, decay
        self.batchnorm = batchnorm
        new = [part for name, part in net.body.named_children() if name in net.neck]
        names = [one for one in adaptable_layers(net.body) if one.split(".")[0] not in net.neck]
        self.adapted = names[int(frozen * len(names)) :]
        add_minor_components(net.body, self.adapted, rank=rank)
        for part in new:
            part.requires_grad_(True)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; say which layers learn."""
        return {"adapted": self.adapted} | super().prepare(data)

    def groups(self) -> list[Group]:
        """Train head and components at one rate; the body has little else that learns."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels, and for small components."""
        logits = self.net(batch.labeled.x)
        weights = [one for one in penalised(self.net) if one.requires_grad]
        decay = annealed(self.decay, batch.progress)
        terms = {
            "task": self.task.loss(logits, batch.labeled.y),
            "decay": decay / 2 * squared_norm(weights, logits),
        }
        return Objective(terms, logits)


LEAST = 1e-5
"""What the decay falls to."""


def annealed(decay: float, progress: float) -> float:
    """Give the decay at ``progress``, 0 to 1, of the run: along a cosine down to `LEAST`.

    >>> [round(annealed(0.05, progress), 5) for progress in (0.0, 0.5, 1.0)]
    [0.05, 0.025, 1e-05]
    """
    least = min(decay, LEAST)
    return least + (decay - least) * (1 + math.cos(math.pi * progress)) / 2

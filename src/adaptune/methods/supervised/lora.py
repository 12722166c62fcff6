"""Low-rank adaptation."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from adaptune.engine.method import Method
from adaptune.methods.supervised.lp import probe_head
from adaptune.networks.heads import Readout
from adaptune.networks.layers.lora import add_lora
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Objective, Rate


class LoRA(Method):
    """Freeze the body, and learn corrections of low rank to its layers, and the head in full.

    Linear layers and convolutions get an adapter each (`add_lora`, by peft); everything else of the
    body is frozen, weights and biases of batch norms too. Grouped and depthwise convolutions are
    among what is frozen: peft cannot fold theirs, and in a kernel of one channel little is of low
    rank. Batch norms stay in eval mode unless ``batchnorm`` says otherwise. What is saved is a
    plain network, corrections folded into the weights. Source: LoRA: Low-Rank Adaptation of Large
    Language Models (Hu et al., 2022).

    The paper adapts attention in language models, by Adam; convolutions, all layers at once and
    descent by the plan are ours.

    Args:
        lr: The rate of head and adapters.
        rank: The rank of each correction.
        alpha: How much corrections count: they are multiplied by ``alpha / rank``.
        head: What the head starts as: random, or the best linear probe, as in lp-ft.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        cs: How many values of C the probe tries.
    """

    setting: ClassVar[str] = "supervised"
    task: Classification
    net: Network[Readout]

    def __init__(
        self,
        net: Network[Readout],
        task: Classification,
        *,
        lr: Rate = 0.01,
        rank: int = 8,
        alpha: Annotated[float, Between(1.0, 64.0)] = 16.0,
        head: Literal["random", "probe"] = "random",
        batchnorm: BatchNormPolicy = "eval",
        cs: int = 50,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if rank < 1 or not 0 < alpha < float("inf"):
            raise ValueError(f"rank and alpha are numbers above 0: got {rank} and {alpha}")
        self.lr, self.rank, self.alpha = lr, rank, alpha
        self.head, self.batchnorm, self.cs = head, batchnorm, cs
        self.adapted = add_lora(net.body, rank=rank, alpha=alpha)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Find the head if it is the probe; convert batch norms if the policy says so."""
        notes = {"adapted": self.adapted}
        if self.head == "random":
            return notes | super().prepare(data)
        how: dict[str, Any] = {"cs": self.cs, "batchnorm": self.batchnorm}
        return notes | probe_head(self.net, self.task, data, **how)

    def groups(self) -> list[Group]:
        """Train head and adapters at one rate; the body has nothing else that learns."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)

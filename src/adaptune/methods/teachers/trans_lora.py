"""What low-rank adapters of one network learnt, taken to another one without their data."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch.nn.functional as F

from adaptune.engine.method import Method
from adaptune.networks.layers.lora import add_lora
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Domains, Group, Objective, Rate


class TransLoRA(Method):
    """Freeze another network, and let its adapters learn what a finished run says of written texts.

    The body is frozen but for a correction of low rank to each layer (`add_lora`, by peft), which
    learns, beside the head, what a teacher (``--teacher RUN``, the network with the adapters that
    are to be moved) answers. Labels of the data take no part: they may be the teacher's own, and
    count in validation alone. The data are best written by a language model after a few examples,
    and only what a run that tells real texts from written ones takes for real (``adaptune write
    --keep RUN --label RUN``), so nothing of the teacher's own data is needed. Source: Trans-LoRA:
    towards data-free Transferable Parameter Efficient Finetuning (Wang et al., 2024).

    The paper moves adapters between language models: the teacher completes a text, and the adapters
    of queries and values learn that. Here the teacher classifies, and ``learn label`` is the same
    for an answer of one word; ``learn probabilities`` is plain distillation. Adapters on all layers
    and a head of its own are ours, as in lora. A teacher with another tokenizer reads what the
    network's tokenizer has kept of a text. Batch norms stay in eval mode. What is saved is a plain
    network, corrections folded into the weights.

    Args:
        lr: The rate of head and adapters.
        rank: The rank of each correction.
        alpha: How much corrections count: they are multiplied by ``alpha / rank``.
        learn: What is learnt of the teacher: its label, or its probabilities.
    """

    setting: ClassVar[str] = "teachers"

    def __init__(
        self,
        net: Network,
        task: Classification,
        teacher: Reference,
        *,
        lr: Rate = 0.01,
        rank: int = 8,
        alpha: Annotated[float, Between(1.0, 64.0)] = 16.0,
        learn: Literal["label", "probabilities"] = "label",
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        if rank < 1 or not 0 < alpha < float("inf"):
            raise ValueError(f"rank and alpha are numbers above 0: got {rank} and {alpha}")
        self.lr, self.rank, self.alpha, self.learn = lr, rank, alpha, learn
        self.teacher = teacher.matched(net.classes)
        self.adapted = add_lora(net.body, rank=rank, alpha=alpha)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Say which layers have adapters."""
        return {"adapted": self.adapted}

    def groups(self) -> list[Group]:
        """Train head and adapters at one rate; the body has nothing else that learns."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for what the teacher says."""
        x = batch.labeled.x
        logits, said = self.net(x), self.teacher(x)
        wanted = said.argmax(1) if self.learn == "label" else said.softmax(1)
        return Objective({"transfer": F.cross_entropy(logits, wanted)}, logits)

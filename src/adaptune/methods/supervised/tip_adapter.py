"""A memory of labelled images beside the texts of classes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch

from adaptune.engine.method import Method
from adaptune.networks.joint import Words
from adaptune.networks.network import Network
from adaptune.runtime.processes import gather
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Domains, Group, Objective


class TipAdapter(Method):
    """Remember the embeddings of a few labelled images, and let them count beside class texts.

    To the logits of each image come ``alpha exp(-beta (1 - c))`` for every remembered image, on its
    class, where c is the cosine of both. With ``learn`` off that is all, and nothing is trained;
    else what is remembered goes on to learn (Tip-Adapter-F), and body and tower are frozen.
    Source: Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification (Zhang et al.,
    2022).

    All training images are remembered, so it is for few (``--shots``), once each without
    augmentation, where the paper averages ten augmented copies; it searches ``alpha`` and ``beta``
    on validation images from 1 and 5.5. Batch norms keep to their running statistics.

    Args:
        lr: The rate of what is remembered; the paper's, of AdamW, is 0.001.
        alpha: What remembered images count beside the texts.
        beta: How fast they count less with distance.
        learn: Whether what is remembered learns.
    """

    setting: ClassVar[str] = "supervised"
    net: Network[Words]

    def __init__(
        self,
        net: Network[Words],
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-4, 1.0)] = 0.01,
        alpha: Annotated[float, Between(0.1, 100.0)] = 1.0,
        beta: Annotated[float, Between(0.5, 20.0)] = 5.5,
        learn: bool = True,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        if not (0 <= alpha < float("inf") and 0 < beta < float("inf")):
            raise ValueError(f"alpha is a weight from 0 up, beta one above 0: got {alpha}, {beta}")
        self.lr, self.alpha, self.beta, self.learn = lr, alpha, beta, learn
        net.requires_grad_(False)

    @torch.no_grad()
    def prepare(self, data: Domains) -> dict[str, Any]:
        """Remember the training images."""
        net, was = self.net, self.net.training
        net.eval()
        rows = [(net.head.joint.embed(net.body(one.x)), one.y) for one in data.scan("train")]
        net.train(was)
        keys, y = (gather(torch.cat(part)) for part in zip(*rows, strict=True))
        if net.head.remembered is None:
            how = {"share": self.alpha, "sharpness": self.beta}
            net.operate("remember", rows=len(keys), **how)
        kept = net.head.remembered
        if kept is None or len(kept.keys) != len(keys):
            raise ValueError("this network remembers other images: start from one without")
        kept.keys.copy_(keys)
        kept.y.copy_(y)
        kept.requires_grad_(self.learn)
        return {"remembered": len(keys)}

    def groups(self) -> list[Group]:
        """Train what is remembered."""
        kept = self.net.head.remembered
        return [Group(kept, self.lr)] if self.learn and kept is not None else []

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)

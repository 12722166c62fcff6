"""Prompts tuned on each image at test time."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.joint import Words
from adaptune.networks.network import Network
from adaptune.networks.prompt_start import start_prompts, words_alike
from adaptune.ops.information import entropy
from adaptune.ops.views import random_view
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Group, Needs, Objective


class TPT(Method):
    """Tune the first words of class texts on every image, so that its changed copies agree.

    Of an image and ``views`` changed copies the ``confident`` share with the least entropy counts;
    the vectors in the place of the first tokens, begun anew for each image, go one step down the
    entropy of their mean prediction, and the image is answered with what they came to. The step is
    the first of Adam, as in the paper: every number moves by ``lr``, by its gradient's sign.
    Source: Test-Time Prompt Tuning for Zero-Shot Generalization in Vision-Language Models (Shu et
    al., 2022).

    Copies are those of `random_view`; the paper's are crops and mirrors. The vectors are those that
    `coop` learnt, or else the words that all class texts begin with. Nothing is kept from image to
    image, and what is saved is the network as it was. Batch norms keep to their running statistics.

    Args:
        lr: How far a step goes.
        context: How many vectors there are at most.
        views: How many changed copies each image has.
        confident: The share of views that counts.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True, pixels=True)
    setting: ClassVar[str] = "test-time"
    net: Network[Words]

    def __init__(
        self,
        net: Network[Words],
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.005,
        context: int = 4,
        views: int = 63,
        confident: Annotated[float, Between(0.05, 1.0)] = 0.1,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        if context < 1 or views < 0 or not 0 < confident <= 1:
            raise ValueError(
                "context is a number above 0, views one from 0 up and confident a share: got "
                f"{context}, {views} and {confident}"
            )
        self.lr, self.context, self.views, self.confident = lr, context, views, confident
        known = net.head.prompts
        count = known.count if known else min(context, words_alike(net.head)[1])
        if not count or (known and known.each):
            raise ValueError(
                "TPT needs class texts that begin with the same words, as 'a photo of a ...', or "
                "a network of coop: start from another network"
            )
        self.prompts = start_prompts(net, "prompts", count, per_class=False)

    def groups(self) -> list[Group]:
        """Train nothing that stays."""
        return []

    def logits(self, own: Tensor, vectors: Tensor) -> Tensor:
        """Compare views (V, N, E) with texts of each image's vectors (N, C, M, W): (V, N, K)."""
        head = self.net.head
        owner = head.owner if vectors.shape[1] > 1 else torch.zeros_like(head.owner)
        texts = head.centred(head.read(vectors[:, owner]))
        return head.joint.warmth * torch.einsum("vne,nke->vnk", own, texts)

    def doubt(self, logits: Tensor) -> Tensor:
        """Give the entropy of each image's mean prediction over its surest views, (N,)."""
        views, rows, classes = logits.shape
        count = max(int(self.confident * views), 1)
        doubts = entropy(logits.flatten(0, 1)).view(views, rows)
        sure = doubts.topk(count, 0, largest=False).indices[..., None].expand(-1, -1, classes)
        logs = logits.gather(0, sure).log_softmax(2).logsumexp(0) - math.log(count)
        return -(logs.exp() * logs).sum(1)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Predict each image by vectors tuned on it."""
        seen = [x, *(random_view(x) for _ in range(self.views))]
        own = torch.stack([self.net.head.joint.embed(self.net.body(one)) for one in seen])
        with torch.enable_grad():
            begun = self.prompts.vectors.detach().expand(len(x), -1, -1, -1).clone()
            begun.requires_grad_()
            total = self.doubt(self.logits(own, begun)).sum()
        [slope] = torch.autograd.grad(total, begun)
        moved = begun.detach() - self.lr * slope / (slope.abs() + 1e-8)
        return self.logits(own[:1], moved)[0]

    def objective(self, batch: Batch) -> Objective:
        """Ask for nothing."""
        return Objective({}, self(batch.unlabeled.x))

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Answer the images, each by its own step."""
        del descend
        return self.objective(batch)

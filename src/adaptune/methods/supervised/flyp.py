"""Fine-tuning as the network was pretrained."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from adaptune.engine.method import Method
from adaptune.networks.joint import Words
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification
from adaptune.tasks.matching import Matching
from adaptune.types import Batch, BatchNormPolicy, Between, Group, Objective


class FLYP(Method):
    """Fine-tune body and tower by the contrast of images with texts of their classes.

    Each image's caption is one of its class's texts, drawn in each step; the loss is that of
    pretraining, the cross-entropy of every image with all captions of the batch and of every
    caption with all images, halved. Predictions are cosines with the means of each class's texts.
    Source: Finetune like you pretrain: Improved finetuning of zero-shot vision models (Goyal et
    al., 2023). With ``--interpolate`` what is kept lies on the way from the zero-shot weights, as
    the paper's with WiSE-FT.

    Captions of one class at several rows of a batch are each other's negatives, as in the paper,
    whose batches have many classes; with ``collide`` off a row's own caption elsewhere is left out,
    which is ours and means the same texts alone. A batch of a single row has nothing to tell apart.
    With ``--accumulate`` each part is contrasted by itself. Batch norms do what ``batchnorm`` says.

    Args:
        lr: The rate of everything. The paper's, of AdamW, is 1e-5 with CLIP.
        collide: Whether equal captions of a batch are negatives of each other.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    setting: ClassVar[str] = "supervised"
    net: Network[Words]

    def __init__(
        self,
        net: Network[Words],
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.003,
        collide: bool = True,
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.collide, self.batchnorm = lr, collide, batchnorm
        self.contrast = Matching(len(net.head.joint.weight)).contrast

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for each image's caption, and for each caption's image."""
        head, y = self.net.head, batch.labeled.y
        features = self.net.body(batch.labeled.x)
        drawn = captions(head.owner, y)
        few, at = torch.unique(drawn, return_inverse=True)
        said = head.read(which=few)[at]
        ids = None if self.collide else head.ids[drawn].to(y.device)
        output = head.joint(features)
        losses = self.contrast(output, said, ids)
        return Objective({"contrast": losses.mean()}, output)


def captions(owner: Tensor, y: Tensor) -> Tensor:
    """Draw for each label (N,) the number of a text of its class, of those of all classes (T,).

    >>> captions(torch.tensor([0, 1, 2]), torch.tensor([2, 0])).tolist()
    [2, 0]
    """
    own = owner.to(y.device) == y.unsqueeze(1)
    return torch.multinomial(own.float(), 1).squeeze(1)

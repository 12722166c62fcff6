"""Instance-aware generalisation: style-sensitive products are whitened, styles assembled."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from adaptune.engine.method import Method
from adaptune.networks.layers.dynamic_kernels import DynamicKernels
from adaptune.networks.network import Network
from adaptune.networks.stages import stage_maps
from adaptune.ops.inner import altered, tapped
from adaptune.ops.mixing import row_draws
from adaptune.ops.style import ClassStyles, flat_style, style_shares
from adaptune.ops.whitening import StylePairs
from adaptune.runtime.inputs import in_eval
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Labeled, Objective, Rate


class IADG(Method):
    """Make features insensitive to the styles that images of a class come in, without domains.

    Every image is seen twice: as it is, and with its maps at the end of the last stage but one in a
    style assembled of those of its class. Both are to be told right. A style is a mean and a
    deviation of each channel, a mix with Dirichlet shares of ``styles`` ones of training images of
    the class that lie far apart. At the end of the last stage the products of channels that vary
    most between an image and its restyled self are brought to 0, in both: ``live_share`` of all
    products for the class ``live``, fewer, ``other_share``, for the others, which may vary more.
    Which styles and products these are is found before each epoch, by three passes over the
    training images. Kernels that each image makes for itself (`DynamicKernels`) stand before what
    is restyled, and are saved with the network. Labelled domains are learnt from as one. Source:
    Instance-Aware Domain Generalization for Face Anti-Spoofing (Zhou et al., 2023).

    Left out: the loss of depth maps, which nothing here gives. The paper knows live and spoof; here
    ``live`` may be one of many classes. Ours: a network that is pretrained, so restyling begins
    with the first epoch, and kernels in one place, zero at first, where the released network has
    them in three blocks that replace others. That code adds restyled maps to what they were, twice;
    here they take their place, as the formula says. It measures variances over all images of a
    batch; here over an image and its restyled self, so that what differs between images stays.

    Batch norms in train mode normalise both kinds of images by their own batch, and running
    statistics follow both; before each epoch they are in eval mode.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        live: The number of the class whose images are to be alike, from 0.
        weight: How much whitening counts.
        styles: How many styles of a class new ones are made of.
        live_share: The share of products that are whitened of the class ``live``.
        other_share: The same of the others.
    """

    setting: ClassVar[str] = "generalisation"
    task: Classification

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        live: int = 0,
        weight: Annotated[float, Between(0.01, 10.0)] = 1.0,
        styles: int = 128,
        live_share: float = 0.003,
        other_share: float = 0.0006,
    ) -> None:
        if not (0 <= live < task.classes and styles > 0 and 0 < min(live_share, other_share) <= 1):
            raise ValueError(
                f"live is a class, 0 to {task.classes - 1}, styles above 0, shares from 0 to 1: "
                f"got {live}, {styles}, {live_share} and {other_share}"
            )
        places = stage_maps(net.body)[-2:]
        if not any(isinstance(one, DynamicKernels) for one in net.body.modules()):
            net.operate("dynamic-kernels")
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.live, self.weight = lr, batchnorm, live, weight
        self.styles, self.live_share, self.other_share = styles, live_share, other_share
        (self.early, width), (self.late, channels) = places
        self.assembly = ClassStyles(task.classes, styles, width)
        self.pairs = StylePairs(channels, (live_share, other_share))

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    @torch.no_grad()
    def refresh(self, data: Domains) -> None:
        """Choose styles of each class, then the pairs of channels that tell of style."""
        with in_eval(self.net):
            none = [torch.empty(0, device=self.assembly.known.device)] * 2
            parts = [(rows.y, self.styles_of(rows.x)) for rows in data.scan("train")]
            y, found = [torch.cat(part) for part in zip(*parts, strict=True)] or none
            self.assembly.choose(y, found)
            spread = self.pairs.spread()
            for rows in data.scan("train"):
                shares = style_shares(len(rows), self.styles).to(rows.x.device)
                (_, plain), (_, other) = self.twice(rows, shares)
                self.pairs.add(spread, plain, other, rows.y == self.live)
            self.pairs.choose(spread)

    def styles_of(self, x: Tensor) -> Tensor:
        """Measure the styles of images: means and deviations, (N, 2, C)."""
        with tapped(self.net.body, [self.early]) as inner:
            self.net.body(x)
        return flat_style(inner[self.early])

    def twice(self, rows: Labeled, shares: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Give features of images and maps of the last stage, as they are and restyled."""
        put_on = partial(self.assembly.put_on, rows.y, shares)
        found: list[tuple[Tensor, Tensor]] = []
        for restyled in (False, True):
            changes = {self.early: put_on} if restyled else {}
            with altered(self.net.body, changes), tapped(self.net.body, [self.late]) as inner:
                found.append((self.net.body(rows.x), inner[self.late]))
        return found

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels in either style, and for products that tell nothing of it."""
        rows, live = batch.labeled, batch.labeled.y == self.live
        shares = row_draws(rows.index, self.styles, style_shares)
        (features, plain), (again, other) = self.twice(rows, shares)
        logits = self.net.head(features)
        sizes = self.pairs.size(plain, live) + self.pairs.size(other, live)
        terms = {
            "task": self.task.loss(logits, rows.y),
            "restyled": self.task.loss(self.net.head(again), rows.y),
            "whitening": self.weight * sizes,
        }
        return Objective(terms, logits, features)

"""Mixing the styles of images."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.networks.stages import stage_maps
from adaptune.ops.inner import altered
from adaptune.ops.mixing import drawn_partners, row_draws
from adaptune.ops.style import channel_axis, mixed_style, restyle, style
from adaptune.runtime.processes import gather, gather_each
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, BatchNormPolicy, Between, Group, Objective, Rate


class MixStyle(Method):
    """Fine-tune while early layers see images in a mix of their own style and another image's.

    Behind each of the first ``stages`` stages, with the probability ``chance`` for a batch, each
    channel of an image's maps is brought to a mean and a deviation that are a mix of its own and of
    those of another image, the share of its own drawn from Beta(``alpha``, ``alpha``). No gradient
    goes through means and deviations. The network that is saved is the plain one, and predictions
    mix nothing. Source: Domain Generalization with MixStyle (Zhou et al., 2021).

    The other image is any of the batch, or, by ``pairs`` domains, any of another domain. The
    released code pairs two domains of a batch half by half; here there may be any number. Its
    stages are residual ones, here those of any network (`stage_maps`); the last stage is never
    mixed, since what follows it are means over places. Variances are by the number of places, as
    the paper has them; released code divides by one fewer.

    Batch norms in train mode behind a mix normalise by batches of mixed styles, and their running
    statistics follow these.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        stages: Behind how many stages styles are mixed, from the first.
        chance: How probable it is that a stage mixes a batch.
        alpha: Of the distribution of shares: the smaller, the nearer to one of both styles.
        pairs: Whose style is mixed in: random, any image's, or domains, one's of another domain.
    """

    setting: ClassVar[str] = "generalisation"
    task: Labelling

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        stages: int = 2,
        chance: float = 0.5,
        alpha: Annotated[float, Between(0.05, 1.0)] = 0.1,
        pairs: Literal["random", "domains"] = "random",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if stages < 1 or not (0 <= chance <= 1 and alpha > 0):
            raise ValueError(
                f"stages is 1 or more, chance from 0 to 1 and alpha above 0: got {stages}, "
                f"{chance} and {alpha}"
            )
        if pairs == "domains" and task.domains < 2:
            raise ValueError("pairs of domains need two labelled domains: give --pairs random")
        self.lr, self.batchnorm, self.stages = lr, batchnorm, stages
        self.chance, self.alpha, self.pairs = chance, alpha, pairs
        self.places = stage_maps(net.body)[:-1][:stages]
        if not self.places:
            raise ValueError("mixstyle needs a network of two stages or more: this one has fewer")

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of images in mixed styles."""
        rows = batch.labeled
        other = rows.domain if self.pairs == "domains" else None
        mixes = {name: partial(self.mixed, width, rows.index, other) for name, width in self.places}
        with altered(self.net.body, mixes):
            logits = self.net(rows.x)
        return Objective({"task": self.task.loss(logits, rows.y)}, logits)

    def mixed(self, width: int, index: Tensor, other: Tensor | None, maps: Tensor) -> Tensor:
        """Give maps of the rows ``index`` in a mix of styles, or, by chance, as they are."""
        if gather_each(torch.rand(1))[0] >= self.chance:
            return maps
        own = style(maps.detach(), channel_axis(maps, width))
        partner = drawn_partners(index, other=other)
        share = row_draws(index, 1, self.shares).squeeze(1)
        theirs = gather(own[0])[partner], gather(own[1])[partner]
        return restyle(maps, own, mixed_style(own, theirs, share))

    def shares(self, rows: int, columns: int) -> Tensor:
        """Draw shares of their own styles for rows."""
        return torch.distributions.Beta(self.alpha, self.alpha).sample((rows, columns))

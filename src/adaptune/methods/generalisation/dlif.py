"""Liveness apart from identity, and from style."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.engine.method import Method
from adaptune.networks.heads import Readout
from adaptune.networks.layers.cosine_head import CosineHead
from adaptune.networks.network import Network
from adaptune.networks.stages import stage_maps
from adaptune.ops.contrast import ambiguity, lone_but, lowered, overlap, supervised_contrast
from adaptune.ops.inner import altered
from adaptune.ops.mixing import drawn_partners
from adaptune.ops.style import crossed
from adaptune.runtime.processes import gather, join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate


class DLIF(Method):
    """Learn features that are orthogonal to those by which domains, or persons, are told apart.

    A second body learns whose image it is: domains are the finest groups that are known, such as
    persons, each a domain of its own (``--source NAME=DIR``). Both bodies see every image three
    times: as it is, with styles crossed early (the image and the first stage) and late (the last
    stage but one): the first takes those of an image of the same class in another domain, the
    second those of another class in the same domain. Features are unlike the other body's in any
    pair, and neither body's tell what the other's head asks: cosines with all its classes are to be
    1/K. Contrast draws together what is of one domain, in the second body; in the first what is of
    the class ``live``, while images of other classes are drawn to their own crossed selves alone.
    Heads read cosines, with a margin that is larger for ``live``. Gates that read style stand
    behind every stage (`StyleAttention`); they are saved with the network, the second body is not.
    Source: Generalized Face Anti-spoofing via Finer Domain Partition and Disentangling
    Liveness-irrelevant Factors (Yang et al., 2024).

    Terms are those of the released code, where the weights of the heads are meant to be of length
    1, as here, and are not. Ours: both bodies move at once, not one after the other; features are
    means over places, so nothing is crossed behind the last stage, where a crossed mean would be
    the other image's; gates begin as no gates; ``live`` may be one of many classes. A step costs
    six passes.

    Batch norms in train mode normalise each of the three passes by its own batch, and running
    statistics follow all three. Conversion is of both bodies.

    Args:
        lr: The rate of everything; ours, lower than others since cosines are multiplied.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        live: The number of the class whose images are to be alike, from 0.
        apart: How much it counts that the bodies know nothing of each other.
        contrast: How much contrast counts.
        temperature: What products are divided by in contrast.
        scale: What cosines are multiplied with.
        live_margin: By how much the cosine of an image of ``live`` is lowered in training.
        other_margin: The same of other classes.
    """

    needs: ClassVar[Needs] = Needs(domains=2)
    setting: ClassVar[str] = "generalisation"
    task: Classification

    def __init__(
        self,
        net: Network[Readout],
        task: Classification,
        *,
        lr: Rate = 0.01,
        batchnorm: BatchNormPolicy = "train",
        live: int = 0,
        apart: Annotated[float, Between(0.01, 10.0)] = 1.0,
        contrast: Annotated[float, Between(0.01, 10.0)] = 1.0,
        temperature: float = 0.02,
        scale: float = 30.0,
        live_margin: float = 0.4,
        other_margin: float = 0.1,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not (0 <= live < task.classes and temperature > 0 and scale > 0):
            raise ValueError(
                f"live is a class, 0 to {task.classes - 1}, temperature and scale above 0: got "
                f"{live}, {temperature} and {scale}"
            )
        self.lr, self.batchnorm, self.live, self.scale = lr, batchnorm, live, scale
        self.apart, self.contrast, self.temperature = apart, contrast, temperature
        self.live_margin, self.other_margin = live_margin, other_margin
        self.places, self.second = stage_maps(net.body)[:-1], deepcopy(net.body)
        net.operate("style-attention")
        net.operate("cosine-head", scale=scale)
        self.whose = CosineHead(Readout(net.width, task.domains).weight, scale)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms of both bodies if the policy says so."""
        notes = super().prepare(data)
        if notes:
            convert_batchnorm(self.second, data.scan("train"))
        return notes

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(one, self.lr) for one in (self.net, self.second, self.whose)]

    def objective(self, batch: Batch) -> Objective:
        """Ask one body for classes, the other for domains, and both to know no more."""
        rows = batch.labeled
        x, y, domain, index = rows.x, rows.y, rows.domain, rows.index
        ours = self.looks(self.net.body, x, partial(drawn_partners, index, other=domain, same=y))
        theirs = self.looks(self.second, x, partial(drawn_partners, index, other=y, same=domain))
        head = self.net.head
        assert isinstance(head, CosineHead)
        logits = head(ours[0])
        margins = torch.where(y == self.live, self.live_margin, self.other_margin)
        one, two = (torch.cat([join(F.normalize(f)) for f in found]) for found in (ours, theirs))
        unsure = [head.cosines(theirs[0], held=True), self.whose.cosines(ours[0], held=True)]
        groups = ((one, lone_but(gather(y), self.live)), (two, gather(domain)))
        near = [supervised_contrast(f, of.repeat(3), self.temperature) for f, of in groups]
        terms = {
            "task": self.task.loss(lowered(logits, y, self.scale * margins), y),
            "domain": F.cross_entropy(self.whose(theirs[0]), domain),
            "overlap": self.apart * overlap(one, two),
            "unsure": self.apart * torch.stack([ambiguity(some) for some in unsure]).sum(),
            "contrast": self.contrast * torch.stack(near).sum(),
        }
        return Objective(terms, logits, ours[0])

    def looks(self, body: nn.Module, x: Tensor, partners: Callable[[], Tensor]) -> list[Tensor]:
        """Give features of images as they are, with styles crossed early, and late."""
        cross, found = partial(crossed, partners), [body(x)]
        first, last = self.places[:1], self.places[-1:]
        for seen, places in ((cross(x.shape[1], x), first), (x, last)):
            with altered(body, {name: partial(cross, width) for name, width in places}):
                found.append(body(seen))
        return found

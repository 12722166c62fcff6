"""Domain-aware fine-tuning."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch

from adaptune.batchnorm.scan import Watch, scan
from adaptune.engine.method import Method
from adaptune.networks.heads import Readout
from adaptune.networks.network import Network
from adaptune.networks.probe_start import ProbeStart
from adaptune.networks.sides import need_pretrained, sides
from adaptune.ops.conditioning import Spread
from adaptune.tasks.task import Labelling, Task
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Objective, Rate


class DAFT(Method):
    """Convert batch norms to the new domain, then learn a fast head and a slow body in one run.

    Batch norms are converted in one pass before the first step, so that train mode starts at the
    pretrained function; then they train. The paper's head starts at zero. Source: Domain-Aware
    Fine-Tuning (Ha, Jeong and Lee, 2024).

    Where places are labelled batch norms are held by default, which the paper does not: on two data
    sets of masks networks did better elsewhere by the statistics that they were pretrained with.

    A conditioned head, which the paper has not, reads features standardised by what the same pass
    measured, at a rate relative to the largest stable one, for which the task's loss must have
    a known bound of its curvature; then no gradient moves a tensor of the body far, so that
    rates that are too high do little harm. In labelling it starts at the linear probe of the
    features that the pass saw, whose C is cross-validated on them, so that short runs arrive.

    Where a decoder begins at random no feature that a head reads was pretrained, so a conditioned
    head is refused, and with a published one the decoder learns at the head's rate.

    Args:
        lr: The body's rate.
        batchnorm: What batch norms do: train, eval or converted (converted first, then train); auto
            is converted for one label an image, and eval for labels of places.
        pooling: How conversion pools batches: exactly, or batch by batch as the reference code.
        head: How the head learns: conditioned; published, the paper's, on raw features at the rate
            ``head_lr``; or one-rate, the paper's ablation, on raw features at the body's rate.
        head_start: Where the head starts: a conditioned one at the linear probe, or else at zero as
            the paper's; or kept, at the head that the network has, such as that of a zero-shot
            classifier.
        k: The rate of a conditioned head, as a multiple of the largest stable one.
        floor: The least deviation of a standardised feature, as a share of their average.
        head_lr: The rate of a published head.
        trust: How far one gradient may move a tensor of the body, as a share of its norm, where the
            head is conditioned.
        tolerance: How well every channel is known where the pass ends (see `convert_batchnorm`); 0
            uses all images.
    """

    setting: ClassVar[str] = "supervised"
    can_shard: ClassVar[bool] = True
    net: Network[Readout]

    def __init__(
        self,
        net: Network[Readout],
        task: Task,
        *,
        lr: Rate = 0.3,
        batchnorm: Literal["auto", "train", "eval", "converted"] = "auto",
        pooling: Literal["exact", "batch"] = "exact",
        head: Literal["conditioned", "published", "one-rate"] = "conditioned",
        head_start: Literal["probe", "zero", "kept"] = "probe",
        k: Annotated[float, Between(0.05, 2.0)] = 0.5,
        floor: float = 0.05,
        head_lr: float = 0.3,
        trust: float = 0.001,
        tolerance: float = 0.3,
    ) -> None:
        auto: BatchNormPolicy = "eval" if task.places else "converted"
        super().__init__(net, task, batchnorm=auto if batchnorm == "auto" else batchnorm)
        if not 0 <= floor <= 1:
            raise ValueError(f"the floor is a share of the average deviation, 0 to 1: got {floor}")
        self.lr, self.batchnorm, self.pooling = lr, batchnorm, pooling
        self.head, self.k, self.floor, self.head_lr = head, k, floor, head_lr
        self.head_start = head_start
        self.trust, self.tolerance = trust, tolerance
        if head == "conditioned" and math.isinf(task.curvature):
            raise ValueError(
                f"a conditioned head needs a bound of the loss's curvature, and none is known of "
                f"{type(task).__name__.lower()}: give --head published"
            )
        if head == "conditioned":
            need_pretrained(net, "DAFT's conditioned head", "give --head published")
        if head_start != "kept":
            net.head.zero_()
        if head == "conditioned":
            net.head.standardize(torch.zeros(net.width), torch.ones(net.width), 1.0)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Measure batch norms and the head's input in one pass; convert, and start the head."""
        spread, start, conditioned = Spread(), ProbeStart(), self.head == "conditioned"
        probes = self.head_start == "probe" and isinstance(self.task, Labelling)
        watches: list[Watch] = [spread, start] if probes else [spread]
        notes: dict[str, Any] = dict(
            scan(
                self.net.body,
                data.scan("train", shuffled=True),
                policy=self.net.batchnorm,
                pooling=self.pooling,
                tolerance=self.tolerance,
                watches=watches if conditioned else [],
            )
        )
        if conditioned:
            raw = self.net.head.fold()
            self.net.head.condition(spread, self.floor, curvature=self.task.curvature)
            self.net.head.take_raw(raw.weight, raw.bias)
            notes["head"] = {"curvature": self.net.head.bound}
            notes |= {"probe": start.apply(self.net.head)} if probes else {}
        return notes

    def groups(self) -> list[Group]:
        """Train the body slowly, the head fast."""
        body, head = self.net.body, self.net.head
        if self.head == "conditioned":
            return [
                Group(body, self.lr, trust=self.trust),
                Group(head, self.k, curvature=head.bound),
            ]
        rate = self.head_lr if self.head == "published" else self.lr
        pretrained, new = sides(self.net)
        return [Group(pretrained, self.lr), Group(new, rate)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)

"""Domain-aware fine-tuning."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from torch import nn

from adaptune.batchnorm.scan import scan
from adaptune.engine.method import Method
from adaptune.networks.heads import StandardizedLinear
from adaptune.networks.network import Network
from adaptune.ops.conditioning import Spread
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Objective, Rate


class DAFT(Method):
    """Convert batch norms to the new domain, then learn a fast head and a slow body in one run.

    Batch norms are converted in one pass before the first step, so that train mode starts at the
    pretrained function; then they train. The head starts at zero. Source: Domain-Aware Fine-Tuning
    (Ha, Jeong and Lee, 2024).

    ``lr`` is the body's rate. ``head`` says how the head learns: ``conditioned`` reads features
    standardised by what the same pass measured (deviations floored at ``floor`` times their
    average) at ``k`` times the largest stable rate; ``published`` is the paper's, raw features at
    the rate ``head_lr``; ``one-rate`` the paper's ablation, raw features at the body's rate.
    With ``conditioned``, one gradient moves no tensor of the body by more than ``trust`` of its
    norm, so that rates that are too high do little harm; the paper has no such bound.
    ``pooling`` is how conversion pools batches, exactly or as the reference code does. The pass
    ends where every channel is known to within ``tolerance`` (see `convert_batchnorm`); 0 uses all
    images.
    """

    setting: ClassVar[str] = "supervised"

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        lr: Rate = 0.3,
        batchnorm: BatchNormPolicy = "converted",
        pooling: Literal["exact", "batch"] = "exact",
        head: Literal["conditioned", "published", "one-rate"] = "conditioned",
        k: Annotated[float, Between(0.05, 2.0)] = 0.5,
        floor: float = 0.05,
        head_lr: float = 0.3,
        trust: float = 0.001,
        tolerance: float = 0.3,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not 0 <= floor <= 1:
            raise ValueError(f"the floor is a share of the average deviation, 0 to 1: got {floor}")
        self.lr, self.batchnorm, self.pooling = lr, batchnorm, pooling
        self.head, self.k, self.floor, self.head_lr = head, k, floor, head_lr
        self.trust, self.tolerance = trust, tolerance
        if head == "conditioned":
            net.head = StandardizedLinear(net.width, task.classes)
        else:
            nn.init.zeros_(net.head.weight)
            nn.init.zeros_(net.head.bias)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Measure batch norms and the head's input in one pass; convert, and condition the head."""
        head, spread = self.net.head, Spread()
        conditioned = isinstance(head, StandardizedLinear)
        notes: dict[str, Any] = dict(
            scan(
                self.net.body,
                data.scan("train", shuffled=True),
                policy=self.batchnorm,
                pooling=self.pooling,
                tolerance=self.tolerance,
                watch=spread if conditioned else None,
            )
        )
        if isinstance(head, StandardizedLinear):
            head.condition(spread, self.floor)
            notes["head"] = {"curvature": float(head.curvature)}
        return notes

    def groups(self) -> list[Group]:
        """Train the body slowly, the head fast."""
        body, head = self.net.body, self.net.head
        if isinstance(head, StandardizedLinear):
            return [
                Group(body, self.lr, trust=self.trust),
                Group(head, self.k, curvature=float(head.curvature)),
            ]
        rate = self.head_lr if self.head == "published" else self.lr
        return [Group(body, self.lr), Group(head, rate)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)

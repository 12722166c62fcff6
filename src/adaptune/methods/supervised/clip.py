"""Contrastive training of images with texts."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from adaptune.engine.method import Descend, Method
from adaptune.networks.joint import Joint
from adaptune.networks.joint_parts import cool, groups_of, lock, sides
from adaptune.networks.network import Network
from adaptune.tasks.matching import Matching
from adaptune.types import Batch, BatchNormPolicy, Group, Objective, Rate


class CLIP(Method):
    """Bring rows to where their partners are, away from those of others; one side may be locked.

    The loss is the cross-entropy of each row's scaled cosines with all partners of the batch, and
    of each partner's with all rows, halved; the scale is learnt, and at most 100. With one side
    ``locked`` only the other and both maps learn: locked-image tuning (LiT), where that is the
    body, whose batch norms then stay in eval mode, whatever ``batchnorm`` says. Otherwise batch
    norms do what it says. Source: Learning Transferable Visual Models From Natural Language
    Supervision (Radford et al., 2021), and LiT (Zhai et al., 2022).

    Ours: what is equal to a row's partner is none of its negatives; the parts learn at rates of
    their own; a locked side has a map that learns, as LiT's has where widths differ.

    Args:
        lr: The body's rate.
        texts: How many times as fast the tower learns, which reads texts.
        new: How many times as fast the maps into the space learn, and the scale.
        locked: What stays as it is: none, body or tower.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    setting: ClassVar[str] = "supervised"
    net: Network[Joint]
    task: Matching

    def __init__(
        self,
        net: Network[Joint],
        task: Matching,
        *,
        lr: Rate = 0.03,
        texts: float = 1.0,
        new: float = 1.0,
        locked: Literal["none", "body", "tower"] = "none",
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        super().__init__(net, task, batchnorm="eval" if locked == "body" else batchnorm)
        self.lr, self.texts, self.new = lr, texts, new
        self.locked, self.batchnorm = locked, batchnorm
        if locked != "none":
            lock(net, locked, f"clip with the {locked} locked")

    def train(self, mode: bool = True) -> Self:
        """Switch modes; what is locked stays in eval mode."""
        super().train(mode)
        if self.locked != "none":
            sides(self.net)[self.locked].eval()
        return self

    def groups(self) -> list[Group]:
        """Train body, tower and maps at their rates, but what is locked."""
        how = {"texts": self.texts, "new": self.new}
        return groups_of(self.net, self.lr, **how, locked=self.locked)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Move everything once, and keep the scale within its bound."""
        said = super().step(batch, descend)
        cool(self.net.head)
        return said

    def objective(self, batch: Batch) -> Objective:
        """Ask for each row's partner, and for each partner's row."""
        output = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(output, batch.labeled.y)}, output)

"""An expert beside a generic encoder, adapted to a few labelled images."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from torch import nn

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.engine.method import Descend, Method
from adaptune.networks.backbones import BUILT_IN, open_backbone
from adaptune.networks.heads import Readout
from adaptune.networks.inputs import need_images
from adaptune.networks.layers.generic_features import GenericFeatures
from adaptune.networks.network import Network
from adaptune.ops.dice import dice_losses
from adaptune.runtime.processes import join
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, BatchNormPolicy, Domains, Group, Labeled, Needs, Objective, Rate


class SAMDA(Method):
    """Learn a few labelled images of a target by features of a generic encoder beside the expert's.

    DATA is the source, the last ``--source NAME=DIR`` holds the few labelled images of the target.
    The head reads the features of the network, the expert, and those of a frozen encoder behind one
    layer, the adaptor, brought to one grid; both losses, cross-entropy and soft Dice, count alike.
    In a first third of the run all but the encoder learns the source, in a second adaptor and head
    alone the target, in a third all the target. Source: SAMDA: Leveraging SAM on Few-Shot Domain
    Adaptation for Electronic Microscopy Segmentation (Wang and Xiao, 2024).

    In train mode batch norms of the expert normalise by the rows that are learnt at the moment and
    running statistics follow them: the source, then the target, also while the expert does not
    learn. Conversion is to all labelled images. The encoder's batch norms are frozen.

    The paper puts the encoder of Segment Anything beside a U-Net: ``--generic samvit_base_patch16
    --generic-weights FILE``, in timm's names. A finished network holds the encoder, and opens with
    it. Known of the paper are the two encoders whose features are concatenated, the losses and that
    there are three steps, of which the first is supervised on the source. What learns in the others
    and when they begin, the layer of the adaptor, and that the head's weights of generic features
    begin at zero are ours; in place of a U-Net stands whatever network is given.

    Args:
        lr: The rate of everything that learns.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        generic: The frozen encoder: a built-in name or one of timm's.
        generic_weights: A local file of its weights, none for random ones, or nothing for its own.
        generic_size: The side of the images that it sees; 0 is its own.
        units: How many features the adaptor makes of it.
    """

    needs: ClassVar[Needs] = Needs(domains=2)
    setting: ClassVar[str] = "few-shot"
    task: Segmentation
    net: Network[Readout]

    def __init__(
        self,
        net: Network[Readout],
        task: Segmentation,
        *,
        lr: Rate = 0.01,
        batchnorm: BatchNormPolicy = "train",
        generic: str = "efficientnet-lite0",
        generic_weights: str = "",
        generic_size: int = 0,
        units: int = 64,
    ) -> None:
        other = open_backbone(
            generic, ["-"], weights=generic_weights or None, size=generic_size or None
        )
        look, seen = need_images(other.preprocess), need_images(net.preprocess)
        own = list(zip(seen.mean, seen.std, look.mean, look.std, strict=True))
        net.operate(
            "generic-features",
            encoder=BUILT_IN[generic].architecture if generic in BUILT_IN else other.origin.name,
            units=units,
            size=look.size,
            scale=[std / theirs for _, std, _, theirs in own],
            shift=[(mean - middle) / theirs for mean, _, middle, theirs in own],
        )
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.generic = lr, batchnorm, generic
        self.generic_weights, self.generic_size, self.units = generic_weights, generic_size, units
        self.both.take_encoder(other.body)

    @property
    def both(self) -> GenericFeatures:
        """The expert, with the generic encoder and its adaptor."""
        assert isinstance(self.net.body, GenericFeatures)
        return self.net.body

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms of the expert if the policy says so."""
        if self.net.batchnorm != "converted":
            return {}
        return {"conversion": convert_batchnorm(self.both.body, data.scan("train"))}

    def groups(self) -> list[Group]:
        """Train all but the encoder at one rate."""
        return [Group(one, self.lr) for one in (self.both.body, self.both.adaptor, self.net.head)]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Learn the source, then adaptor and head alone the target, then all the target."""
        modules: list[nn.Module] = []
        if self._third(batch) == 1:
            modules = [self.both.adaptor, self.net.head]
        return descend(partial(self.objective, batch), *modules)

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of the domain whose turn it is."""
        rows = self._rows(batch.labeled, target=self._third(batch) > 0)
        logits = self.net(rows.x)
        each = {"task": self.task.losses(logits, rows.y), "dice": dice_losses(logits, rows.y)}
        return Objective({name: join(one).mean() for name, one in each.items()}, logits)

    def _third(self, batch: Batch) -> int:
        return min(2, int(3 * batch.progress))

    def _rows(self, rows: Labeled, *, target: bool) -> Labeled:
        own = (rows.domain == self.task.domains - 1) == target
        if not own.any():
            raise ValueError("a part of a batch has no image of one domain: give --accumulate 1")
        return Labeled(rows.x[own], rows.domain[own], rows.index[own], y=rows.y[own])

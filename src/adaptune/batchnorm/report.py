"""What conversion measured, did and left alone, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor


@dataclass(frozen=True)
class LayerConversion:
    """What conversion did to one layer.

    ``count`` is how many values each channel was measured on; ``shift`` the mean over channels of
    ``|new mean - old mean| / old deviation``; ``dead`` the channels whose new variance lies under
    the layer's epsilon.
    """

    name: str
    kind: str
    channels: int
    status: Literal["converted", "skipped"] = "skipped"
    reason: str = ""
    count: int = 0
    shift: float = 0.0
    dead: tuple[int, ...] = ()
    inserted: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConversionReport:
    """What `convert_batchnorm` measured and did.

    ``change`` is the certificate: the largest absolute difference of any output of the network,
    in eval mode on a few examples of the first batch, before and after; ``relative`` is that over
    the largest output. ``error`` is the largest standard error that a tolerance left, if any.
    Numbers speak of all processes together, so that every process holds the same report.
    """

    layers: tuple[LayerConversion, ...]
    pooling: str
    batches: int = 0
    examples: int = 0
    change: float = 0.0
    relative: float = 0.0
    notes: tuple[str, ...] = ()
    error: float = 0.0

    @property
    def converted(self) -> int:
        """How many layers were converted."""
        return sum(layer.status == "converted" for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Give the report as plain dictionaries, lists, strings and numbers."""
        return asdict(self) | {"converted": self.converted}

    def __str__(self) -> str:
        lines = [
            f"{self.converted} of {len(self.layers)} batch norms converted on {self.examples} "
            f"examples; largest output change {self.change:.1e} ({self.relative:.1e} relative)"
        ]
        if self.error:
            lines.append(f"the least known channel is known to within {self.error:.2f}")
        lines += [f"note: {note}" for note in self.notes]
        for layer in self.layers:
            said = layer.reason or f"shift {layer.shift:.2f}, {layer.count} values a channel"
            dead = f", {len(layer.dead)} dead channels" if layer.dead else ""
            odd = "".join(f"; {note}" for note in layer.notes)
            what = f"{layer.name} ({layer.kind}, {layer.channels})"
            lines.append(f"  {layer.status:9} {what}: {said}{dead}{odd}")
        return "\n".join(lines)


def largest_change(before: Sequence[Tensor], after: Sequence[Tensor]) -> tuple[float, float]:
    """Give the largest absolute change of any output, and the largest output before.

    Equal infinities and NaN in both places are no change; outputs of another shape are an
    infinite one.

    >>> import torch
    >>> largest_change([torch.tensor([1.0, 4.0])], [torch.tensor([1.0, 2.0])])
    (2.0, 4.0)
    """
    if [a.shape for a in before] != [b.shape for b in after]:
        return float("inf"), 1.0
    change = largest = 0.0
    for a, b in zip(before, after, strict=True):
        if not a.is_floating_point() or not a.numel():
            continue
        a, b = a.cpu().double(), b.cpu().double()
        same = (a == b) | (a.isnan() & b.isnan())
        gap = (a - b).abs().masked_fill(same, 0.0).nan_to_num(float("inf"), float("inf"))
        change = max(change, float(gap.max()))
        largest = max(largest, float(a.abs().nan_to_num(0.0, 0.0).max()))
    return change, largest

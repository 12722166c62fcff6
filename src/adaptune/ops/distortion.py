"""How far fine-tuning moved a network: its features on a set, and its weights layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from adaptune.ops.rows import sample_rows
from adaptune.runtime.devices import exact, to_float64

BINS = 40
BLOCK = 4096
"""Rows that are held in float64 at a time."""


@dataclass(frozen=True)
class Histogram:
    """Counts of values between neighbouring edges; there is one more edge than counts."""

    counts: tuple[int, ...]
    edges: tuple[float, ...]


@dataclass(frozen=True)
class Distortion:
    """How far features moved: means over a set, and how the rows spread about them.

    ``cosine`` is the mean cosine similarity (1: unmoved), ``l2`` the mean Euclidean distance,
    ``cka`` linear centred kernel alignment (1: the same up to rotation and scale).
    """

    cosine: float
    l2: float
    cka: float
    cosine_histogram: Histogram
    l2_histogram: Histogram

    def to_dict(self) -> dict[str, Any]:
        """Give the measures as plain numbers and lists."""
        return asdict(self)


def feature_distortion(before: Tensor, after: Tensor) -> Distortion:
    """Compare the features of the same examples before and after fine-tuning, both (N, D, ...).

    Of dense features some places of each example are compared (`sample_rows`).

    Source: Figure 1 of Ha, Jeong and Lee, 2024; linear CKA of Kornblith et al., 2019.

    Raises:
        ValueError: If the shapes differ or there are no rows.

    >>> before = torch.eye(3)
    >>> moved = feature_distortion(before, 2 * before)
    >>> moved.cosine, moved.l2, round(moved.cka, 6)
    (1.0, 1.0, 1.0)
    """
    if before.shape != after.shape or before.dim() < 2 or len(before) == 0:
        raise ValueError(
            f"features before {tuple(before.shape)} and after {tuple(after.shape)} must be rows of "
            "the same examples, (N, D, ...) with N at least 1"
        )
    before, after = exact(sample_rows(before)), exact(sample_rows(after))
    cosine = torch.cat([F.cosine_similarity(x, y) for x, y in _blocks(before, after)])
    distance = torch.cat([(y - x).norm(dim=1) for x, y in _blocks(before, after)])
    return Distortion(
        cosine=float(cosine.mean()),
        l2=float(distance.mean()),
        cka=linear_cka(before, after),
        cosine_histogram=histogram(cosine, -1.0 if float(cosine.min()) < 0 else 0.0, 1.0),
        l2_histogram=histogram(distance, 0.0, float(distance.max()) or 1.0),
    )


def histogram(values: Tensor, low: float, high: float) -> Histogram:
    """Count ``values`` in equal bins from ``low`` to ``high``; what lies outside goes to the ends.

    >>> histogram(torch.tensor([0.0, 1.0]), 0.0, 1.0).counts[-1]
    1
    """
    counts = torch.histc(to_float64(values).clamp(low, high), BINS, low, high)
    edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64)
    return Histogram(tuple(int(n) for n in counts), tuple(float(edge) for edge in edges))


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment of two sets of features of the same rows, (N, D) and (N, E).

    1 where one is a rotation and scaling of the other; 0 if either does not vary. Source:
    Kornblith et al., 2019.

    >>> x = torch.randn(8, 3)
    >>> round(linear_cka(x, 5 * x.flip(1)), 6)
    1.0
    """
    x, y = exact(x), exact(y)
    centres = x.mean(0, dtype=torch.float64), y.mean(0, dtype=torch.float64)
    rows, wide, high = len(x), x.shape[1], y.shape[1]
    if rows * (wide + high) < wide**2 + wide * high + high**2:  # N x N kernels cost less
        a, b = x - centres[0], y - centres[1]
        k, m = a @ a.T, b @ b.T
        cross, own = (k * m).sum(), k.norm() * m.norm()
    else:
        widths = ((y, x), (x, x), (y, y))
        between, one, other = (centres[0].new_zeros(a.shape[1], b.shape[1]) for a, b in widths)
        for a, b in _blocks(x, y):
            a, b = a - centres[0], b - centres[1]
            between.addmm_(b.T, a), one.addmm_(a.T, a), other.addmm_(b.T, b)
        cross, own = between.square().sum(), one.norm() * other.norm()
    return float(cross / own) if float(own) > 0 else 0.0


def _blocks(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the rows of both in float64, some at a time: all might not fit beside the originals."""
    for a, b in zip(torch.split(x, BLOCK), torch.split(y, BLOCK), strict=True):
        yield a.double(), b.double()


@dataclass(frozen=True)
class LayerChange:
    """Relative change of one tensor: ``||after - before|| / ||before||``."""

    layer: str
    kind: str
    change: float


Snapshot = dict[str, tuple[str, str, Tensor]]


def snapshot(model: nn.Module) -> Snapshot:
    """Copy the tensors that `weight_change` compares, to the CPU, in the order of the layers.

    >>> list(snapshot(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))))[:2]
    ['0.weight', '1.weight']
    """
    taken: Snapshot = {}
    for name, module in model.named_modules():
        kinds: dict[str, str] = {}
        if isinstance(module, _ConvNd):
            kinds = {"weight": "convolution"}
        elif isinstance(module, _BatchNorm):
            kinds = {
                "weight": "batch-norm weight",
                "bias": "batch-norm bias",
                "running_mean": "batch-norm mean",
                "running_var": "batch-norm variance",
            }
        elif isinstance(module, nn.Linear):
            kinds = {"weight": "linear"}
        elif isinstance(module, nn.MultiheadAttention):
            kinds = {"in_proj_weight": "attention"}
        for attribute, kind in kinds.items():
            value = getattr(module, attribute)
            if isinstance(value, Tensor):
                copy = value.detach().cpu().clone(memory_format=torch.contiguous_format)
                taken[f"{name}.{attribute}"] = (name, kind, copy)
    return taken


def weight_change(before: Snapshot, after: Snapshot) -> list[LayerChange]:
    """Give the relative change of the tensors that `snapshot` copies, layer by layer.

    Source: Figure 2 of Ha, Jeong and Lee, 2024.

    >>> net = nn.Conv2d(1, 1, 1)
    >>> _ = nn.init.ones_(net.weight)
    >>> start = snapshot(net)
    >>> _ = net.weight.data.mul_(3)
    >>> weight_change(start, snapshot(net))[0].change
    2.0
    """
    changes = []
    for key, (layer, kind, old) in before.items():
        if key in after and after[key][2].shape == old.shape:
            size = float(old.double().norm())
            moved = float((after[key][2].double() - old.double()).norm())
            changes.append(LayerChange(layer, kind, moved / size if size > 0 else moved))
    return changes

"""The training images that an image is most like by a network's features, or is far from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from safetensors import SafetensorError, safe_open
from torch import Tensor

from adaptune.engine.evaluate import run_through
from adaptune.networks.network import Network
from adaptune.runtime.files import write_atomically
from adaptune.types import Labeled, Outputs

MOST = 5000
"""Training images that are kept, spread evenly: of 2,048 features 40 MB."""

NEIGHBOUR = 5
"""The distance of an image is that to its fifth neighbour: one odd image makes nothing near."""

KEPT = 0.95
"""The share of training images that count as within the domain."""

CHUNK = 256

FORMAT = "1"


@dataclass(frozen=True)
class Neighbours:
    """Features of training images, of length 1, and how far these are from each other.

    Whether an image is out of the domain is told as in Out-of-Distribution Detection with Deep
    Nearest Neighbors (Sun et al., 2022): by the distance of its normalised feature to its k-th
    neighbour. Ours are k, 5 for any set, and the scale: the paper takes the threshold that keeps
    95% of other images of the domain, here it keeps 95% of the training images, each measured
    against all others. A network lies closer around images that it was trained on, so that more
    than 5% of new images of the domain may count as out of it.

    Args:
        features: Unit features (M, D), M at least 2.
        index: The row of each in the training set (M,).
        own: The distance of each to its neighbour among the others, (M,), sorted.
    """

    features: Tensor
    index: Tensor
    own: Tensor

    @classmethod
    def of(cls, features: Tensor, index: Tensor) -> Neighbours:
        """Measure features (M, D) of any length against each other.

        Raises:
            ValueError: If there are fewer than two.

        >>> Neighbours.of(torch.eye(3), torch.arange(3)).own
        tensor([1.4142, 1.4142, 1.4142])
        """
        if len(features) < 2:
            raise ValueError("neighbours need two training images at least")
        unit, place = F.normalize(features), min(NEIGHBOUR, len(features) - 1)
        own = torch.empty(len(unit))
        for start in range(0, len(unit), CHUNK):
            away = _distances(unit[start : start + CHUNK], unit)
            rows = torch.arange(len(away))
            away[rows, start + rows] = -1  # itself comes first
            own[start : start + CHUNK] = away.kthvalue(place + 1).values
        return cls(unit, index, own.sort().values)

    def nearest(self, feature: Tensor, count: int) -> list[tuple[int, float]]:
        """Give the rows that are nearest to a feature (D,), and how far they are, nearest first."""
        away, place = _distances(F.normalize(feature[None]), self.features)[0].topk(
            min(count, len(self.features)), largest=False
        )
        return list(zip(self.index[place].tolist(), away.tolist(), strict=True))

    def closer(self, feature: Tensor) -> float:
        """Give the share of training images that lie closer to the others than a feature (D,).

        >>> known = Neighbours.of(torch.eye(3) + 0.5, torch.arange(3))
        >>> known.closer(torch.ones(3)), known.closer(-torch.ones(3))
        (0.0, 1.0)
        """
        place = min(NEIGHBOUR, len(self.features) - 1)
        away = _distances(F.normalize(feature[None]), self.features)[0].kthvalue(place).values
        return float((self.own < away).float().mean())


def _distances(some: Tensor, others: Tensor) -> Tensor:
    """Give the distances (N, M) of unit vectors (N, D) and (M, D)."""
    return (2 - 2 * some @ others.T).clamp_min_(0).sqrt_()


class Pooled:
    """Keeps one feature a row, the mean over its places where it has several, on the CPU."""

    def __init__(self) -> None:
        self.features: list[Tensor] = []
        self.index: list[Tensor] = []

    def add(self, outputs: Outputs) -> None:
        """Take the features of a batch."""
        features = outputs.features
        places = features.dim() > 2
        self.features.append((features.flatten(2).mean(2) if places else features).cpu())
        self.index.append(outputs.index.cpu())

    def merge(self) -> None:
        """Nothing: one process serves."""


def find_neighbours(net: Network, rows: Iterable[Labeled], fabric: Fabric) -> Neighbours:
    """Show a network training images once, and keep their features.

    Raises:
        ValueError: If there are fewer than two images.
    """
    pooled = Pooled()
    run_through(net, rows, pooled, fabric=fabric)
    none = torch.empty(0, 1), torch.empty(0, dtype=torch.int64)
    return Neighbours.of(
        torch.cat(pooled.features or [none[0]]), torch.cat(pooled.index or [none[1]])
    )


def kept_neighbours(file: Path, of: str, find: Callable[[], Neighbours]) -> Neighbours:
    """Read what was found before if it is ``of`` the same network and images; else find and keep.

    Where nobody may write, nothing is kept.
    """
    try:
        with safe_open(file, "pt") as opened:
            if (opened.metadata() or {}).get("of") == of:
                return Neighbours(*(opened.get_tensor(one) for one in ("features", "index", "own")))
    except (OSError, SafetensorError):
        pass  # it is not there, or damaged
    found = find()
    tensors = {"features": found.features, "index": found.index, "own": found.own}
    with suppress(OSError):
        write_atomically(file, safetensors.torch.save(tensors, {"of": of}))
    return found


def what_of(network: Path, names: Iterable[object]) -> str:
    """Digest a saved network's weights and the names of the images that it is shown."""
    told = hashlib.sha256(FORMAT.encode())
    with (network / "network.safetensors").open("rb") as opened:
        told.update(hashlib.file_digest(opened, "sha256").digest())
    for name in names:
        told.update(f"{name}\n".encode(errors="surrogateescape"))
    return told.hexdigest()

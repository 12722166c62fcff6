"""The training images that an image is most like by a network's features, or is far from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
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
"""Images of each kind that are looked at, spread evenly: of 2,048 features 40 MB are kept."""

NEIGHBOUR = 5
"""The distance of an image is that to its fifth neighbour: one odd image makes nothing near."""

ONE_IN = 20
"""Of so many images of the domain one counts as out of it, at the most."""

FEW = 9
"""Validation images without which nothing is told: of fewer, one in nine would be called out."""

FORMAT = "2"

NAMES = ("features", "index", "held")


@dataclass(frozen=True)
class Neighbours:
    """Features of training images, and how far validation images are from these.

    Whether an image is out of the domain is told as in Out-of-Distribution Detection with Deep
    Nearest Neighbors (Sun et al., 2022): by the distance of its normalised feature to its k-th
    neighbour among training images, with the threshold that keeps 95% of images of the domain that
    were not trained on. Ours are k, 5 for any set, and the threshold of few images: the order
    statistic by which a new image of the domain is out with a chance of 1 in 20 at the most, as of
    conformal p-values (Bates et al., 2023), or, where there are fewer than 19, their largest
    distance. An epoch chosen by validation images may have favoured these; that is left out.

    Args:
        features: Unit features (M, D) of training images.
        index: The row of each in the training set (M,).
        held: The distances of validation images (N,), sorted; N may be 0.
    """

    features: Tensor
    index: Tensor
    held: Tensor

    def nearest(self, feature: Tensor, count: int) -> list[tuple[int, float]]:
        """Give the rows that are nearest to a feature (D,), and how far they are, nearest first."""
        away, place = self._distances(feature[None])[0].topk(
            min(count, len(self.features)), largest=False
        )
        return list(zip(self.index[place].tolist(), away.tolist(), strict=True))

    def away(self, features: Tensor) -> Tensor:
        """Give how far features (N, D) of any length are from their k-th neighbour, (N,).

        >>> known = Neighbours(torch.eye(3), torch.arange(3), torch.empty(0))
        >>> known.away(torch.tensor([[1.0, 1.0, 1.0], [-2.0, 0.0, 0.0]]))
        tensor([0.9194, 2.0000])
        """
        place = min(NEIGHBOUR, len(self.features))
        return self._distances(features).kthvalue(place).values

    @property
    def limit(self) -> float | None:
        """The distance beyond which an image is out of the domain; None of too few to tell.

        >>> Neighbours(torch.eye(3), torch.arange(3), torch.arange(40.0)).limit
        38.0
        """
        return float(self.held[-self._out]) if len(self.held) >= FEW else None

    @property
    def rate(self) -> float:
        """How likely a new image of the domain is called out, since its rank is any of N + 1.

        >>> Neighbours(torch.eye(3), torch.arange(3), torch.zeros(9)).rate
        0.1
        """
        return self._out / (len(self.held) + 1)

    @property
    def _out(self) -> int:
        return max(1, (len(self.held) + 1) // ONE_IN)

    def _distances(self, features: Tensor) -> Tensor:
        cosines = F.normalize(features) @ self.features.T
        return (2 - 2 * cosines).clamp_min_(0).sqrt_()


class Pooled:
    """Keeps one feature a row, the mean over its places where it has several, on the CPU."""

    def __init__(self) -> None:
        self.features: list[Tensor] = []
        self.index: list[Tensor] = []

    def add(self, outputs: Outputs) -> None:
        """Take the features of a batch."""
        self.features.append(_pooled(outputs.features))
        self.index.append(outputs.index.cpu())

    def merge(self) -> None:
        """Nothing: one process serves."""


class _Held:
    """Keeps how far each row is from training images, and no feature."""

    def __init__(self, known: Neighbours) -> None:
        self.known, self.away = known, [known.held]

    def add(self, outputs: Outputs) -> None:
        self.away.append(self.known.away(_pooled(outputs.features)))

    def merge(self) -> None:
        pass


def _pooled(features: Tensor) -> Tensor:
    places = features.dim() > 2
    return (features.flatten(2).mean(2) if places else features).float().cpu()


def find_neighbours(
    net: Network, trained: Iterable[Labeled], held: Iterable[Labeled], fabric: Fabric
) -> Neighbours:
    """Show a network training images and validation images once, and measure these by those.

    Raises:
        ValueError: If no training image can be read.
    """
    pooled = Pooled()
    run_through(net, trained, pooled, fabric=fabric)
    if not pooled.features:
        raise ValueError("none of them can be read")
    unit = F.normalize(torch.cat(pooled.features))
    known = Neighbours(unit, torch.cat(pooled.index), torch.empty(0))
    seen = _Held(known)
    run_through(net, held, seen, fabric=fabric)
    return replace(known, held=torch.cat(seen.away).sort().values)


def kept_neighbours(file: Path, of: str, find: Callable[[], Neighbours]) -> Neighbours:
    """Read what was found before if it is ``of`` the same network and images; else find and keep.

    Where nobody may write, nothing is kept.
    """
    try:
        with safe_open(file, "pt") as opened:
            if (opened.metadata() or {}).get("of") == of:
                return Neighbours(*(opened.get_tensor(one) for one in NAMES))
    except (OSError, SafetensorError):
        pass  # it is not there, or damaged
    found = find()
    tensors = {name: getattr(found, name) for name in NAMES}
    with suppress(OSError):
        write_atomically(file, safetensors.torch.save(tensors, {"of": of}))
    return found


def what_of(network: Path, *names: Iterable[object]) -> str:
    """Digest a saved network's weights and the names of the images of each kind it is shown."""
    told = hashlib.sha256(FORMAT.encode())
    with (network / "network.safetensors").open("rb") as opened:
        told.update(hashlib.file_digest(opened, "sha256").digest())
    for kind, some in enumerate(names):
        for name in some:
            told.update(f"{kind} {name}\n".encode(errors="surrogateescape"))
    return told.hexdigest()

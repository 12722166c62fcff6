"""Features of classes: labels on the features' grid, means by class, cosines to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.ops.mixing import mixup
from adaptune.ops.rows import rows
from adaptune.runtime.devices import to_float64
from adaptune.runtime.inputs import in_eval
from adaptune.runtime.processes import add_up, gather_objects, join
from adaptune.types import Labeled


def labels_on_grid(y: Tensor, size: Sequence[int]) -> Tensor:
    """Give the labels (N, H, W) at the centres of a grid's places, int64 (N, h, w).

    >>> labels_on_grid(torch.arange(16).view(1, 4, 4), (2, 2)).tolist()
    [[[5, 7], [13, 15]]]
    """
    near = F.interpolate(to_float64(y).unsqueeze(1), tuple(size), mode="nearest-exact")
    return near.squeeze(1).long().to(y.device)


def class_sums(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Give the sum of the features (N, D, ...) of each class, (K, D), and their number, (K,).

    Labels (N, ...) lie on the features' grid; those of ``classes`` and more are of none.

    >>> total, count = class_sums(torch.eye(2), torch.tensor([1, 255]), 2)
    >>> total.tolist(), count.tolist()
    ([[0.0, 0.0], [1.0, 0.0]], [0.0, 1.0])
    """
    places, kind = rows(features), labels.flatten()
    kind = torch.where(kind < classes, kind, classes)
    total = places.new_zeros(classes + 1, places.shape[1]).index_add(0, kind, places)
    count = torch.bincount(kind, minlength=classes + 1).to(places.dtype)
    return total[:-1], count[:-1]


def cosines(features: Tensor, prototypes: Tensor) -> Tensor:
    """Give the cosines of features (N, D, ...) with prototypes (K, D), (N, K, ...).

    One with a prototype of zero length, of a class that was not seen, is 0.

    >>> cosines(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]))
    tensor([[1.0000, 0.0000, 0.7071]])
    """
    unit, towards = F.normalize(features, dim=1), F.normalize(prototypes, dim=1)
    return torch.einsum("nd...,kd->nk...", unit, towards)


def blended_centres(
    features: Tensor, labels: Tensor, bank: Tensor, share: Tensor | float
) -> Tensor:
    """Give half of ``share`` of the classes' means and the rest of a ``bank``, (K, D).

    Means are of the features (N, D, ...) of all processes; a class that is not there keeps what the
    bank has. Source: DATR, Zheng et al., 2023, whose share is ``1 / (epoch + 1)``.

    >>> bank = torch.tensor([[2.0], [6.0]])
    >>> blended_centres(torch.tensor([[4.0]]), torch.tensor([0]), bank, 0.5).tolist()
    [[1.5], [6.0]]
    """
    total, count = class_sums(features, labels, len(bank))
    count = add_up(count).unsqueeze(1)
    means = join(total.unsqueeze(0)).sum(0) / count.clamp_min(1)
    return torch.where(count > 0, 0.5 * ((1 - share) * bank + share * means), bank)


def centre_cosines(features: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """Give each place's cosine with the centre (K, D) of its class, (N, ...).

    Places of features (N, D, ...) whose label is no class are compared with the last centre.

    >>> centre_cosines(torch.tensor([[3.0, 4.0]]), torch.tensor([0]), torch.tensor([[2.0, 0.0]]))
    tensor([0.6000])
    """
    own = centres[labels.clamp(0, len(centres) - 1)].movedim(-1, 1)
    return F.cosine_similarity(features, own, dim=1)


def rarity(count: Tensor) -> Tensor:
    """Give each class's inverse frequency by counts (K,), that of the rarest being 1.

    >>> rarity(torch.tensor([10.0, 5.0, 0.0])).tolist()
    [0.5, 1.0, 1.0]
    """
    fewest = torch.where(count > 0, count, torch.inf).min()
    return torch.where(count > 0, fewest / count.clamp_min(1), 1.0)


class Prototypes(nn.Module):
    """The mean features of each class, (K, D), of all processes together; zero before any is seen.

    >>> known = Prototypes(2, 1)
    >>> known.follow(torch.tensor([[2.0]]), torch.tensor([1]), momentum=0.5)
    >>> known.means.tolist()
    [[0.0], [1.0]]
    """

    means: Tensor

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(classes, width))

    @torch.no_grad()
    def measure(self, body: nn.Module, batches: Iterable[Labeled]) -> None:
        """Become the means over all places of labelled images, seen in eval mode."""
        total, count = torch.zeros_like(self.means), torch.zeros_like(self.means[:, 0])
        with in_eval(body):
            for some in batches:
                features = body(some.x)
                found = class_sums(features, labels_on_grid(some.y, features.shape[2:]), len(total))
                total, count = total + found[0], count + found[1]
        total, count = add_up(total), add_up(count)
        self.means.copy_(total / count.clamp_min(1).unsqueeze(1))

    @torch.no_grad()
    def begin(self, parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Become the means of rows (N, D) by their classes (N,), in parts; give counts, (K,).

        D is that of the rows, whatever the width was.
        """
        total, count = self.means.new_zeros(len(self.means), 0), self.means.new_zeros(0)
        for features, labels in parts:
            found = class_sums(features.to(self.means), labels, len(self.means))
            total = total + found[0] if len(count) else found[0]
            count = count + found[1] if len(count) else found[1]
        if not len(count):  # a process without rows
            count = self.means.new_zeros(len(self.means))
        width = max(gather_objects(total.shape[1]))
        total = add_up(total if total.shape[1] else total.new_zeros(len(total), width))
        count = add_up(count)
        self.means = total / count.clamp_min(1).unsqueeze(1)
        return count

    @torch.no_grad()
    def follow(self, features: Tensor, labels: Tensor, momentum: float) -> None:
        """Move those of the classes that are there towards the means of features (N, D, ...).

        Labels (N, ...) lie on the features' grid; ``momentum`` is the share that stays.
        """
        total, count = map(add_up, class_sums(features, labels, len(self.means)))
        seen = (total / count.clamp_min(1).unsqueeze(1)).to(self.means)
        moved = torch.lerp(seen, self.means, momentum)
        self.means.copy_(torch.where((count > 0).unsqueeze(1), moved, self.means))


class RarePrototypes(Prototypes):
    """Prototypes that rows are mixed with, the less the rarer their class: zero before any is seen.

    Source: the data-aware weights of DECO, Xia et al., 2024; that they are `rarity` is ours.

    >>> known = RarePrototypes(2)
    >>> count = known.begin([(torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([0, 0, 1]))])
    >>> known.mixed(torch.tensor([[4.0], [4.0]]), torch.tensor([0, 1]), keep=1.0).tolist()
    [[3.0], [4.0]]
    """

    rare: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__(classes, 1)
        self.register_buffer("rare", torch.ones(classes))

    def begin(self, parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Become the means of rows, and know what is rare; see `Prototypes.begin`."""
        count = super().begin(parts)
        self.rare.copy_(rarity(count))
        return count

    def mixed(self, rows: Tensor, labels: Tensor, keep: float) -> Tensor:
        """Give rows (N, ...), ``keep`` times the rarity of each, and the rest of its prototype."""
        own = self.means[labels].to(rows).expand(-1, rows[0].numel()).view_as(rows)
        return mixup(rows, own, keep * self.rare[labels])

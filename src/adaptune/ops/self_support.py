"""Prototypes of classes in each image, and how an image's own sure places refine them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SCALE = 10.0
"""What cosines are multiplied by to be logits."""

FOREGROUND, BACKGROUND, FEWEST = 0.7, 0.6, 12
"""Above which probability places support their class; where none does, so many of the likeliest."""

NEVER = -1e4
"""The logit of a class that no example shows."""


class Refined(NamedTuple):
    """Logits (N, K, h, w) by prototypes refined twice, once and never; the prototypes between."""

    twice: Tensor
    once: Tensor
    never: Tensor
    prototypes: Tensor
    background: Tensor


def image_prototypes(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Give the mean features of each class in each image, (N, K, D), and whether it is there.

    Features are (N, D, h, w), labels (N, h, w) on their grid; a class that is not there has zeros.

    >>> x, y = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[1, 1]]])
    >>> [one.flatten().tolist() for one in image_prototypes(x, y, 2)]
    [[0.0, 2.0], [False, True]]
    """
    own = torch.stack([labels.flatten(1) == kind for kind in range(classes)], 1)
    return _means(features, own), own.any(2)


def prototype_logits(features: Tensor, prototypes: Tensor, there: Tensor) -> Tensor:
    """Give ten times the cosines of features (N, D, h, w) with prototypes (N, K, D), (N, K, h, w).

    Classes that are not ``there`` (N, K) are never the likeliest.

    >>> x, near = torch.ones(1, 2, 1, 1), torch.tensor([[[2.0, 2.0], [1.0, 0.0]]])
    >>> prototype_logits(x, near, torch.tensor([[True, False]])).round().flatten().tolist()
    [10.0, -10000.0]
    """
    unit, towards = F.normalize(features, dim=1), F.normalize(prototypes, dim=2)
    alike = torch.einsum("ndhw,nkd->nkhw", unit, towards)
    return (SCALE * alike).masked_fill(~there[:, :, None, None], NEVER)


def refined(features: Tensor, prototypes: Tensor, there: Tensor) -> Refined:
    """Refine prototypes (N, K, D) by the places of features (N, D, h, w) that are sure of them.

    Of class 0, the background, each place has a prototype of its own: a mean of the sure background
    weighed by how like the place it is. Source: SSP, Fan et al., 2022, with the shares of GPRN,
    Peng et al., 2025, whose classes are background and foreground.
    """
    never = prototype_logits(features, prototypes, there)
    own, around = _supported(features, never)
    one, background = 0.5 * prototypes + 0.5 * own, 0.3 * own[:, 0, :, None, None] + 0.7 * around
    once = _with_background(features, one, background, there)
    own, around = _supported(features, once)
    two = 0.5 * prototypes + 0.2 * one + 0.3 * (0.5 * prototypes + 0.5 * own)
    known = prototypes[:, 0, :, None, None]
    again = 0.3 * own[:, 0, :, None, None] + 0.7 * around
    ground = 0.5 * known + 0.2 * background + 0.3 * again
    twice = 0.7 * _with_background(features, two, ground, there) + 0.3 * once
    return Refined(twice, once, never, one, background)


def supported_by(features: Tensor, prototypes: Tensor, found: Refined, there: Tensor) -> Tensor:
    """Give logits of the images that ``prototypes`` (N, K, D) are of, by way of refined ones.

    Another image's refined prototypes say which places of ``features`` are sure, and those refine.
    """
    said = _with_background(features, found.prototypes, found.background, there)
    own, around = _supported(features, said)
    background = 0.3 * own[:, 0, :, None, None] + 0.7 * around
    return _with_background(features, 0.5 * prototypes + 0.5 * own, background, there)


def _with_background(
    features: Tensor, prototypes: Tensor, background: Tensor, there: Tensor
) -> Tensor:
    """Give logits by prototypes, class 0 by a prototype of each place (N, D, h, w)."""
    logits = prototype_logits(features, prototypes, there)
    alike = SCALE * F.cosine_similarity(features, background, dim=1)
    first = torch.where(there[:, 0, None, None], alike, NEVER).unsqueeze(1)
    return torch.cat([first, logits[:, 1:]], 1)


def _supported(features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Give means of the places sure of each class (N, K, D), and the background's around each."""
    chances = logits.detach().softmax(1).flatten(2)
    least = torch.full_like(chances[:1, :, :1], FOREGROUND)
    least[:, 0] = BACKGROUND
    top = chances.topk(min(FEWEST, chances.shape[2]), dim=2).indices
    likeliest = torch.zeros_like(chances, dtype=torch.bool).scatter_(2, top, True)
    sure = chances > least
    sure = torch.where(sure.any(2, keepdim=True), sure, likeliest)
    unit = F.normalize(features.flatten(2), dim=1)
    alike = 2 * unit.transpose(1, 2) @ unit
    weights = alike.masked_fill(~sure[:, :1], -torch.inf).softmax(2)
    around = features.flatten(2) @ weights.transpose(1, 2)
    return _means(features, sure), around.view_as(features)


def _means(features: Tensor, own: Tensor) -> Tensor:
    """Give means of features (N, D, h, w) over places ``own`` (N, K, h * w), (N, K, D)."""
    mask = own.to(features.dtype)
    total = mask @ features.flatten(2).transpose(1, 2)
    return total / mask.sum(2, keepdim=True).clamp_min(1)

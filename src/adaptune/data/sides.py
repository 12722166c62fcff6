"""The two sides of a batch, made of rows that were read."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adaptune.data.loading import Stacked
from adaptune.types import Labeled, Unlabeled

NONE = torch.empty(0, dtype=torch.int64)
NO_LABELS = Labeled(x=torch.empty(0), domain=NONE, index=NONE, y=NONE)
"""The labelled side of a batch for methods that see none."""


def labeled_side(stack: Stacked, domain: int, ends: Sequence[int]) -> Labeled:
    """Number the rows' domains from ``domain`` on; each but the last stops before its end."""
    x, y, index = stack
    number = domain + torch.bucketize(index, torch.tensor(ends, dtype=index.dtype), right=True)
    return Labeled(x=x, y=y, index=index, domain=number)


def unlabeled_side(stack: Stacked, domain: int) -> Unlabeled:
    """Leave out what stands for a label; of ``x`` (N, views, ...) the first view is the image."""
    seen, _, index = stack
    x, *views = (view.contiguous() for view in seen.unbind(1))
    return Unlabeled(x, torch.full_like(index, domain), index, tuple(views))

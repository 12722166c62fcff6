"""One pass over the training data, for everyone who needs to see it before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from adaptune.batchnorm.conversion import ConversionReport, convert_batchnorm
from adaptune.runtime.inputs import in_eval
from adaptune.types import BatchNormPolicy, Labeled

Watch = Callable[[Labeled, Tensor], None]
"""Who sees each batch of a pass with its features (N, D)."""


def scan(
    body: nn.Module,
    batches: Iterable[Labeled],
    *,
    policy: BatchNormPolicy,
    pooling: Literal["exact", "batch"] = "exact",
    tolerance: float = 0.0,
    watches: Sequence[Watch] = (),
) -> dict[str, ConversionReport]:
    """Run ``body`` once over ``batches`` in eval mode; convert batch norms if the policy says so.

    Each of ``watches`` is called with each batch and its features, (N, D). Gives the conversion's
    report under the name ``conversion``, or nothing. The data are not opened when nobody needs
    them.

    >>> seen = []
    >>> x = torch.randn(4, 2)
    >>> row = torch.arange(4)
    >>> batch = Labeled(x=x, y=row, domain=row, index=row)
    >>> scan(nn.Identity(), [batch], policy="train", watches=[lambda _, f: seen.append(len(f))])
    {}
    >>> seen
    [4]
    """

    def watch(batch: Labeled, features: Tensor) -> None:
        for one in watches:
            one(batch, features)

    seen = watch if watches else None
    if policy == "converted":
        report = convert_batchnorm(body, batches, pooling=pooling, tolerance=tolerance, watch=seen)
        return {"conversion": report}
    if watches:
        with torch.no_grad(), in_eval(body):
            for batch in batches:
                watch(batch, body(batch.x))
    return {}

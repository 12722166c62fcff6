"""One pass over the training data, for everyone who needs to see it before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from adaptune.batchnorm.conversion import ConversionReport, convert_batchnorm
from adaptune.runtime.inputs import in_eval
from adaptune.types import BatchNormPolicy, Labeled


def scan(
    body: nn.Module,
    batches: Iterable[Labeled],
    *,
    policy: BatchNormPolicy,
    pooling: Literal["exact", "batch"] = "exact",
    tolerance: float = 0.0,
    watch: Callable[[Labeled, Tensor], None] | None = None,
) -> dict[str, ConversionReport]:
    """Run ``body`` once over ``batches`` in eval mode; convert batch norms if the policy says so.

    ``watch`` is called with each batch and its features, (N, D). Gives the conversion's report
    under the name ``conversion``, or nothing. The data are not opened when nobody needs them.

    >>> seen = []
    >>> x = torch.randn(4, 2)
    >>> row = torch.arange(4)
    >>> batch = Labeled(x=x, y=row, domain=row, index=row)
    >>> scan(nn.Identity(), [batch], policy="train", watch=lambda _, f: seen.append(len(f)))
    {}
    >>> seen
    [4]
    """
    if policy == "converted":
        report = convert_batchnorm(body, batches, pooling=pooling, tolerance=tolerance, watch=watch)
        return {"conversion": report}
    if watch is not None:
        with torch.no_grad(), in_eval(body):
            for batch in batches:
                watch(batch, body(batch.x))
    return {}

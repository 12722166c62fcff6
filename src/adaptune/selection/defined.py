"""What a score answers where its formula has no value."""

from __future__ import annotations

from torch import Tensor


class UndefinedScoreError(ValueError):
    """The formula of a score has no value on what it was given."""


def finite(values: Tensor, what: str, *, rows: int = 1) -> Tensor:
    """Give ``values`` (N, ...) in float64, apart from any graph.

    Raises:
        Undefined: If there are fewer than ``rows`` rows, or an entry is not finite.

    >>> import torch
    >>> finite(torch.ones(1, 2), "features").dtype
    torch.float64
    """
    if len(values) < rows:
        raise UndefinedScoreError(
            f"{what}: {len(values)} rows were given, at least {rows} are needed"
        )
    values = values.detach().double()
    if not bool(values.isfinite().all()):
        raise UndefinedScoreError(
            f"{what}: some entries are not finite, so the network has diverged"
        )
    return values

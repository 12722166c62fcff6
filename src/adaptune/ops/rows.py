"""Rows: what every place of a dense output becomes, and what functions of rows alone refuse."""

from __future__ import annotations

from torch import Tensor


def rows(tensor: Tensor) -> Tensor:
    """Make every place a row: (N, C, ...) becomes (M, C), image by image, places in their order.

    What is (N, C) stays the very tensor.

    >>> import torch
    >>> rows(torch.arange(8).reshape(2, 2, 2)).tolist()
    [[0, 2], [1, 3], [4, 6], [5, 7]]
    """
    if tensor.dim() == 2:
        return tensor
    return tensor.movedim(1, -1).reshape(-1, tensor.shape[1])


def sample_rows(tensor: Tensor, most: int = 64) -> Tensor:
    """Make at most ``most`` places of each example a row, evenly spread and always the same ones.

    What is (N, C) stays the very tensor, as in `rows`.

    >>> import torch
    >>> sample_rows(torch.arange(8.0).reshape(1, 1, 8), most=3).flatten().tolist()
    [0.0, 3.0, 7.0]
    """
    if tensor.dim() == 2:
        return tensor
    places = tensor.flatten(2)
    count = places.shape[2]
    if count > most:
        chosen = [at * (count - 1) // (most - 1) for at in range(most)]
        places = places[:, :, chosen]
    return rows(places)


def need_rows(tensor: Tensor, what: str) -> None:
    """Refuse what is not one prediction a row, (N, K).

    Raises:
        ValueError: If it has other dimensions; ``what`` says who refuses.

    >>> import torch
    >>> need_rows(torch.zeros(2, 3), "the entropy of the mean")
    """
    if tensor.dim() != 2:
        raise ValueError(
            f"{what} is of one prediction a row, (N, K), and got {tuple(tensor.shape)}: make "
            "every place a row first (ops.rows)"
        )

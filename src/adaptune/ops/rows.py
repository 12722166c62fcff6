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

    Of a grid (N, C, h, w) they are some of its rows and columns: places in the order of the grid, a
    fixed number apart, may lie on one line of it. What is (N, C) stays the very tensor, as in
    `rows`.

    >>> import torch
    >>> sample_rows(torch.arange(8.0).reshape(1, 1, 8), most=3).flatten().tolist()
    [1.0, 4.0, 6.0]
    >>> sample_rows(torch.arange(16.0).reshape(1, 1, 4, 4), most=4).flatten().tolist()
    [5.0, 7.0, 13.0, 15.0]
    """
    return tensor if tensor.dim() == 2 else rows(sample_places(tensor, most))


def sample_places(tensor: Tensor, most: int) -> Tensor:
    """Keep at most ``most`` places of each example, those of `sample_rows`: (N, C, P).

    >>> import torch
    >>> sample_places(torch.zeros(2, 3, 10, 20), 18).shape
    torch.Size([2, 3, 18])
    """
    return spread_places(tensor, *spread_over(tensor, most))


def spread_over(tensor: Tensor, most: int) -> tuple[int, int]:
    """Say how many lines and columns of a grid (N, C, h, w) are ``most`` places, evenly spread.

    >>> import torch
    >>> spread_over(torch.zeros(1, 1, 10, 20), 18)
    (3, 6)
    """
    height, width = tensor.shape[2:] if tensor.dim() == 4 else (1, tensor[0, 0].numel())
    across = min(width, most, max(1, round((most * width / height) ** 0.5)))
    down = min(height, most // across)
    return down, min(width, most // down)


def spread_places(tensor: Tensor, down: int, across: int) -> Tensor:
    """Keep so many lines and columns of a grid, evenly spread, whatever its size: (N, C, P).

    >>> import torch
    >>> spread_places(torch.arange(6.0).view(1, 1, 2, 3), 1, 3).flatten().tolist()
    [3.0, 4.0, 5.0]
    """
    grid = tensor if tensor.dim() == 4 else tensor.flatten(2).unsqueeze(2)
    height, width = grid.shape[2:]
    grid = grid[:, :, _spread(height, down)][:, :, :, _spread(width, across)]
    return grid.flatten(2)


def _spread(size: int, count: int) -> list[int]:
    """Choose ``count`` of ``size`` places, the middles of equal parts."""
    return [(2 * at + 1) * size // (2 * count) for at in range(count)]


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

"""Several processes that work as one: which of them this is, and what they hold together.

Without `torch.distributed` every function answers for one process alone. With it, all processes
must call the same functions in the same order, apart from `rank_and_world` and `is_first`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from adaptune.runtime.signals import Stopped

Item = TypeVar("Item")

SLICE = 1 << 26
"""Bytes that a process sends at a time, so that not all rows need room on a GPU at once."""


def rank_and_world() -> tuple[int, int]:
    """Give the number of this process, from 0, and how many there are.

    >>> rank_and_world()
    (0, 1)
    """
    if not _together():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def is_first() -> bool:
    """Tell whether this is the process that writes files and talks to people.

    >>> is_first()
    True
    """
    return rank_and_world()[0] == 0


def barrier() -> None:
    """Wait until every process is here.

    >>> barrier()
    """
    gather_each(torch.zeros(1))


def gather_each(own: Tensor) -> list[Tensor]:
    """Give what each process holds, own shape and type, the same list on all of them.

    >>> gather_each(torch.ones(2))
    [tensor([1., 1.])]
    """
    if not _together():
        return [own]
    carried = own.detach().contiguous().to(_carrier(own))
    parts = [torch.empty_like(carried) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, carried)
    return [part.to(own.device) for part in parts]


def add_up(own: Tensor) -> Tensor:
    """Add up what each process holds, of the same shape and type; the same on all of them.

    >>> add_up(torch.ones(2))
    tensor([1., 1.])
    """
    if not _together():
        return own
    total = own.detach().to(_carrier(own), copy=True)
    torch.distributed.all_reduce(total)
    return total.to(own.device)


def gather_objects(own: Item) -> list[Item]:
    """Give what each process holds, anything that can be pickled, the same list on all of them.

    >>> gather_objects({"broken.png": "cut off"})
    [{'broken.png': 'cut off'}]
    """
    if not _together():
        return [own]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return parts


def gather(own: Tensor) -> Tensor:
    """Join the rows of all processes, those of process 0 first; the same on all of them.

    ``own`` is (N, ...) of any type, on any device; N may differ between processes. A process
    without rows need not know their shape and type: `torch.empty(0)` will do.

    Raises:
        ValueError: If processes hold rows of different shapes or types.

    >>> gather(torch.eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if not _together():
        return own
    forms = gather_objects((tuple(own.shape), own.dtype))
    kinds = {(shape[1:], dtype) for shape, dtype in forms if shape[0]}
    if len(kinds) > 1:
        raise ValueError(f"processes hold rows that do not fit together: {forms}")
    if not kinds:
        return own
    [(shape, dtype)] = kinds
    counts = [form[0] for form, _ in forms]
    sizes = [count * math.prod(shape) * dtype.itemsize for count in counts]
    sent = own.detach().reshape(-1).view(torch.uint8)  # every backend carries bytes
    return _gathered_bytes(sent, sizes).view(dtype).view(sum(counts), *shape)


def row_offset(rows: int) -> tuple[int, int]:
    """Say before how many of all processes' rows these ``rows`` come when joined, and of how many.

    >>> row_offset(4)
    (0, 4)
    """
    counts = [int(one) for one in gather_each(torch.tensor(rows))]
    return sum(counts[: rank_and_world()[0]]), sum(counts)


def join(own: Tensor) -> Tensor:
    """Join rows (N, ...) as `gather` does, and let gradients go back to whose rows they are.

    So a term that is no mean over rows is that of the whole batch. A row's gradient is the sum of
    what all processes ask of it, so all must go down a term of these rows. Their losses are
    weighted by shares that add up to the number of processes and their gradients averaged: then
    the step is that of one process, whether all compute the same or each a part.

    >>> rows = torch.ones(2, 1, requires_grad=True)
    >>> join(rows).sum().backward()
    >>> rows.grad.tolist()
    [[1.0], [1.0]]
    """
    return _Joined.apply(own) if _together() else own


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        before, _ = row_offset(len(own))
        context.own = slice(before, before + len(own))
        return gather(own)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (asked,) = gradients
        exact = asked.to(torch.promote_types(asked.dtype, torch.float32))
        return torch.stack(gather_each(exact)).sum(0)[context.own].to(asked.dtype)


def broadcast_from_first(make: Callable[[], Item]) -> Item:
    """Let process 0 make something that can be pickled, and give it to all; so with an error.

    >>> broadcast_from_first(lambda: "made once")
    'made once'
    """
    if not _together():
        return make()
    told: list[Any] = [None, None]
    if is_first():
        try:
            told[0] = make()
        except (Exception, Stopped) as error:  # the others wait and must hear, whatever it is
            told[1] = error
    torch.distributed.broadcast_object_list(told, src=0)
    if told[1] is not None:
        raise told[1]
    return told[0]  # type: ignore[no-any-return]


@torch.no_grad()
def mean_over_processes_(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by their means over processes, in place, the same bits on all of them.

    Every process gives tensors of the same shapes and types in the same order. Half precision is
    added up in float32.

    Raises:
        TypeError: If a tensor holds whole numbers, whose mean may be none.

    >>> running = torch.tensor([1.0, 2.0])
    >>> mean_over_processes_([running])
    >>> running
    tensor([1., 2.])
    """
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise TypeError(f"a mean over processes needs real numbers and got {tensor.dtype}")
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    if _together():
        for alike in kinds.values():
            for tensor, mean in zip(alike, _means(alike), strict=True):
                tensor.copy_(mean)


def any_process(own: bool) -> bool:
    """Tell whether it is so in any process; all must ask.

    >>> any_process(False)
    False
    """
    return any(bool(one) for one in gather_each(torch.tensor(own)))


def _together() -> bool:
    """Tell whether there is a group of processes, were it of one."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized()


def _carrier(own: Tensor) -> torch.device:
    """Choose the device on which the backend takes a tensor: gloo the CPU, NCCL the GPU."""
    backend = torch.distributed.get_backend()
    if backend == "gloo":
        return torch.device("cpu")
    if backend == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return own.device


def _means(alike: list[Tensor]) -> list[Tensor]:
    """Average tensors of one type over processes, all of them in one exchange."""
    flat = torch.cat([tensor.reshape(-1) for tensor in alike])
    flat = flat.to(_carrier(flat), torch.promote_types(flat.dtype, torch.float32))
    if flat.numel():
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
    means = torch.split(flat, [tensor.numel() for tensor in alike])
    return [mean.view(tensor.shape) for tensor, mean in zip(alike, means, strict=True)]


def _gathered_bytes(own: Tensor, sizes: list[int]) -> Tensor:
    """Join the bytes of all processes, of which each has as many as ``sizes`` says."""
    parts = [[own[:0]] for _ in sizes]
    longest = max(sizes)
    for at in range(0, longest, SLICE):
        room = own.new_zeros(min(SLICE, longest - at))
        piece = own[at : at + len(room)]
        room[: len(piece)] = piece
        for part, other, size in zip(parts, gather_each(room), sizes, strict=True):
            part.append(other[: max(0, size - at)])
    return torch.cat([one for part in parts for one in part])


def gradients_of(params: Sequence[Tensor]) -> list[Tensor]:
    """List gradients; of several processes each gives one for every parameter, if only zeros.

    >>> parameter = torch.nn.Parameter(torch.zeros(2))
    >>> parameter.sum().backward()
    >>> gradients_of([parameter, torch.nn.Parameter(torch.zeros(2))])
    [tensor([1., 1.])]
    """
    if rank_and_world()[1] > 1:
        for parameter in params:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in params if parameter.grad is not None]

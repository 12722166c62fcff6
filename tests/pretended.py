"""A pretended Apple GPU: tensors that say so, are computed on the CPU, and are refused float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

MPS = torch.device("mps", 0)


class OnMps(Tensor):
    """A tensor that lies there: all that is done with it is done with ``held``."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnMps:
        return Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
            requires_grad=held.requires_grad,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __tensor_flatten__(self):
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(parts, meta, size, stride):
        return OnMps(parts["held"])

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func == Tensor.device.__get__:
            return MPS  # to torch itself it is meta, which has no memory to look for
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return done(func, args, kwargs or {})

    def __repr__(self) -> str:
        return f"OnMps({self.held!r})"


def done(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do what is asked with what is held, and put what comes of it where the device would."""
    given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    there = [one for one in given if isinstance(one, OnMps)]
    asked = kwargs.get("device")
    if asked is not None:
        kwargs = kwargs | {"device": "cpu"}
    plain = [one for one in given if not isinstance(one, OnMps) and one.dim()]
    moves = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    indexes = func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_)
    if there and plain and not moves and not indexes:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, mps:0")
    back = {id(one.held): one for one in there}
    got = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    leaves = torch.device(asked).type == "cpu" if asked is not None else not there
    if func is torch.ops.aten.copy_.default:
        leaves = not isinstance(args[0], OnMps)
    if leaves:
        return got

    def placed(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        if one.dtype == torch.float64:
            raise TypeError(f"{func}: the MPS framework doesn't support float64")
        return back.get(id(one)) if id(one) in back else OnMps(one)

    return tree_map(placed, got)


def _held(one: Any) -> Any:
    return one.held if isinstance(one, OnMps) else one


class _Pretended(TorchDispatchMode):
    """Takes what is made on the device, or moved there, before torch looks for it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        asked = kwargs.get("device")
        if asked is not None and torch.device(asked).type == "mps":
            return done(func, args, kwargs)
        return func(*args, **kwargs)


@contextmanager
def pretended_mps() -> Iterator[torch.device]:
    """Give a device that tensors and modules move to, and where there is no float64."""
    with _Pretended():
        yield MPS

"""What layers inside a network give, kept or changed by hooks for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from adaptune.runtime.inputs import find_tensors, in_python


@contextmanager
def tapped(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Keep what the layers of ``names`` give in the passes of a block, by name, with its gradient.

    What is kept is that of the latest pass, and of a layer that is called more than once in it the
    latest call; of several tensors that a layer gives it is the first. It is a copy, since a layer
    that follows may write into what it is handed (an activation in place). A name is one of
    `named_modules`; "" is the module itself. Compiled modules run uncompiled meanwhile. Whatever
    happens in the block, no hook is left afterwards.

    Raises:
        ValueError: If the module has no layer of a name.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(inplace=True))
    >>> net.load_state_dict({"0.weight": torch.tensor([[2.0]]), "0.bias": torch.tensor([-9.0])})
    <All keys matched successfully>
    >>> with tapped(net, ["0"]) as inner:
    ...     out = net(torch.ones(1, 1))
    >>> inner["0"].tolist(), out.tolist()
    ([[-7.0]], [[0.0]])
    """
    kept: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[..., None]:
        def keep(layer: nn.Module, given: object, output: Any) -> None:
            for tensor in find_tensors(output):
                kept[name] = tensor.clone()
                return

        return keep

    with _hooked(module, {name: keeping(name) for name in names}):
        yield kept


@contextmanager
def altered(module: nn.Module, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Let layers give what functions make of their outputs, in the passes of a block, by name.

    Of several tensors that a layer gives the first is changed. Names, compiled modules and the end
    of the block are those of `tapped`; what that keeps of a layer, begun within such a block, was
    changed before.

    Raises:
        ValueError: If the module has no layer of a name.

    >>> import torch
    >>> net = nn.Sequential(nn.Identity(), nn.ReLU())
    >>> with altered(net, {"0": torch.neg}):
    ...     net(torch.tensor([-2.0, 1.0]))
    tensor([2., 0.])
    >>> net(torch.tensor([-2.0, 1.0]))
    tensor([0., 1.])
    """

    def changing(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        def give(layer: nn.Module, given: object, output: Any) -> Any:
            if isinstance(output, tuple):
                return (change(output[0]), *output[1:])
            return change(output)

        return give

    with _hooked(module, {name: changing(change) for name, change in changes.items()}):
        yield


@contextmanager
def _hooked(module: nn.Module, hooks: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Hook layers by name for a while."""
    layers = dict(module.named_modules())
    if unknown := [name for name in hooks if name not in layers]:
        blocks = [name for name, _ in module.named_children()]
        raise ValueError(
            f"{type(module).__name__} has no layer {', '.join(unknown)}: its blocks are "
            f"{', '.join(blocks) or 'none'}, and their layers are called BLOCK.LAYER"
        )
    with ExitStack() as stack:
        stack.enter_context(in_python())
        for name, hook in hooks.items():
            stack.callback(layers[name].register_forward_hook(hook).remove)
        yield

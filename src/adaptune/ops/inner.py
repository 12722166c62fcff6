"""What layers inside a network give, kept by hooks for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    layers = dict(module.named_modules())
    if unknown := [name for name in names if name not in layers]:
        blocks = [name for name, _ in module.named_children()]
        raise ValueError(
            f"{type(module).__name__} has no layer {', '.join(unknown)}: its blocks are "
            f"{', '.join(blocks) or 'none'}, and their layers are called BLOCK.LAYER"
        )
    kept: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[..., None]:
        def keep(layer: nn.Module, given: object, output: Any) -> None:
            for tensor in find_tensors(output):
                kept[name] = tensor.clone()
                return

        return keep

    with ExitStack() as hooks:
        hooks.enter_context(in_python())
        for name in dict.fromkeys(names):
            hooks.callback(layers[name].register_forward_hook(keeping(name)).remove)
        yield kept

"""The layers of a body in groups, from the input up, as methods unfreeze them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

FEWEST, MOST = 3, 5
"""Stages fewer than this tell too little; of what has none this many groups are made."""

Block = list[tuple[str, nn.Module]]
"""Modules by name that stay together."""


def layer_groups(body: nn.Module) -> list[list[str]]:
    """Name the layers of each group, from the input up.

    Layers are all modules that have parameters of their own, and all batch norms; each is in one
    group. A group is a stage, which is a run of blocks at one resolution: a convolution or pooling
    with a stride begins the next. Where there are fewer than three stages, as in a vision
    transformer, up to five groups of about as many blocks are made. Blocks are found from outside:
    containers, and whatever holds more than half of the parameters, are opened. Layers are taken in
    the order in which the network lists them.

    >>> layer_groups(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2)))
    [['0', '1'], ['3']]
    """
    blocks = list(_blocks("", body, sum(one.numel() for one in body.parameters()) / 2))
    stages = _runs(blocks, lambda block: any(strides(one) for _, one in block))
    if len(stages) >= FEWEST:
        return stages
    parts = _runs(blocks, lambda block: not all(map(_thin, block)))
    count = min(len(parts), MOST)
    groups: list[list[str]] = [[] for _ in range(count)]
    for number, names in enumerate(parts):
        groups[number * count // len(parts)] += names
    return groups


def stage_ends(body: nn.Module) -> list[tuple[str, int, int]]:
    """Name the last convolution, batch norm or linear layer of each stage: its width and axis.

    >>> stage_ends(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 4)))
    [('1', 3, 1), ('3', 4, -1)]
    """
    ends = []
    for names in layer_groups(body):
        for name in reversed(names):
            if end := _end(body.get_submodule(name)):
                ends.append((name, *end))
                break
    return ends


def stage_maps(body: nn.Module) -> list[tuple[str, int]]:
    """Name the last block of each stage, whose output is the stage's, and its width.

    A block is taken whole, so that of a residual one it is the sum. Bare layers, such as a last
    convolution, stand for a stage without blocks alone, and such a stage, as a stem is, does not
    count where most have some.

    >>> stage_maps(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1, 2)))
    [('1', 4), ('2', 5)]
    """
    most = sum(one.numel() for one in body.parameters()) / 2
    bare: list[tuple[str, int]] = []
    whole: list[tuple[str, int]] = []
    for names in layer_groups(body):
        ends = [(name, end[0]) for name in names if (end := _end(body.get_submodule(name)))]
        held = [(_block_of(body, name, most), width) for name, width in ends]
        blocks = [one for one in held if _is_block(body.get_submodule(one[0]))]
        bare += (blocks or held)[-1:]
        whole += blocks[-1:]
    return whole if 2 * len(whole) > len(bare) else bare


def group_parameters(body: nn.Module, groups: Sequence[Sequence[str]]) -> list[nn.ParameterList]:
    """Give the parameters of groups of layers; one that layers share is in the first group alone.

    >>> [len(one) for one in group_parameters(nn.Sequential(nn.Linear(2, 2)), [["0"], []])]
    [2, 0]
    """
    seen: set[nn.Parameter] = set()
    found = []
    for names in groups:
        layers = map(body.get_submodule, names)
        own = [one for layer in layers for one in layer.parameters(recurse=False)]
        own = [one for one in dict.fromkeys(own) if one not in seen]
        seen.update(own)
        found.append(nn.ParameterList(own))
    return found


def strides(module: nn.Module) -> bool:
    """Tell whether a layer makes images smaller by a stride.

    >>> strides(nn.MaxPool2d(2)), strides(nn.Conv2d(1, 1, 3))
    (True, False)
    """
    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return False
    stride: tuple[int, ...] = (
        module.stride if isinstance(module.stride, tuple) else (module.stride,)
    )
    return max(stride) > 1


def _blocks(name: str, module: nn.Module, most: float) -> Iterator[Block]:
    """Find the blocks of a module; what an opened one has itself goes with the first in it."""
    children = list(module.named_children())
    if not _opens(module, most):
        yield list(module.named_modules(prefix=name))
        return
    own = [(name, module)]
    for key, child in children:
        for block in _blocks(f"{name}.{key}".lstrip("."), child, most):
            yield own + block
            own = []


def _end(layer: nn.Module) -> tuple[int, int] | None:
    """Give the width of what a convolution, batch norm or linear layer gives, and its axis."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, -1
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels, 1
    return (layer.num_features, 1) if isinstance(layer, _BatchNorm) else None


def _is_block(module: nn.Module) -> bool:
    """Tell whether a module holds others; a norm with an activation is a layer all the same."""
    return any(module.children()) and not isinstance(module, _BatchNorm)


def _block_of(body: nn.Module, name: str, most: float) -> str:
    """Name the block that a layer is in, or is."""
    parts = name.split(".")
    paths = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
    return next((one for one in paths if not _opens(body.get_submodule(one), most)), name)


def _opens(module: nn.Module, most: float) -> bool:
    """Tell whether a module is no block but holds some."""
    large = sum(one.numel() for one in module.parameters()) > most
    return any(module.children()) and (large or isinstance(module, CONTAINERS))


def _runs(blocks: Sequence[Block], begins: Callable[[Block], bool]) -> list[list[str]]:
    """Name the layers of blocks, beginning anew with or behind each that ``begins``."""
    runs: list[list[str]] = []
    seen: set[nn.Module] = set()
    new = True
    for block in blocks:
        new = new or begins(block)
        layers = [name for name, one in block if one not in seen and _is_layer(one)]
        seen.update(one for _, one in block)
        if layers:
            runs += [[]] if new else []
            runs[-1] += layers
            new = False
    return runs


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) or any(True for _ in module.parameters(recurse=False))


def _thin(named: tuple[str, nn.Module]) -> bool:
    """Tell whether a module has no weights but those of single channels, as norms do."""
    return all(one.dim() < 2 for one in named[1].parameters(recurse=False))

"""Batch norms of which half normalise every image by itself, in a network that has its weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from adaptune.networks.heads import Head
from adaptune.networks.stages import CONTAINERS, strides

SHORTCUTS = ("downsample", "shortcut", "proj", "skip")
"""What libraries call the part of a residual block that goes around it."""


class InstanceBatchNorm(nn.Module):
    """Instance norm of the first half of the channels, batch norm of the others.

    It takes the weight and bias of ``norm``, and for its second half the running statistics; the
    first half has none. What ``norm`` has built in, such as an activation, comes after. Instance
    norm by the same weights leaves every channel's mean and variance over images and pixels as
    batch norm would have them, so the layers behind it are fed values of the scale that they know.

    Source: Two at Once (Pan, Luo, Shi and Tang, 2018), IBN.

    >>> norm = InstanceBatchNorm(nn.BatchNorm2d(5))
    >>> norm.instance.num_features, norm.batch.num_features
    (2, 3)
    >>> x = torch.randn(4, 5, 6, 6)
    >>> torch.allclose(norm(2 * x + 1)[:, :2], norm(x)[:, :2], atol=1e-4)
    True
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        count = norm.num_features // 2
        others = norm.num_features - count
        self.instance = nn.InstanceNorm2d(count, eps=norm.eps, affine=True)
        self.batch = nn.BatchNorm2d(others, eps=norm.eps, momentum=norm.momentum)
        self.after = nn.Sequential(*norm.children())
        own = {key: value for key, value in norm.state_dict().items() if "." not in key}
        self.batch.load_state_dict({k: v[count:] if v.dim() else v for k, v in own.items()})
        self.instance.load_state_dict({key: own[key][:count] for key in ("weight", "bias")})
        self.to(norm.weight)
        for name, parameter in norm.named_parameters(recurse=False):
            for half in (self.instance, self.batch):
                half.get_parameter(name).requires_grad_(parameter.requires_grad)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise images (N, C, H, W), of more than one pixel."""
        count = self.instance.num_features
        halves = self.instance(x[:, :count]), self.batch(x[:, count:])
        return self.after(torch.cat(halves, 1))  # type: ignore[no-any-return]


def ibn(body: nn.Module, head: Head, *, stages: int) -> tuple[nn.Module, Head]:
    """Split batch norms of a network's first ``stages`` stages (`split_norms`): a surgery.

    >>> type(ibn(nn.Sequential(nn.BatchNorm2d(4)), nn.Linear(4, 2), stages=1)[0][0]).__name__
    'InstanceBatchNorm'
    """
    split_norms(body, stages)
    return body, head


def split_norms(body: nn.Module, stages: int) -> list[str]:
    """Split the first batch norm of each residual block in the first ``stages`` stages; name them.

    The names are those that `first_norms` finds.

    Raises:
        ValueError: If there is no batch norm of images to split.

    >>> block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    >>> split_norms(block, 1), type(block[1]).__name__
    (['1'], 'InstanceBatchNorm')
    """
    found = [(name, norm) for name, norm, stage in first_norms(body) if stage <= stages]
    if not found:
        raise ValueError(
            f"no batch norm could be split within the first {stages} stages: IBN needs a "
            "convolutional network whose batch norms have weights, running statistics and more "
            "than one channel; take another backbone"
        )
    for name, norm in found:
        body.set_submodule(name, InstanceBatchNorm(norm))
    return [name for name, _ in found]


def first_norms(body: nn.Module) -> Iterator[tuple[str, nn.BatchNorm2d, int]]:
    """Find the first batch norm of every residual block, and the block's stage, from 1.

    A block is an innermost module, other than a container, that holds two batch norms or more
    besides those of its shortcut. Where there is none, every batch norm counts as a block. A stage
    is a run of blocks at one resolution: a convolution or pooling with a stride begins the next,
    so the stem's do not count. Layers are taken in the order in which the network lists them.

    >>> net = nn.Sequential(nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.BatchNorm2d(4))
    >>> [(name, stage) for name, _, stage in first_norms(net)]
    [('0', 1), ('2', 2)]
    """
    blocks = _blocks(body)
    stage, shrunk = 0, True
    for name, module in body.named_modules():
        if any(name.startswith(f"{block}.") for block in blocks):
            continue
        if name in blocks:
            shrunk = shrunk or any(map(strides, module.modules()))
        elif not isinstance(module, nn.BatchNorm2d) or blocks:
            shrunk = shrunk or strides(module)
            continue
        stage, shrunk = stage + shrunk, False
        within, norm = next(iter(_norms(module)))
        if _splits(norm):
            yield ".".join(filter(None, (name, within))), norm, stage


def _blocks(body: nn.Module) -> dict[str, nn.Module]:
    """Find the innermost modules that hold two batch norms, by name."""
    found = {
        name: module
        for name, module in body.named_modules()
        if name and not isinstance(module, CONTAINERS) and len(_norms(module)) > 1
    }
    return {
        name: module
        for name, module in found.items()
        if not any(other.startswith(f"{name}.") for other in found)
    }


def _norms(block: nn.Module) -> list[tuple[str, nn.BatchNorm2d]]:
    """List the batch norms of a block, without those of its shortcut."""
    return [
        (name, module)
        for name, module in block.named_modules()
        if isinstance(module, nn.BatchNorm2d) and name.split(".")[0] not in SHORTCUTS
    ]


def _splits(norm: nn.BatchNorm2d) -> bool:
    return norm.num_features > 1 and norm.affine and norm.running_mean is not None

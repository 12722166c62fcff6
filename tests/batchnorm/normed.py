"""Small networks with batch norms, and what goes through them."""

import copy

import torch
from torch import Tensor, nn

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.batchnorm.layers import batchnorms


def randomised(net: nn.Module) -> nn.Module:
    """Give every batch norm statistics and an affine map that no initialisation has."""
    with torch.no_grad():
        for _, norm in batchnorms(net):
            if norm.running_mean is not None:
                norm.running_mean.normal_(0, 0.5)
                norm.running_var.uniform_(0.5, 2)
            if norm.weight is not None:
                norm.weight.uniform_(-1.5, 1.5)
                norm.bias.normal_(0, 0.3)
    return net.eval()


def small() -> nn.Sequential:
    return randomised(
        nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 5, 3),
            nn.BatchNorm2d(5, eps=1e-3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 4),
            nn.BatchNorm1d(4),
        )
    )


def images(number: int = 24, size: int = 8, precision: torch.dtype = torch.float32) -> Tensor:
    """Images whose brightness grows with their index: sorted, as by class."""
    own = torch.Generator().manual_seed(1)
    x = torch.randn(number, 3, size, size, generator=own, dtype=torch.float64)
    return (x + torch.linspace(-2, 3, number).view(-1, 1, 1, 1)).to(precision)


def statistics(net: nn.Module) -> list[Tensor]:
    norms = [norm for _, norm in batchnorms(net)]
    return [t.double().clone() for norm in norms for t in (norm.running_mean, norm.running_var)]


def inputs_of(net: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """Collect by hand what every batch norm of a network in eval mode is given."""
    net, seen = copy.deepcopy(net).eval(), {}
    for name, norm in batchnorms(net):
        norm.register_forward_hook(
            lambda _m, args, _out, name=name: seen.setdefault(name, []).append(args[0])
        )
    with torch.no_grad():
        for x in batches:
            net(x)
    return {name: torch.cat(parts) for name, parts in seen.items()}


def outcome(net: nn.Module, batches, **options) -> tuple[str, str]:
    [layer] = convert_batchnorm(net, batches, **options).layers
    return layer.status, layer.reason

"""The layers of a body, from its input to its head, as its library groups them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from adaptune.networks.network import Network


@dataclass(frozen=True)
class Names:
    """Parameters by name, which is all that timm asks of a module when it groups them."""

    named: list[tuple[str, Tensor]]

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Give them, as a module does."""
        return iter(self.named)


def layer_shares(net: Network, decay: float) -> dict[Tensor, float]:
    """Give what each parameter of the body's rate is times: ``decay`` a layer below the head's.

    Groups of layers are timm's: a block is one, what lies before the first is one, and whatever
    follows the last learns with the head, at its full rate. Source: the layer-wise decay of BEiT
    (Bao et al., 2022), as timm takes it.

    Raises:
        ValueError: If the network's library names no groups of layers.

    >>> net = Network.from_timm("resnet18", ["cat", "dog"])
    >>> shares = layer_shares(net, 0.5)
    >>> shares[net.body.layer4[1].conv1.weight], shares[net.body.conv1.weight]
    (0.5, 0.001953125)
    """
    from timm.models import group_parameters

    matcher = getattr(net.body, "group_matcher", None)
    if matcher is None:
        raise ValueError(
            f"--layer-decay goes by timm's groups of layers, and {net.origin.name} has none: take "
            "a network of timm with one output an image, or leave it out"
        )
    named = list(net.body.named_parameters())
    head = [(f"{net.origin.head}.weight", next(net.head.parameters()))]
    layers = group_parameters(Names([*named, *head]), matcher(coarse=False), reverse=True)
    last = max(layers.values())
    return {one: decay ** (last - layers[name]) for name, one in named}


def undecayed(module: nn.Module) -> set[Tensor]:
    """Give the parameters that decay leaves out: of one axis, such as norms and biases, and named.

    Named are those that the module's library says so of, such as timm's embeddings of positions.

    >>> left = undecayed(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))
    >>> sorted(one.numel() for one in left)
    [2, 2, 2]
    """
    told: set[Tensor] = {one for one in module.parameters() if one.ndim <= 1}
    for part in module.modules():
        names = getattr(part, "no_weight_decay", None)
        if callable(names):
            own = dict(part.named_parameters())
            told |= {own[name] for name in names() if name in own}
    return told

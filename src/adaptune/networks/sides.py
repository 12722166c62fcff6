"""What of a network was pretrained, and what begins at random."""

from __future__ import annotations

from torch import nn

from adaptune.networks.network import Network


def sides(net: Network) -> tuple[nn.Module, nn.Module]:
    """Give what was pretrained, and what begins at random: the head, and a decoder if it does.

    Such a decoder is the part of the body that ``net.neck`` names. Nothing of a network that was
    saved is one, since it was trained.
    """
    if not net.neck:
        return net.body, net.head
    parts = dict(net.body.named_children())
    new = [parts.pop(name) for name in net.neck]
    return nn.ModuleList(parts.values()), nn.ModuleList([*new, net.head])


def need_pretrained(net: Network, who: str, instead: str) -> None:
    """Refuse a network whose decoder begins at random, for what reads pretrained features.

    Raises:
        ValueError: If it does; ``who`` says what reads them, ``instead`` what else can be done.
    """
    if net.neck:
        raise ValueError(
            f"{who} reads pretrained features, and the decoder of {net.origin.name} begins at "
            f"random: {instead}, give --weights of the whole network, or a backbone without a "
            "decoder"
        )

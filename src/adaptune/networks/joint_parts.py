"""What of a network with a joint space learns, at which rates, and how warm it may become."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.joint import WARMEST, Joint
from adaptune.networks.network import Network
from adaptune.types import Group

MARGIN = 1e-6
"""How far below its limit the logarithm of the scale is kept: above it gradients are zero."""


def maps_of(head: Joint) -> nn.ParameterList:
    """Give what brings features into the space: the maps, and the scale of cosines.

    >>> from adaptune.networks.inputs import TextInput
    >>> [tuple(one.shape) for one in maps_of(Joint(3, 2, TextInput()))]
    [(2, 3), ()]
    """
    maps = [head.project.weight] + ([] if head.other is None else [head.other.weight])
    return nn.ParameterList([*maps, head.log_warmth])


@torch.no_grad()
def cool(head: Joint) -> None:
    """Bring the scale of cosines back to `WARMEST`, if a step went beyond.

    Source: Learning Transferable Visual Models From Natural Language Supervision (Radford et al.,
    2021).

    >>> from adaptune.networks.inputs import TextInput
    >>> head = Joint(3, 2, TextInput(), warmth=500.0)
    >>> cool(head)
    >>> round(head.warmth.item(), 3)
    100.0
    """
    head.log_warmth.clamp_(max=math.log(WARMEST) - MARGIN)


def placed(head: Joint, told: Tensor) -> Tensor:
    """Give the embeddings (N, E), of length 1, of what a tower made of texts (N, W).

    >>> from adaptune.networks.inputs import TextInput
    >>> head = Joint(3, 2, TextInput(), tower=nn.Identity(), tower_width=5)
    >>> placed(head, torch.randn(4, 5)).shape
    torch.Size([4, 2])
    """
    assert head.other is not None
    return F.normalize(head.other(told), dim=1)


def sides(net: Network[Joint]) -> dict[str, nn.Module]:
    """Give the body, and the tower if there is one."""
    tower = net.head.tower
    return {"body": net.body} | ({} if tower is None else {"tower": tower})


def lock(net: Network[Joint], side: str, who: str) -> None:
    """Freeze the ``body`` or the ``tower``.

    Raises:
        ValueError: If one body reads both sides; ``who`` says who asks.
    """
    need_tower(net.head, who)
    sides(net)[side].requires_grad_(False)


def groups_of(
    net: Network[Joint], lr: float, *, texts: float, new: float, locked: str
) -> list[Group]:
    """Train body, tower and maps at their rates, but for the side that is ``locked``.

    The tower learns ``texts`` times as fast as the body, the maps and the scale ``new`` times.
    """
    rates = {"body": lr, "tower": texts * lr}
    learn = {name: one for name, one in sides(net).items() if name != locked}
    maps = Group(maps_of(net.head), new * lr)
    return [*(Group(one, rates[name]) for name, one in learn.items()), maps]


def need_tower(head: Joint, who: str) -> nn.Module:
    """Give the tower that reads the texts of a joint space.

    Raises:
        ValueError: If one body reads both sides; ``who`` says who asks.
    """
    if head.tower is None:
        raise ValueError(
            f"{who} needs texts that have a network of their own, and here one body reads both "
            "sides: start from a network with a tower"
        )
    return head.tower

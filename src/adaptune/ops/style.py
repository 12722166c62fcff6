"""The style of maps: mean and deviation of each channel, taken away, mixed and put on."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.ops.clustering import farthest_rows
from adaptune.runtime.processes import gather, join

Style = tuple[Tensor, Tensor]
"""Means and deviations of channels over the places of each row, shaped to stand beside the maps."""

FLOOR = 1e-5
"""What is added to a variance."""


def channel_axis(maps: Tensor, width: int) -> int:
    """Say on which axis maps have their ``width`` channels: 1, or -1 as in tokens (N, T, C).

    Raises:
        ValueError: If they have no places.

    >>> channel_axis(torch.zeros(2, 8, 4, 4), 8), channel_axis(torch.zeros(2, 16, 8), 8)
    (1, -1)
    """
    if maps.dim() < 3:
        raise ValueError(
            f"style needs maps, whose channels have places: got features of {tuple(maps.shape)}; "
            "take a network that convolves images or reads them as tokens"
        )
    return 1 if maps.dim() > 3 and maps.shape[1] == width else -1


def style(maps: Tensor, axis: int = 1) -> Style:
    """Measure each row's channels, on ``axis``, over their places: means and deviations.

    The deviation is the root of the variance, by the number of places, and a little. Source: AdaIN,
    Huang and Belongie, 2017; released code often divides by one place fewer.

    >>> mean, deviation = style(torch.tensor([[[[1.0, 3.0]]]]))
    >>> mean.item(), round(deviation.item(), 4)
    (2.0, 1.0)
    """
    places = [one for one in range(1, maps.dim()) if one != axis % maps.dim()]
    mean = maps.mean(places, keepdim=True)
    return mean, (maps.var(places, correction=0, keepdim=True) + FLOOR).sqrt()


def restyle(maps: Tensor, own: Style, new: Style) -> Tensor:
    """Take a style from maps (N, ...) and put another on. Source: AdaIN, Huang and Belongie, 2017.

    >>> maps = torch.tensor([[[[1.0, 3.0]]]])
    >>> restyle(maps, style(maps), (torch.tensor(0.0), torch.tensor(5.0))).round(decimals=3)
    tensor([[[[-5.,  5.]]]])
    """
    return (maps - own[0]) / own[1] * new[1] + new[0]


def mixed_style(own: Style, other: Style, share: Tensor) -> Style:
    """Give ``share`` (N,) of each row's own style and the rest of another.

    >>> one, two = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 3.0)
    >>> [part.item() for part in mixed_style((one, one), (two, two), torch.tensor([0.5]))]
    [2.0, 2.0]
    """
    part = share.to(own[0]).view(-1, *[1] * (own[0].dim() - 1))
    return other[0].lerp(own[0], part), other[1].lerp(own[1], part)


def crossed(partners: Callable[[], Tensor], width: int, maps: Tensor) -> Tensor:
    """Give maps of ``width`` channels in the styles of other rows, as `drawn_partners` draws them.

    Rows are those of all processes; gradients go through the styles. Source: CrossNorm, Tang et
    al., 2021.

    >>> maps = torch.randn(2, 3, 4, 4)
    >>> new = crossed(lambda: torch.tensor([1, 0]), 3, maps)
    >>> torch.allclose(style(new)[0], style(maps)[0].flip(0), atol=1e-5)
    True
    """
    own, partner = style(maps, channel_axis(maps, width)), partners()
    return restyle(maps, own, (join(own[0])[partner], join(own[1])[partner]))


def parted(maps: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Part maps of ``width`` channels into what instance normalisation leaves, and the rest: a sum.

    >>> content, rest = parted(torch.tensor([[[[1.0, 5.0]]]]), 1)
    >>> content.round(decimals=3).flatten().tolist(), (content + rest).flatten().tolist()
    ([-1.0, 1.0], [1.0, 5.0])
    """
    mean, deviation = style(maps, channel_axis(maps, width))
    content = (maps - mean) / deviation
    return content, maps - content


def content_apart(one: Tensor, other: Tensor, width: int, slack: float) -> Tensor:
    """Say how far apart the contents of maps are: the mean over rows and places.

    It is what one minus the cosine of a place's channels, once they are `parted`, is above
    ``slack``.

    >>> maps = torch.randn(2, 3, 4, 4)
    >>> content_apart(maps, 2 * maps + 1, 3, slack=0.01).item()
    0.0
    """
    axis = channel_axis(one, width)
    first, second = (parted(maps, width)[0] for maps in (one, other))
    return (1 - F.cosine_similarity(first, second, dim=axis) - slack).relu().mean()


def flat_style(maps: Tensor, axis: int = 1) -> Tensor:
    """Measure the styles of maps as rows: means, then deviations, (N, 2, C).

    >>> flat_style(torch.ones(5, 3, 2, 2)).shape
    torch.Size([5, 2, 3])
    """
    return torch.stack([one.flatten(1) for one in style(maps, axis)], 1)


def style_shares(rows: int, columns: int) -> Tensor:
    """Draw the shares of S styles in new ones from Dirichlet(1/S, ..., 1/S).

    >>> style_shares(2, 3).sum(1).round(decimals=4)
    tensor([1., 1.])
    """
    even = torch.full((columns,), 1 / columns)
    return torch.distributions.Dirichlet(even).sample((rows,))


class ClassStyles(nn.Module):
    """Styles of each class that lie far apart, and new ones made of them; zero before any is known.

    ``known`` is (K, S, 2, C). Source: the categorical style assembly of IADG, Zhou et al., 2023.

    >>> styles = ClassStyles(classes=2, count=3, width=4)
    >>> styles.choose(torch.tensor([1, 1]), torch.ones(2, 2, 4))
    >>> styles.known.sum((1, 2, 3)).tolist()
    [0.0, 24.0]
    """

    known: Tensor

    def __init__(self, classes: int, count: int, width: int) -> None:
        super().__init__()
        self.register_buffer("known", torch.zeros(classes, count, 2, width))

    @torch.no_grad()
    def choose(self, y: Tensor, styles: Tensor) -> None:
        """Choose among the styles (N, 2, C) of rows of classes (N,), of all processes."""
        y, styles = gather(y), gather(styles)
        for number, known in enumerate(self.known):
            if len(own := styles[y == number]):
                known.copy_(own[farthest_rows(own, len(known))])

    def put_on(self, y: Tensor, shares: Tensor, maps: Tensor) -> Tensor:
        """Give maps (N, C, h, w) of classes (N,) in styles made by ``shares`` (N, S) of these."""
        new = torch.einsum("ns,nsic->inc", shares.to(maps), self.known[y].to(maps))
        mean, deviation = new[..., None, None]
        return restyle(maps, style(maps.detach()), (mean, deviation))

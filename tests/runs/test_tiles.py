"""Tiles of an image too large for a network: which windows, and what comes of them."""

from __future__ import annotations

import pytest
import torch
from scenes import NAMES
from torch import nn

from adaptune.commands.devices import fabric_on
from adaptune.networks.network import Network, WholeImage
from adaptune.ops.windows import Tiles, cover_axis
from adaptune.runs.masks import MaskMaker


@pytest.mark.parametrize(("size", "tile", "overlap"), [(200, 96, 20), (97, 96, 0), (64, 10, 9)])
def test_windows_cover_an_axis_once_and_answer_from_their_middles(size, tile, overlap):
    found = list(cover_axis(size, tile, overlap))
    assert [place for _, (a, b) in found for place in range(a, b)] == list(range(size))
    for (start, end), (a, b) in found:
        assert end - start == tile
        assert a == 0 or a - start >= overlap // 2
        assert b == size or end - b >= overlap // 2


class Near(nn.Module):
    """A network whose answer to a pixel knows those within four of it, and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2)
        )
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.look(x))


def test_tiles_give_what_the_whole_image_does_where_no_more_than_half_the_overlap_counts():
    torch.manual_seed(0)
    look = WholeImage(size=96)
    net = Network.from_module(Near(), head="head", classes=NAMES, preprocess=look).eval()
    image = torch.randint(256, (3, 200, 150), generator=torch.Generator().manual_seed(1))
    image, fabric = image.to(torch.uint8), fabric_on("cpu")
    x = MaskMaker(net, fabric).reader.normalize(image)[None]
    whole = net(x).argmax(1)[0].to(torch.uint8)
    tiled = MaskMaker(net, fabric, Tiles(96, 8))(image)
    assert torch.equal(tiled, whole)
    seams = MaskMaker(net, fabric, Tiles(96))(image)
    assert not torch.equal(seams, whole), "without overlap, seams show"
    assert MaskMaker(net, fabric)(image).shape == (200, 150)
    with pytest.raises(ValueError, match="--overlap must be from 0 to below --tile"):
        Tiles(32, 32)

"""Masks are compared as they lie on disk: outputs come to the image's own size, whole or tiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import NAMES, draw_scenes
from torch import nn
from torch.utils.data import Dataset

from adaptune.data import Loading, from_datasets
from adaptune.data.opening import other_domains
from adaptune.engine.evaluate import evaluate
from adaptune.metrics.places import PlaceTally, ranked_rows
from adaptune.networks.network import Network, WholeImage
from adaptune.ops.places import BEYOND, best_classes, on_grid
from adaptune.ops.windows import WHOLE, Tiles, bands
from adaptune.runs.masks import MaskMaker
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Outputs

SIZES = ((60, 90), (48, 48), (31, 70), (48, 48), (97, 40))
TILES = (WHOLE, Tiles(40, 8), Tiles(32, 0))
LOOK = WholeImage(size=32)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Scenes of several sizes, whose masks are of their images' own."""
    folder = draw_scenes(tmp_path_factory.mktemp("own") / "city", len(SIZES))
    for number, (width, height) in enumerate(SIZES):
        for part in ("images", "masks"):
            file = folder / part / f"{number:03}.png"
            with Image.open(file) as opened:
                opened.resize((width, height), Image.Resampling.NEAREST).save(file)
    return folder


@pytest.fixture(scope="module")
def net() -> Network:
    """A random network whose answers lie four pixels apart."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 7, stride=4, padding=3), nn.Tanh(), nn.Conv2d(8, 3, 1))
    net = Network.from_module(module, head="2", classes=NAMES, preprocess=LOOK)
    nn.init.normal_(net.head.weight, std=3)
    return net.eval()


def evaluated(net: Network, scenes: Path, tiles: Tiles, **loading):
    data = other_domains(
        {"city": scenes}, classes=NAMES, labels="mask", loading=Loading(**loading)
    ).with_input(LOOK, tiles=tiles)
    task = Segmentation(3, tile=tiles.side, overlap=tiles.overlap)
    return evaluate(net, data.tests()["city"], task)


@pytest.mark.parametrize("tiles", TILES)
def test_scores_are_those_of_the_masks_that_predict_writes(net, scenes, tiles):
    from lightning_fabric import Fabric

    maker, wanted = MaskMaker(net, Fabric(accelerator="cpu", devices=1), tiles), np.zeros((3, 3))
    for number in range(len(SIZES)):
        guess = maker.read(scenes / "images" / f"{number:03}.png").numpy()
        truth = np.asarray(Image.open(scenes / "masks" / f"{number:03}.png"))
        np.add.at(wanted, (truth[truth < 3], guess[truth < 3]), 1)
    found = evaluated(net, scenes, tiles, batch_size=2)
    assert np.array(found.scores.detail["confusion"]).tolist() == wanted.tolist()
    assert len({*np.unique(np.argmax(wanted, 1))}) > 1
    asked = sum(w * h for w, h in SIZES)
    assert wanted.sum() + found.scores.detail["unasked"] == asked


@pytest.mark.parametrize("tiles", TILES[:2])
@pytest.mark.parametrize("loading", [{"batch_size": 1}, {"batch_size": 5}, {"workers": 2}])
def test_batches_and_workers_change_nothing(net, scenes, tiles, loading):
    one = evaluated(net, scenes, tiles, batch_size=3)
    other = evaluated(net, scenes, tiles, **loading)
    same = pytest.approx(one.scores.loss, rel=1e-6)
    assert other.scores.loss == same
    assert other.scores.detail["confusion"] == one.scores.detail["confusion"]
    assert other.scores.detail["boundary_f1"] == one.scores.detail["boundary_f1"]
    assert torch.allclose(one.sample.features, other.sample.features, atol=1e-5)
    assert one.sample.features.shape == (5, 8, 8)


def test_the_loss_is_the_tasks_own_at_the_size_of_each_mask(net, scenes):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 6, generator=random, dtype=torch.float64).float()
    y = torch.randint(4, (2, 20, 30), generator=random).to(torch.uint8)
    filled = torch.full((2, 24, 33), BEYOND, dtype=torch.uint8)
    filled[:, :20, :30] = y
    wanted = Segmentation(3).losses(logits.double(), y)
    tallies = []
    for labels in (y, filled):
        tally = PlaceTally(3)
        tally.add(Outputs(logits, labels, logits, torch.arange(2)))
        tallies.append(tally)
        assert torch.allclose(tally.losses.values().double(), wanted, atol=1e-6)
    assert tallies[0].scores() == tallies[1].scores()


@pytest.mark.parametrize("size", [(24, 40), (20, 33), (5, 6), (3, 6)])
def test_bands_are_the_whole_output_on_its_own_grid(monkeypatch, size):
    monkeypatch.setattr("adaptune.ops.windows.AT_ONCE", 4 * 7 * size[1])  # seven rows at a time
    output = torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    found = torch.full((4, *size), torch.nan)
    for rows, columns, one in bands(output[0], size, WHOLE):
        found[:, rows, columns] = one
        assert one.shape[1] <= 7
    assert torch.allclose(found, on_grid(output, size)[0], atol=1e-6)


def test_the_best_class_of_equals_is_the_first():
    logits = torch.randint(3, (7, 50, 40), generator=torch.Generator().manual_seed(2)).float()
    best, kind = best_classes(logits)
    assert torch.equal(kind.long(), logits.argmax(0))
    assert torch.equal(best, logits.amax(0))


def test_images_are_ranked_by_their_own_overlap_once_each():
    met = np.array([50, 90, 10, 70, 30, 0, 100])
    counts = np.stack([met, np.full(7, 100), np.full(7, 100)], 1)[:, None]
    counts[5] = 0  # it asks nothing
    found = ranked_rows(counts, range(10, 17))
    assert [row for row, _ in found["worst"]] == [12, 14, 10]
    assert [row for row, _ in found["median"]] == [13, 11, 16]
    assert found["worst"][0][1] == pytest.approx(100 * 10 / 190)


class Pairs(Dataset):
    """Images in memory with masks of several sizes."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int):
        size = (20 + row, 30 - row)
        return torch.full((3, *size), 40 * row, dtype=torch.uint8), torch.zeros(size).long()


def test_masks_in_memory_are_tested_at_their_own_size_too(net):
    data = from_datasets(Pairs(), Pairs(), Pairs(), classes=NAMES, labels="mask")
    for tiles, sides in ((WHOLE, 4), (Tiles(16, 4), 5)):
        rows = data.with_input(LOOK, tiles=tiles).tests()["id"]
        task = Segmentation(3, tile=tiles.side, overlap=tiles.overlap)
        seen = evaluate(net, rows, task).scores.detail
        assert np.sum(seen["confusion"]) == sum((20 + row) * (30 - row) for row in range(4))
        batch = next(iter(data.with_input(LOOK, tiles=tiles).tests()["id"]))
        assert batch.x.dim() == sides


def test_a_tile_that_is_none_is_refused():
    with pytest.raises(ValueError, match="--overlap must be from 0 to below --tile, 32: got 64"):
        Segmentation(3, tile=32)

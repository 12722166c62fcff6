"""Masks are decoded once where decoded images are kept, and lie in tars as they do in folders."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import draw_scenes

from adaptune.data import Loading, Shares, open_domains
from adaptune.data.cache import store_of
from adaptune.data.labels.masks import MaskLabels
from adaptune.data.readers.mask_tars import read_mask_tars
from adaptune.networks.network import WholeImage
from adaptune.types import Needs

LOOK = WholeImage(size=24)
SOME = Shares(0.2, 0.2)


@pytest.fixture
def city(tmp_path, monkeypatch) -> Path:
    """Scenes, and a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store_of.cache_clear()
    yield draw_scenes(tmp_path / "city", 10)
    store_of.cache_clear()


@pytest.fixture
def decoded(monkeypatch) -> Counter:
    """Count how often each mask is decoded in this process."""
    often, plain = Counter(), MaskLabels._numbers

    def counted(self, file, part=None):
        often[file.name] += 1
        return plain(self, file, part)

    monkeypatch.setattr(MaskLabels, "_numbers", counted)
    return often


def everything(folder, augment="crop", **loading) -> list[torch.Tensor]:
    """Read two epochs and all sets."""
    data = open_domains(
        folder,
        labels="mask",
        classes=["a", "b", "c"],
        shares=SOME,
        loading=Loading(batch_size=3, **loading),
    ).with_input(LOOK, augment)
    batches = [batch.labeled for epoch in (1, 2) for batch in data.batches(Needs(), epoch)]
    batches += [*data.scan("train"), *data.scan("val"), *data.tests()["id"]]
    return [part for batch in batches for part in (batch.x, batch.y, batch.index)]


def same(one, other) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("augment", ["none", "crop"])
def test_a_mask_is_decoded_once_and_stays_what_it_is(city, decoded, kind, augment):
    plain = everything(city, augment)
    decoded.clear()
    for _ in range(2):
        assert same(everything(city, augment, cache=kind), plain)
    assert set(decoded.values()) == {1}
    assert len(decoded) == 10


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_give_what_none_do_and_hand_masks_over(city, decoded, workers):
    plain = everything(city)
    assert same(everything(city, workers=workers, cache="ram"), plain)
    decoded.clear()
    assert same(everything(city, cache="ram"), plain)
    assert not decoded


def test_another_mask_image_or_table_is_another_label(city, tmp_path, decoded):
    first = everything(city, cache="disk")
    mask = sorted((city / "masks").iterdir())[0]
    Image.fromarray(2 - np.asarray(Image.open(mask)).clip(0, 2)).save(mask)
    changed = everything(city, cache="disk")
    assert not same(first, changed)
    assert same(changed, everything(city))
    image = sorted((city / "images").iterdir())[1]
    Image.new("RGB", (9, 9)).save(image)
    assert sum(map(len, everything(city, cache="disk"))) < sum(map(len, changed))


def in_tar(city: Path, file: Path, mark: str, kind: str = "png", split: slice = slice(None)):
    """Put scenes into a tar, masks under a mark."""
    with tarfile.open(file, "w") as tar:
        for image in sorted((city / "images").iterdir())[split]:
            buffer = io.BytesIO()
            Image.open(image).save(buffer, {"png": "PNG", "webp": "WEBP"}[kind], lossless=True)
            mask = (city / "masks" / image.name).read_bytes()
            for name, content in (
                (f"{image.stem}.{kind}", buffer.getvalue()),
                (f"{image.stem}.{mark}", mask),
                (f"{image.stem}.json", b"{}"),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("mark", "kind"), [("mask.png", "png"), ("seg.png", "png"), ("png", "webp")]
)
def test_masks_in_tars_are_those_of_folders(city, tmp_path, mark, kind):
    shards = tmp_path / "shards"
    shards.mkdir()
    in_tar(city, shards / "a-0.tar", mark, kind, slice(0, None, 2))
    in_tar(city, shards / "a-1.tar", mark, kind, slice(1, None, 2))
    found, wanted = (
        open_domains(one, labels="mask", classes=["a", "b", "c"], shares=SOME)
        for one in (shards, city)
    )
    for split, rows in wanted.sets.items():
        own = {path.stem: row for row, path in enumerate(found.sets[split].paths)}
        assert len(own) == len(rows)
        for row, path in enumerate(rows.paths):
            x, y, _ = found.sets[split][own[path.stem], 0]
            assert torch.equal(x, rows[row, 0][0])
            assert torch.equal(y, rows[row, 0][1])


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_masks_in_tars_are_kept_too(city, tmp_path, decoded, kind):
    in_tar(city, tmp_path / "scenes.tar", "mask.png")
    plain = everything(tmp_path / "scenes.tar")
    decoded.clear()
    for _ in range(2):
        assert same(everything(tmp_path / "scenes.tar", cache=kind), plain)
    assert set(decoded.values()) == {1}


def test_a_shard_may_say_its_split_and_what_is_no_pair_is_named(city, tmp_path):
    for split in ("train", "val", "test"):
        in_tar(city, tmp_path / f"{split}-0.tar", "mask.png")
    with tarfile.open(tmp_path / "train-1.tar", "w") as tar:
        for name in ("x.png", "y.mask.png", "z.png", "z.b.png", "z.mask.png"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    found = read_mask_tars(tmp_path, "shards")
    assert {split: len(found.of(split)) for split in ("train", "val", "test")} == {
        "train": 11,
        "val": 10,
        "test": 10,
    }
    assert [one.path.name for one in found.examples if not one.label] == ["x.png"]
    assert "masks without an image passed over: " in found.notes[1]
    assert "several images or masks passed over: " in found.notes[0]

"""The Earth in tiles: cut once, split by longitude, each tile with its mask."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from PIL import Image

from adaptune.data import Loading
from benchmarks.sources import earth


@pytest.fixture
def maps(tmp_path, monkeypatch):
    """Small maps whose grey is the class, in the package's own files."""
    monkeypatch.setattr(earth, "SIDE", 8)
    monkeypatch.setattr(earth, "COLUMNS", 10)
    monkeypatch.setattr(earth, "ROWS", 5)
    mask = np.random.default_rng(0).integers(0, 3, (5, 10)).astype(np.uint8)
    mask = mask.repeat(8, 0).repeat(8, 1)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / earth.MASK).write_bytes(gzip.compress(mask[::-1].tobytes()))
    for file in earth.MAPS.values():
        Image.fromarray(100 * mask).save(tmp_path / "maps" / file, quality=95)
    return tmp_path / "maps"


def test_every_map_is_cut_into_tiles_that_are_split_by_longitude(maps, tmp_path):
    openers = earth.open_source(maps, tmp_path / "work")
    assert list(openers) == list(earth.MAPS)
    data = openers["photo"](Loading())
    assert data.classes == earth.CLASSES
    assert {split: len(rows) for split, rows in data.sets.items()} == {
        "train": 30,
        "val": 5,
        "test": 15,
    }
    assert {name: len(rows) for name, rows in data.ood.items()} == {"topographic": 15, "relief": 15}
    assert {int(path.stem[:2]) for path in data.sets["test"].paths} == {7, 8, 9}
    for rows in (*data.sets.values(), *data.ood.values()):
        x, y, _ = rows[0, 0]
        assert y.unique().numel() == 1, "a tile is of one class here"
    written = tmp_path / "work" / "earth" / "relief" / "images" / "test" / "09-04.png"
    when = written.stat().st_mtime_ns
    earth.open_source(maps, tmp_path / "work")
    assert written.stat().st_mtime_ns == when


def test_what_is_missing_is_named(maps, tmp_path):
    (maps / "bmng.jpg").unlink()
    with pytest.raises(ValueError, match="lacks bmng.jpg"):
        earth.open_source(maps, tmp_path / "work")

"""Scenes that are pasted: exact masks, things and grounds that are split."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from adaptune.data import Loading
from benchmarks.sources import pasted


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Squares of one colour a class, of a few names, in every style."""
    monkeypatch.setattr(
        pasted, "SPLITS", {"train": (3, 0, 0.6), "val": (1, 0.6, 0.75), "test": (2, 0.75, 1)}
    )

    def files(name, work):
        for number, label in enumerate(pasted.THINGS):
            own = []
            for at in range(20):
                page = Image.new("RGBA", (40, 40))
                page.paste((40 * number, 0, 255, 255), (5, 5, 35, 35))
                file = tmp_path / name / label / f"{label} {at}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                page.save(file)
                own.append(file)
            yield label, own

    monkeypatch.setattr(pasted, "_files", files)


def test_every_style_is_a_domain_whose_scenes_are_tested_on_other_things(packaged, tmp_path):
    openers = pasted.open_source(None, tmp_path / "work")
    assert list(openers) == ["photos", "clip-art", "twemoji", "openmoji"]
    data = openers["photos"](Loading())
    assert data.classes == pasted.CLASSES
    assert {split: len(rows) for split, rows in data.sets.items()} == {
        "train": 3,
        "val": 1,
        "test": 2,
    }
    assert {name: len(rows) for name, rows in data.ood.items()} == {
        "clip-art": 2,
        "twemoji": 2,
        "openmoji": 2,
    }


def test_a_mask_says_which_thing_is_seen_where():
    thing = Image.new("RGBA", (30, 30), (0, 0, 255, 255))
    faint = Image.new("RGBA", (30, 30), (0, 0, 255, 100))
    ground = np.full((200, 200, 3), 255, np.uint8)
    for cut, there in ((thing, True), (faint, False)):
        image, mask = pasted.scene({"bird": [cut]}, [ground], random.Random(0))
        blue = np.asarray(image)[..., 0] == 0
        labelled = np.asarray(mask) == pasted.CLASSES.index("bird")
        assert labelled.any() == there
        assert (blue == labelled).all() or not there


def test_scenes_are_the_same_again(packaged, tmp_path):
    one, other = (pasted.written("photos", tmp_path / name) for name in ("a", "b"))
    for file in one.rglob("*.png"):
        assert file.read_bytes() == (other / file.relative_to(one)).read_bytes()

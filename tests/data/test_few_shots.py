"""A few images of each class to train on: nested, by seed, validation and tests as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains


@pytest.fixture
def photos(tmp_path) -> Path:
    for name, count in (("cat", 30), ("dog", 30), ("owl", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (4, 4)).save(tmp_path / name / f"{name}{number}.png")
    return tmp_path


def files(data, split: str) -> set[str]:
    return {path.name for path in data.sets[split].paths}


def opened(place: Path, shots: int | None, seed: int = 0):
    return open_domains(place, shares=Shares(0.2, 0.2, shots=shots, shots_seed=seed))


def test_shots_are_nested_drawn_by_seed_and_touch_training_alone(photos):
    whole, one, three, other = (opened(photos, *how) for how in ((None,), (1,), (3,), (3, 1)))
    assert files(one, "train") < files(three, "train") < files(whole, "train")
    assert files(other, "train") != files(three, "train")
    for split in ("val", "test"):
        assert files(one, split) == files(whole, split)
    for name in ("cat", "dog"):
        assert sum(file.startswith(name) for file in files(three, "train")) == 3
    assert len(three.augmented) == len(three.sets["train"])
    assert any("at most 3 a class" in note for note in three.notes)


def test_other_domains_are_tested_alike_whatever_is_trained_on(photos):
    def tested(shots: int | None) -> int:
        shares = Shares(0.2, 0.2, shots=shots)
        return len(open_domains(photos, {"same": photos}, shares=shares).ood["same"])

    assert tested(1) == tested(None)


def test_no_shots_and_shots_of_masks_are_refused(photos):
    with pytest.raises(ValueError, match="--shots must be at least 1"):
        Shares(shots=0)
    with pytest.raises(ValueError, match="--shots counts images of a class, and labels are values"):
        open_domains(photos, shares=Shares(shots=1), labels="value", classes=["angle"])

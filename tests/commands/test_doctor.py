"""`doctor` names what is wrong with data and batch norms, and is silent otherwise."""

import json
from shutil import copytree

import pytest


@pytest.fixture
def seen(told):
    def see(*words) -> tuple[dict, str]:
        code, out, error = told("doctor", *words, "--json")
        assert code == 0, error
        return json.loads(out), error

    return see


def test_a_bad_file_a_tiny_class_and_an_unmapped_class_are_named(
    own_photos, sketches, tmp_path, seen
):
    bad = own_photos / "dots" / "dots-05.png"
    bad.write_bytes(bad.read_bytes()[:50])
    for number in range(4, 20):
        (own_photos / "rings" / f"rings-{number:02}.png").unlink()
    copytree(sketches / "dots", tmp_path / "drawn" / "dots")
    copytree(sketches / "dots", tmp_path / "drawn" / "Emus")
    found, said = seen(own_photos, "--ood", f"drawn={tmp_path / 'drawn'}")
    assert list(found["problems"]) == [str(bad)]
    assert f"cannot be read: {bad}: " in said
    for words in ("fewer than 5 training images: rings", "Emus (20)", "has no image of rings"):
        assert words in " ".join(found["findings"])
        assert words in said


def test_images_are_counted_by_class_and_split(photos, sketches, seen):
    found, _ = seen(photos, f"--ood=sketch={sketches}")
    counts = found["counts"]
    assert set(counts) == {"train", "val", "test", "sketch"}
    own = (counts["train"], counts["val"], counts["test"])
    assert sum(split.get("dots", 0) for split in own) == 20
    assert counts["sketch"] == counts["test"]


def test_healthy_data_have_no_findings(photos, seen):
    found, said = seen(photos)
    assert found["findings"] == []
    assert found["problems"] == {}
    assert "nothing wrong found" in said


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_without_images_is_a_finding(photos, seen, split):
    found, _ = seen(photos, f"--{split}-share=0")
    assert any(f"no images for {split}" in finding for finding in found["findings"])


def test_uneven_classes_are_a_finding(own_photos, seen):
    for pattern in ("dots", "rings"):
        for number in range(20):
            raw = (own_photos / pattern / f"{pattern}-{number:02}.png").read_bytes()
            for copy in range(6 if pattern == "dots" else 0):
                (own_photos / pattern / f"{pattern}-{number:02}-{copy}.png").write_bytes(raw)
            if pattern == "rings" and number > 4:
                (own_photos / pattern / f"{pattern}-{number:02}.png").unlink()
    found, _ = seen(own_photos)
    assert any("classes are uneven" in finding for finding in found["findings"])


def test_batch_norms_are_measured_on_demand(photos, tiny, seen):
    found, _ = seen(photos, *tiny)
    layers = found["conversion"]["layers"]
    assert len(layers) == len(found["conversion"]["states"]) > 0


def test_a_network_without_batch_norms_is_told_so(photos, seen):
    words = ["--backbone=test_vit", "--weights=none", "--image-size=160", "--batch-size=64"]
    found, _ = seen(photos, *words)
    assert any("no batch norm (it has LayerNorm" in finding for finding in found["findings"])


def test_broken_training_images_are_named_also_where_no_batch_norm_makes_a_scan(own_photos, seen):
    broken = sorted((own_photos / "dots").iterdir())
    for path in broken:
        path.write_bytes(b"no image")
    words = ["--backbone=test_vit", "--weights=none", "--image-size=160", "--batch-size=64"]
    found, _ = seen(own_photos, *words)
    assert sorted(found["problems"]) == [str(path) for path in broken]

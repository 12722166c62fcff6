"""`doctor` names what is wrong with data and batch norms, and is silent otherwise."""

import json
import os
from shutil import copy2, copytree, rmtree

import pytest
import torch

from adaptune.data.inputs.image import DAMAGED, EMPTY, FOREIGN, MISSING, SPECIAL


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


def test_domain_shift_is_measured_where_there_are_domains_and_a_network(
    photos, sketches, tiny, seen
):
    found, said = seen(photos, f"--ood=sketch={sketches}", *tiny)
    shift = found["shift"]
    names = ["train", "val", "sketch"]
    assert list(shift["icv"]) == list(shift["idd"]) == names
    for one in names:
        assert shift["icv"][one] > 0
        assert shift["idd"][one][one] == 0
        assert shift["idd"][one]["sketch"] == shift["idd"]["sketch"][one]
    assert "IDD to sketch" in said
    assert "shift" not in seen(photos, *tiny)[0]


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


def test_images_in_several_sets_or_classes_are_named(own_photos, sketches, tmp_path, seen):
    for split in ("train", "val", "test"):
        copytree(own_photos, tmp_path / "split" / split)
    for split, kept in (("train", "012345678"), ("val", "9"), ("test", "0")):
        for path in (tmp_path / "split" / split).glob("*/*.png"):
            if path.stem[-1] not in kept or (split == "test" and "rings" not in path.stem):
                path.unlink()
    root = tmp_path / "split"
    (root / "test/dots").mkdir(exist_ok=True)
    copy2(root / "train/dots/dots-01.png", root / "train/rings/dots-again.png")
    copy2(root / "val/dots/dots-09.png", root / "test/dots/renamed.png")
    found, said = seen(root)
    assert sorted(found["duplicates"]) == [
        [f"{root}/train/dots/dots-01.png", f"{root}/train/rings/dots-again.png"],
        [f"{root}/train/rings/rings-00.png", f"{root}/test/rings/rings-00.png"],
        [f"{root}/train/rings/rings-10.png", f"{root}/test/rings/rings-10.png"],
        [f"{root}/val/dots/dots-09.png", f"{root}/test/dots/renamed.png"],
    ]
    for words in (
        "3 images are in more than one of the sets, which makes scores too high: ",
        f"{root}/val/dots/dots-09.png (val) = {root}/test/dots/renamed.png (test)",
        "1 images are in more than one class: "
        f"{root}/train/dots/dots-01.png (dots) = {root}/train/rings/dots-again.png (rings)",
    ):
        assert words in said


def test_an_image_of_training_that_another_domain_has_too_is_named(own_photos, tmp_path, seen):
    own, other = own_photos / "dots/dots-00.png", tmp_path / "drawn/dots/other name.png"
    other.parent.mkdir(parents=True)
    copy2(own, other)
    found, _ = seen(own_photos, "--ood", f"drawn={tmp_path / 'drawn'}")
    assert found["duplicates"] == [[str(own), str(other)]]
    assert any(f"= {other} (drawn): keep each in one" in finding for finding in found["findings"])


def test_a_class_none_of_whose_images_can_be_read_is_named(own_photos, seen):
    for path in (own_photos / "rings").iterdir():
        path.write_bytes(b"none")
    found, said = seen(own_photos)
    assert "classes whose training images can none of them be read: rings (" in said
    assert "rings" not in found["counts"]["train"]
    assert len(found["problems"]) == 20


@pytest.fixture
def mess(own_photos, sketches, tmp_path):
    """Spoil data, other domains and weights in every way at once."""
    bad = own_photos / "dots"
    raw = (bad / "dots-00.png").read_bytes()
    (bad / "cut.png").write_bytes(raw[:-200])
    (bad / "empty.png").touch()
    (bad / "text.png").write_text("404")
    (bad / "link.png").symlink_to("gone.png")
    (bad / "loop").symlink_to(".")
    os.mkfifo(bad / "pipe.png")
    (own_photos / os.fsdecode(b"caf\xe9")).mkdir()
    one = own_photos / "single"
    one.mkdir()
    copy2(sketches / "dots/dots-03.png", one / "alone.png")
    copytree(sketches, tmp_path / "drawn")
    copytree(sketches / "dots", tmp_path / "drawn/emus")
    copytree(sketches / "dots", tmp_path / "other/Cassowaries")
    (tmp_path / "bad.csv").write_text("path,label\n1.png\n")
    torch.save({"args": torch.nn.Identity()}, tmp_path / "w.pth")
    return own_photos


def test_all_that_is_wrong_is_named_at_once_and_nothing_dies_on_the_first(mess, tmp_path, told):
    others = {"drawn": "drawn", "other": "other", "bad": "bad.csv", "gone": "gone"}
    words = [f"--ood={name}={tmp_path / place}" for name, place in others.items()]
    code, out, error = told("doctor", mess, *words, "--weights", tmp_path / "w.pth", "--json")
    assert code == 1
    found = json.loads(out)
    dots = mess / "dots"
    assert found["problems"] == {
        f"{dots}/cut.png": DAMAGED,
        f"{dots}/empty.png": EMPTY,
        f"{dots}/link.png": MISSING,
        f"{dots}/pipe.png": SPECIAL,
        f"{dots}/text.png": FOREIGN,
    }
    assert "photo: class folders without images: caf\\udce9" in found["findings"]
    assert (
        f"photo: passed over with all that is in it: {dots}/loop (a link to a folder)"
        in found["findings"]
    )
    findings = " ".join(found["findings"])
    for said in ("single (1)", "classes that the training data lacks were left out: emus (20)"):
        assert said in findings
    errors = [
        f"{tmp_path}/bad.csv, line 2: has 1 values where the header has 2: quote values with "
        "commas",
        f"no folder at {tmp_path}/gone: expected one with a folder for each class",
        "no image of other can be tested: its classes (Cassowaries, ...) do not match the training "
        "classes (caf\\udce9, dots, rings, single, stripes, ...), or all its files are in the "
        "training data",
        f"{tmp_path}/w.pth could not be read as weights: it holds objects that could run code, and "
        "none was run; save the state dict alone, with torch.save(net.state_dict(), FILE)",
    ]
    assert found["errors"] == errors
    assert f"adaptune doctor: {' also: '.join(errors)}" in error
    assert "Traceback" not in error


def test_weights_and_other_domains_are_looked_at_where_the_data_themselves_are_gone(tmp_path, told):
    code, _, error = told(
        "doctor",
        tmp_path / "gone",
        f"--ood=far={tmp_path / 'far'}",
        f"--weights={tmp_path / 'none.pth'}",
    )
    assert code == 1
    for name in ("gone", "far", "none.pth"):
        assert f"at {tmp_path / name}" in error


def test_strict_data_do_not_keep_the_rest_from_being_named(mess, told):
    code, out, error = told("doctor", mess, "--strict=true", "--json")
    assert code == 1
    assert json.loads(out)["counts"]["train"]
    assert "could not be read" in error


def one_class(photos):
    for name in ("rings", "stripes"):
        rmtree(photos / name)
    return [photos]


def nested(photos):
    outer = photos.parent / "outer"
    outer.mkdir()
    photos.rename(outer / "photos")
    return [outer]


def all_text(photos):
    for path in photos.glob("*/*.png"):
        path.write_text("404")
    return [photos]


def backslashes(photos):
    lines = [f"{p.parent.name}\\{p.name},{p.parent.name}\n" for p in photos.glob("*/*.png")]
    (photos / "table.csv").write_text("path,label\n" + "".join(lines))
    return [photos / "table.csv"]


def no_test(photos):
    return [photos, "--test-share=0"]


def no_val(photos):
    return [photos, "--val-share=0"]


def no_train(photos):
    (photos.parent / "split").mkdir()
    photos.rename(photos.parent / "split" / "test")
    return [photos.parent / "split"]


def other_text(photos):
    copytree(photos, photos.parent / "other")
    all_text(photos.parent / "other")
    return [photos, f"--ood=far={photos.parent / 'other'}", "--ood-images=all"]


def others_of_no_class(photos):
    copytree(photos / "dots", photos.parent / "other" / "emu")
    return [photos, f"--ood=far={photos.parent / 'other'}"]


def domain_called_test(photos):
    lines = [
        f"{path.relative_to(photos)},{path.parent.name},{domain}\n"
        for domain in ("own", "test")
        for path in photos.glob("*/*.png")
    ]
    (photos / "table.csv").write_text("path,label,domain\n" + "".join(lines))
    return [photos / "table.csv"]


REFUSED = {
    one_class: "images of two or more classes are needed to tell apart, and there is dots",
    nested: "there is photos, whose images lie in dots, rings, stripes: if these are the classes",
    all_text: "images could be read, the first of them being",
    backslashes: "its path has backslashes",
    no_test: "there are no test images",
    no_val: "there are no val images",
    no_train: "holds no training images",
    other_text: "none of the 60 far images could be read",
    others_of_no_class: "no image of far can be tested",
    domain_called_test: "no domain can be called 'test'",
}


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__)
def test_what_fit_would_refuse_doctor_refuses_in_the_same_words(
    own_photos, tmp_path, tiny, told, spoil
):
    words = spoil(own_photos)
    code, _, error = told("doctor", *words)
    assert code == 1
    assert REFUSED[spoil] in error
    code, _, said = told("fit", *words, *tiny, "--epochs=1", "--out", tmp_path / "run")
    assert code == 1
    assert said.partition("adaptune fit: ")[2] in error.partition("adaptune doctor: ")[2]
    assert REFUSED[spoil] in said


def test_domains_are_never_counted_as_the_datas_own_sets(photos, sketches, told):
    for name in ("train", "val", "test", "id"):
        code, out, error = told("doctor", photos, f"--ood={name}={sketches}", "--json")
        assert code == 1
        assert f"no domain can be called '{name}'" in error

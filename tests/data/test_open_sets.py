"""In an open set, images of other classes are tested, under one label more."""

import pytest
import torch

from adaptune.data.labels.classes import map_to
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains, other_domains
from adaptune.data.sources import read_source
from adaptune.networks.network import Preprocess

KNOWN = ("dots", "rings")


def labels(data, name):
    rows = data.with_input(Preprocess(size=16)).tests()[name]
    return torch.cat([batch.y for batch in rows])


@pytest.mark.parametrize("kind", ["target", "ood"])
def test_images_of_other_classes_are_tested_under_the_number_of_classes(sketches, kind):
    named = {"sketch": sketches} if kind == "ood" else {}
    target = sketches if kind == "target" else ""
    data = other_domains(named, classes=KNOWN, target=target, open_set=True)
    y = labels(data, "sketch")
    assert len(y) == len(list(sketches.glob("*/*")))
    for label, path in zip(y.tolist(), data.paths("sketch"), strict=True):
        assert label == (KNOWN.index(path.parent.name) if path.parent.name in KNOWN else 2)
    assert data.classes == KNOWN
    assert any("20 of 60 images to test are of classes that the training" in n for n in data.notes)
    assert any("unknown: stripes (20)" in note for note in data.notes)


def test_closed_sets_leave_them_out_as_ever(sketches):
    data = other_domains({"sketch": sketches}, classes=KNOWN)
    assert set(labels(data, "sketch").tolist()) == {0, 1}
    assert any("were left out: stripes (20)" in note for note in data.notes)


def test_training_validation_and_id_tests_have_known_images_alone(photos, sketches):
    data = open_domains(photos, classes=KNOWN, target=sketches, open_set=True)
    for split in ("train", "val", "test"):
        assert set(data.sets[split].labels) <= {0, 1}
    assert len(data.target) == 60


def test_subjects_that_were_trained_on_are_left_out_of_open_sets_too(photos, sketches):
    shares, found = Shares(ood_images="all"), {}
    for name, own in (("unseen", Shares()), ("all", shares)):
        data = open_domains(photos, {"s": sketches}, classes=KNOWN, shares=own, open_set=True)
        found[name] = labels(data, "s")
        trained = {p.stem for split in ("train", "val") for p in data.sets[split].paths}
        assert (name == "all") == bool(trained & {path.stem for path in data.paths("s")})
    unknown = {name: int((y == 2).sum()) for name, y in found.items()}
    assert unknown == {"unseen": 20, "all": 20}, "stripes are not trained on"


def test_an_open_set_without_unknown_images_says_so(sketches):
    classes = ("dots", "rings", "stripes")
    data = other_domains({"sketch": sketches}, classes=classes, open_set=True)
    assert any("0 of 60 images" in note and "unknown: none" in note for note in data.notes)


def test_classes_that_differ_in_case_are_known(sketches):
    (listing,) = read_source(sketches, "sketch")
    mapped = map_to(["DOTS", "rings"], listing, open_set=True)
    assert {example.label for example in mapped.examples} == {"DOTS", "rings", "unknown"}


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("dots", "unknown"), "a class is called 'unknown'"),
        (("dots",), "needs two classes to be unsure between, and there is dots"),
    ],
)
def test_classes_that_make_no_open_set_are_refused(sketches, classes, said):
    with pytest.raises(ValueError, match=said):
        other_domains({"sketch": sketches}, classes=classes, open_set=True)
    other_domains({"sketch": sketches}, classes=classes)


def test_a_class_called_unknown_is_a_class_as_others_where_the_set_is_closed(tmp_path, sketches):
    for name, own in (("unknown", "dots"), ("rings", "rings")):
        (tmp_path / "d" / name).mkdir(parents=True)
        for path in (sketches / own).iterdir():
            (tmp_path / "d" / name / path.name).symlink_to(path)
    data = other_domains({"d": tmp_path / "d"}, classes=("unknown", "rings"))
    assert set(labels(data, "d").tolist()) == {0, 1}

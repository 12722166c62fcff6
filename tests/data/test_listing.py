"""Splits go by subject, the same in every domain, on every machine; classes map by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from adaptune.data.labels.classes import map_to
from adaptune.data.listing import Example, Listing, Shares, split_by_subject, split_position


def listing(*examples: tuple[str, str, str | None], name: str = "photo") -> Listing:
    """Build a listing of (path, label, split)."""
    made = tuple(Example(Path(path), label, split) for path, label, split in examples)
    return Listing(name, made, tuple(sorted({example.label for example in made})))


def numbered(count: int, *, folder: str = "photo", end: str = "png", split=None) -> Listing:
    return listing(*((f"{folder}/{n}.{end}", "cat", split) for n in range(count)))


def shares_of(listing: Listing) -> dict[str, float]:
    count = len(listing.examples)
    return {split: len(listing.of(split)) / count for split in ("train", "val", "test")}


def splits(listing: Listing) -> dict[str, str | None]:
    return {example.path.stem: example.split for example in listing.examples}


@pytest.mark.parametrize(
    ("subject", "place"),
    [
        ("1f600", 0.18967408723675724),
        ("cat-001", 0.15023098744554378),
        ("straße", 0.4706921243061871),
    ],
)
def test_a_subject_has_the_same_place_on_every_machine_for_ever(subject, place):
    assert split_position(subject) == pytest.approx(place, abs=1e-15)


def test_the_same_subject_is_in_the_same_split_in_every_folder():
    photos = split_by_subject(numbered(500), Shares())
    sketches = split_by_subject(numbered(300, folder="elsewhere/sketch", end="JPEG"), Shares())
    assert splits(sketches).items() <= splits(photos).items()


def test_a_subject_is_its_stem_whatever_the_case():
    assert Example(Path("a/IMG_1.JPG"), "cat").subject == Example(Path("img_1.png"), "cat").subject


@pytest.mark.parametrize(("val", "test"), [(0.1, 0.2), (0.25, 0.5), (0.0, 0.3), (0.3, 0.0)])
def test_shares_are_about_those_that_were_asked_for(val, test):
    found = shares_of(split_by_subject(numbered(4000), Shares(val, test)))
    assert found == pytest.approx({"train": 1 - val - test, "val": val, "test": test}, abs=0.025)


def test_a_larger_test_share_only_adds_to_the_test_set():
    small = split_by_subject(numbered(500), Shares(0.1, 0.2)).of("test")
    large = split_by_subject(numbered(500), Shares(0.1, 0.4)).of("test")
    assert set(small) < set(large)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.2), (0.5, 0.5), (0.1, 1.0), (1.0, 0.0)])
def test_shares_that_leave_nothing_to_train_on_are_refused(val, test):
    with pytest.raises(ValueError, match="leave something to train on"):
        Shares(val, test)


def test_a_source_with_all_three_splits_keeps_them():
    given = listing(("1.png", "cat", "train"), ("2.png", "cat", "val"), ("3.png", "cat", "test"))
    assert split_by_subject(given, Shares(0.3, 0.3)) == given


def with_splits(**counts: int) -> Listing:
    rows = [(split, number) for split, count in counts.items() for number in range(count)]
    return listing(*((f"{split}/{split}{number}.png", "cat", split) for split, number in rows))


def test_train_and_val_alone_keep_val_for_testing_and_say_so():
    parts = split_by_subject(with_splits(train=2000, val=100), Shares(0.1, 0.2))
    assert {example.path.parent.name for example in parts.of("test")} == {"val"}
    assert len(parts.of("test")) == 100
    assert len(parts.of("val")) == pytest.approx(200, abs=50)
    assert "val/ is kept for testing" in " ".join(parts.notes)


def test_train_and_test_alone_divide_validation_off_train_and_say_so():
    parts = split_by_subject(with_splits(train=2000, test=100), Shares(0.1, 0.2))
    assert {example.path.parent.name for example in parts.of("test")} == {"test"}
    assert len(parts.of("test")) == 100
    assert len(parts.of("val")) == pytest.approx(200, abs=50)
    assert "divided off train/" in " ".join(parts.notes)


def test_train_alone_is_divided_in_three_and_says_so():
    parts = split_by_subject(with_splits(train=2000), Shares(0.1, 0.2))
    assert shares_of(parts) == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.03)
    assert "only train/" in " ".join(parts.notes)


def test_rows_without_a_split_never_join_a_test_set_that_is_given():
    given = with_splits(test=50)
    unsplit = numbered(500).examples
    parts = split_by_subject(replace(given, examples=given.examples + unsplit), Shares(0.1, 0.2))
    assert set(parts.of("test")) == set(given.examples)
    assert len(parts.of("val")) == pytest.approx(50, abs=20)


def test_classes_map_by_name_and_else_by_case_alone():
    other = listing(("1.png", "CAT", None), ("2.png", "dog", None), ("3.png", "Dog", None))
    mapped = map_to(["cat", "Dog", "dog"], other)
    assert [example.label for example in mapped.examples] == ["cat", "dog", "Dog"]


def test_images_of_unknown_and_of_missing_classes_are_reported():
    other = listing(("1.png", "emu", None), ("2.png", "emu", None), ("3.png", "cat", None))
    mapped = map_to(["cat", "dog"], other)
    assert [example.path.name for example in mapped.examples] == ["3.png"]
    said = " ".join(mapped.notes("sketch"))
    assert "emu (2)" in said
    assert "no image of dog" in said


def test_subjects_that_were_trained_on_are_left_out_and_counted():
    other = numbered(10, folder="sketch", end="jpg")
    mapped = map_to(["cat"], other, trained=numbered(4).examples)
    assert {example.subject for example in mapped.examples} == set("456789")
    assert "4 images left out" in " ".join(mapped.notes("sketch"))


@pytest.mark.parametrize(
    ("given", "taken"), [(("train", "val", "test"), "test"), (("train", "val"), "val")]
)
def test_another_domain_is_tested_on_its_own_held_out_images(given, taken):
    mapped = map_to(["cat"], with_splits(**dict.fromkeys(given, 3)))
    assert {example.path.parent.name for example in mapped.examples} == {taken}
    assert {example.split for example in mapped.examples} == {"test"}

"""Rows come as stored, changes are the rows' own, emoji share classes, digits their writers."""

import pickle
from difflib import SequenceMatcher

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from adaptune.data.domains import Loading
from adaptune.data.inputs.image import ImageInput, read_image
from adaptune.data.sample import Unreadable
from adaptune.networks.network import Preprocess
from adaptune.types import Needs
from benchmarks.sources import digits, emoji
from benchmarks.sources.rows import ArrayFile, Files, Joined, Pictures, Records

LOOK = Preprocess(size=8, crop=1.0)


@pytest.fixture
def stored(tmp_path) -> np.ndarray:
    """Five pictures, and three files that hold them."""
    pictures = np.random.default_rng(0).integers(0, 255, (5, 3, 6, 6), np.uint8)
    np.save(tmp_path / "array.npy", pictures.transpose(0, 2, 3, 1))
    labels = np.arange(5, dtype=np.uint8)[:, None]
    np.hstack([labels, pictures.reshape(5, -1)]).tofile(tmp_path / "rows.bin")
    pictures.transpose(0, 1, 3, 2).tofile(tmp_path / "columns.bin")
    return pictures


@pytest.mark.parametrize("kind", ["array", "rows", "columns", "joined"])
def test_pictures_are_read_as_they_were_stored(tmp_path, stored, kind):
    array = ArrayFile(tmp_path / "array.npy", 0, 5)
    pixels = {
        "array": array,
        "rows": Records(tmp_path / "rows.bin", side=6, skip=1),
        "columns": Records(tmp_path / "columns.bin", side=6, columns=True),
        "joined": Joined((ArrayFile(array.path, 0, 2), ArrayFile(array.path, 2, 5))),
    }[kind]
    assert len(pixels) == 5
    for row, expected in enumerate(stored):
        assert torch.equal(pixels[row], torch.from_numpy(expected))


def test_a_part_of_an_array_file_begins_at_its_own_row(tmp_path, stored):
    part = ArrayFile(tmp_path / "array.npy", 3, 5)
    assert len(part) == 2
    assert torch.equal(part[0], torch.from_numpy(stored[3]))


def test_objects_in_a_numpy_file_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"run": "me"}]), allow_pickle=True)
    row = Pictures(ArrayFile(tmp_path / "objects.npy", 0, 1), [0])[0, 0]
    assert isinstance(row, Unreadable)
    assert "Python objects" in row.reason


def grain(picture: torch.Tensor) -> torch.Tensor:
    return (picture + torch.randint(0, 50, picture.shape)).clamp(0, 255).to(torch.uint8)


@pytest.fixture
def grained(tmp_path, stored) -> Pictures:
    return Pictures(ArrayFile(tmp_path / "array.npy", 0, 5), [4, 3, 2, 1, 0], [1, 3], grain)


def test_labels_go_with_the_rows_that_were_chosen(grained, stored):
    assert len(grained) == 2
    assert [grained[row, 0][1:] for row in range(2)] == [(3, 0), (1, 1)]
    difference = grained.picture(1).int() - torch.from_numpy(stored[3]).int()
    assert 0 <= difference.min() <= difference.max() < 50


def test_a_change_is_the_rows_own_whatever_the_seed_and_leaves_other_random_numbers_alone(grained):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = grained[0, 5][0]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(grained[0, 6][0], first)
    assert torch.equal(pickle.loads(pickle.dumps(grained))[0, 5][0], first)
    same = Pictures(grained.pixels, [0] * 5, [1, 1], grain)
    assert torch.equal(same.picture(0), same.picture(1))


def test_the_same_pictures_can_be_seen_through_a_network_and_augmented(grained):
    seen = grained.through(ImageInput(LOOK, "crop"))
    assert isinstance(seen, Pictures)
    assert seen[0, 0][0].shape == (3, 8, 8)
    assert torch.equal(seen[0, 1][0], seen[0, 1][0])
    assert not torch.equal(seen[0, 1][0], seen[0, 2][0])
    assert grained[0, 0][0].shape == (3, 224, 224)


def test_files_keep_their_paths_and_a_broken_one_is_named(photos, tmp_path):
    paths = [*sorted(photos.glob("dots/*.png"))[:2], tmp_path / "gone.png"]
    rows = Pictures(Files(tuple(paths)), [0, 1, 2], [2, 1])
    assert rows.paths == [paths[2], paths[1]]
    assert torch.equal(rows.picture(1), read_image(paths[1]))
    assert rows[0, 0].path == str(paths[2])


@pytest.fixture
def vendors(tmp_path, monkeypatch, two_domains):
    """Stand in for the two drawn vendors; a folder with a third that lacks a class."""
    drawn = {"twemoji": two_domains / "photo", "openmoji": two_domains / "sketch"}
    monkeypatch.setattr(emoji, "build_demo", lambda folder: dict(drawn))
    for path in (two_domains / "photo").glob("*/*.png"):
        label = path.parent.name
        if label != "rings":
            (tmp_path / "more" / "third" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "more" / "third" / label / path.name).write_bytes(path.read_bytes())
    return tmp_path / "more"


def test_each_vendor_trains_in_turn_on_the_classes_that_all_have(vendors, tmp_path):
    openers = emoji.open_source(vendors, tmp_path)
    assert list(openers) == ["twemoji", "openmoji", "third"]
    for name, opener in openers.items():
        data = opener(Loading(batch_size=4))
        assert data.classes == ("dots", "stripes")
        assert set(data.ood) == set(openers) - {name}
        trained = {path.stem for part in ("train", "val") for path in data.sets[part].paths}
        for rows in (data.sets["test"], *data.ood.values()):
            assert {path.stem for path in rows.paths} == {p.stem for p in data.sets["test"].paths}
            assert not {path.stem for path in rows.paths} & trained


def test_without_a_folder_the_two_drawn_vendors_have_all_classes(vendors, tmp_path):
    openers = emoji.open_source(None, tmp_path)
    assert list(openers) == ["twemoji", "openmoji"]
    assert openers["openmoji"](Loading()).classes == ("dots", "rings", "stripes")


def test_a_folder_without_domains_or_with_a_taken_name_is_an_error(vendors, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no domains: expected a folder for each"):
        emoji.open_source(tmp_path / "empty", tmp_path)
    (vendors / "openmoji").mkdir()
    with pytest.raises(ValueError, match="openmoji in .* give the folder another name"):
        emoji.open_source(vendors, tmp_path)


@pytest.fixture(scope="module")
def numerals(tmp_path_factory):
    (opener,) = digits.open_source(None, tmp_path_factory.mktemp("work")).values()
    return opener(Loading(batch_size=16))


def test_digits_are_the_ones_of_scikit_learn_under_their_labels(numerals):
    pixels, labels = digits.digits()
    read = load_digits()
    assert labels == read.target.tolist()
    assert pixels.shape == (1797, 3, 32, 32)
    small = torch.nn.functional.avg_pool2d(pixels[:, 0].float(), 4) / 255 * 16
    assert np.corrcoef(small.flatten(), read.images.flatten())[0, 1] > 0.95
    for rows in (*numerals.sets.values(), *numerals.ood.values()):
        assert [labels[row] for row in rows.rows] == rows.labels


def test_every_form_repeats_the_same_text_with_a_few_digits_missing():
    text = "".join(map(str, load_digits().target))
    forms = [text[a:b] for a, b in zip(digits.FORMS, (*digits.FORMS[1:], 1797), strict=True)]
    whole = forms[0]
    assert len(whole) == 130
    assert all(122 <= len(form) <= 130 for form in forms)
    assert sum(form == whole for form in forms) >= 6
    for form in forms:
        assert form.startswith(("0123456789", "123456789"))
        assert SequenceMatcher(None, whole, form, autojunk=False).ratio() > 0.96


def test_no_digit_and_no_later_form_is_in_training_and_in_a_test(numerals):
    parts = {name: set(rows.rows) for name, rows in numerals.sets.items()}
    tested = parts["test"].union(*(rows.rows for rows in numerals.ood.values()))
    assert not tested & (parts["train"] | parts["val"])
    assert not parts["train"] & parts["val"]
    border = digits.FORMS[digits.TRAINED]
    assert set().union(*parts.values()) == set(range(border))
    assert set(numerals.ood["later-writers"].rows) == set(range(border, 1797))
    assert len(parts["val"]) > 100
    assert len(parts["test"]) > 200


@pytest.mark.parametrize("name", digits.SHIFTS)
def test_changed_digits_differ_keep_shape_and_are_the_same_at_every_visit(numerals, name):
    own, changed = numerals.sets["test"], numerals.ood[name]
    for row in range(5):
        picture = changed.picture(row)
        assert picture.shape == (3, 32, 32)
        assert picture.dtype == torch.uint8
        assert torch.equal(picture, changed.picture(row))
        assert not torch.equal(picture, own.picture(row))


def test_changes_are_what_their_names_say(numerals):
    own = torch.stack([numerals.sets["test"].picture(row) for row in range(20)]).float()

    def mean(name: str) -> float:
        rows = numerals.ood[name]
        return float(torch.stack([rows.picture(row) for row in range(20)]).float().mean())

    assert mean("inverted") == pytest.approx(255 - own.mean().item(), abs=0.01)
    assert mean("thick") > own.mean() * 1.2
    assert mean("thin") < own.mean() * 0.9
    assert mean("blurred") == pytest.approx(own.mean().item(), rel=0.15)


def test_digits_can_be_pickled_batched_and_seen_through_a_network(numerals):
    data = pickle.loads(pickle.dumps(numerals)).with_input(LOOK)
    batch = next(iter(data.batches(Needs(), 0))).labeled
    assert batch.x.shape == (16, 3, 8, 8)
    assert list(data.tests()) == ["id", "later-writers", *digits.SHIFTS]
    first, again = (next(iter(one.with_input(LOOK).scan("val"))) for one in (data, numerals))
    assert torch.equal(first.x, again.x)


def test_a_picture_that_is_no_image_is_counted_with_a_reason(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "short.png")
    row = Pictures(Records(tmp_path / "short.png", side=32), [0])[0, 0]
    assert isinstance(row, Unreadable)
    assert row.path == "row 0"

"""Data sets of one's own: what items may be, and what becomes of labels that cannot be."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from adaptune.data import Loading, from_datasets
from adaptune.data.inputs.image import transform_for
from adaptune.networks.network import Preprocess

CLASSES = ("cat", "dog", "emu")
LOOK = Preprocess(size=8, crop=0.9, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))


def serving(*items, **more):
    whole = {"ood": {"far": list(items)}} if more.get("open_set") else {}
    fine = [(torch.zeros(3, 8, 8), 0)]
    sets = [fine] * 3 if whole else [list(items)] * 3
    return from_datasets(*sets, classes=CLASSES, loading=Loading(batch_size=4), **whole, **more)


def labels(data) -> list[int]:
    return [y for rows in data.scan("train") for y in rows.y.tolist()]


x = torch.zeros(3, 8, 8)
RIGHT = {
    "a number": 2,
    "numpy's": np.int64(2),
    "a tensor": torch.tensor(2),
    "a tensor of one element": torch.tensor([2]),
    "a float that is whole": 2.0,
    "8 bits": torch.tensor(2, dtype=torch.uint8),
    "a name": "emu",
    "one-hot": torch.tensor([0, 0, 1]),
    "one-hot in floats": [0.0, 0.0, 1.0],
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_label_may_be_a_number_a_name_or_one_hot(name):
    assert labels(serving((x, RIGHT[name]))) == [2]


def test_truth_is_the_second_of_two_classes():
    assert labels(serving((x, True), (x, np.bool_(False)))) == [1, 0]


WRONG = [-100, -1, 3, 255, 0.9, math.nan, math.inf, None, "cats", [0, 1], [0, 1, 1], [0.2, 0.8, 0]]
WRONG += [torch.tensor(3), torch.tensor([]), torch.tensor(0.9), {"label": 1}, 1j]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("label", WRONG, ids=str)
def test_a_label_of_no_class_is_an_error_that_names_row_label_and_classes(label, workers):
    data = from_datasets(
        *[[(x, 0), (x, label)]] * 3, classes=CLASSES, loading=Loading(workers=workers)
    )
    with pytest.raises(ValueError, match=r"row 1 of train cannot be used: its label is") as error:
        list(data.scan("train"))
    said = str(error.value)
    assert repr(label) in said
    assert "those of 3 classes are the numbers from 0 to 2" in said


@pytest.mark.parametrize(("split", "name"), [("val", "val"), ("test", "test")])
def test_the_set_of_a_wrong_label_is_named(split, name):
    good, bad = [(x, 0)], [(x, 7)]
    sets = [bad if one == split else good for one in ("train", "val", "test")]
    with pytest.raises(ValueError, match=f"row 0 of {name} cannot be used: its label is 7"):
        list(from_datasets(*sets, classes=CLASSES).scan(split))


def test_a_target_needs_no_labels_and_wrong_ones_are_never_looked_at():
    good = [(x, 0)]
    for items in ([(x, -100)], [{"image": x}], [x], [(x,)], [{"image": x, "label": None}]):
        data = from_datasets(good, good, good, classes=CLASSES, target=items)
        assert [len(rows) for rows in data.unlabeled()] == [1]


def test_an_open_set_may_have_labels_of_no_class_where_it_is_tested_alone():
    data = serving((x, 3), (x, "unknown"), (x, 0), open_set=True)
    (rows,) = data.tests()["far"]
    assert rows.y.tolist() == [3, 3, 0]
    good, bad = [(x, 0)], [(x, 3)]
    data = from_datasets(bad, good, good, classes=CLASSES, open_set=True)
    with pytest.raises(ValueError, match="its label is 3"):
        list(data.scan("train"))


def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8))


def as_tensor() -> torch.Tensor:
    return torch.from_numpy(np.array(picture())).permute(2, 0, 1)


ITEMS = {
    "a pair with a PIL image": lambda: (picture(), 1),
    "a pair with an 8-bit tensor": lambda: (as_tensor(), 1),
    "a pair with an 8-bit array": lambda: (np.array(picture()), 1),
    "a longer tuple": lambda: (picture(), 1, "photo"),
    "image and label": lambda: {"image": picture(), "label": 1, "id": 5},
    "img and labels": lambda: {"img": picture(), "labels": 1},
    "pixel_values and labels": lambda: {"pixel_values": as_tensor(), "labels": torch.tensor(1)},
}


@pytest.mark.parametrize("name", ITEMS)
def test_images_of_any_kind_of_item_are_seen_as_the_network_wants_them(name):
    data = serving(ITEMS[name]()).with_input(LOOK)
    (rows,) = data.scan("train")
    torch.testing.assert_close(rows.x[0], transform_for(LOOK)(as_tensor()))
    assert rows.y.tolist() == [1]


def test_inputs_that_are_no_images_any_more_stay_as_they_are():
    made = torch.randn(3, 8, 8)
    for item in ((made, 0), {"pixel_values": made, "labels": 0}, {"pixel_values": made.numpy()}):
        data = serving({"labels": 0, **item} if isinstance(item, dict) else item)
        (rows,) = data.with_input(LOOK).scan("train")
        assert torch.equal(rows.x[0], made)


def test_training_images_are_varied_as_files_are_and_others_are_not():
    data = serving(*[(picture(), 0)] * 4).with_input(LOOK, "crop")
    (scanned,) = data.scan("train")
    assert (scanned.x == scanned.x[:1]).all()
    from adaptune.types import Needs

    (batch,) = data.batches(Needs(), 0)
    assert not (batch.labeled.x == batch.labeled.x[:1]).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "I;16", "CMYK"])
def test_pil_images_of_every_mode_look_as_files_do(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 30), 100 * 257, np.uint16))
    else:
        image = picture().convert(mode)
    file = tmp_path / ("1.tif" if mode == "CMYK" else "1.png")
    image.save(file)
    from adaptune.data.inputs.image import read_image

    (rows,) = serving((image, 0)).with_input(LOOK).scan("train")
    torch.testing.assert_close(rows.x[0], transform_for(LOOK)(read_image(file)))


def test_grey_tensors_have_three_channels():
    grey = torch.full((1, 9, 9), 51, dtype=torch.uint8)
    for one in (grey, grey[0]):
        (rows,) = serving((one, 0)).with_input(LOOK).scan("train")
        expected = (0.2 - torch.tensor(LOOK.mean)) / torch.tensor(LOOK.std)
        torch.testing.assert_close(rows.x[0, :, 4, 4], expected)


ODD = {
    "no pair": (torch.zeros(3, 8, 8), "should be a pair"),
    "no image field": ({"photo": x, "label": 0}, "it has the fields photo, label"),
    "two label fields": ({"img": x, "label": 0, "labels": 0}, "should have one of label, labels"),
    "channels last": ((torch.zeros(8, 9, 3, dtype=torch.uint8), 0), "8-bit tensor (8, 9, 3)"),
    "a name of a file": (("1.png", 0), "its image is '1.png' and should be a PIL image"),
    "bytes": ({"image": {"bytes": b"", "path": None}, "label": 0}, "should be a PIL image"),
    "None": ((None, 0), "its image is None"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_item_that_cannot_be_understood_is_named_with_what_it_should_be(name):
    item, said = ODD[name]
    with pytest.raises(ValueError, match="row 0 of train cannot be used: ") as error:
        list(serving(item).scan("train"))
    assert said in str(error.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_inputs_of_several_sizes_are_named(workers):
    items = [(torch.zeros(3, 8, 8), 0), (torch.zeros(3, 9, 8), 0)]
    data = from_datasets(*[items] * 3, classes=CLASSES, loading=Loading(workers=workers))
    with pytest.raises(ValueError, match=r"rows 0 and 1 .* \(3, 8, 8\) and \(3, 9, 8\)"):
        list(data.scan("train"))


def test_an_image_that_cannot_be_decoded_is_left_out_and_named(tmp_path):
    picture().save(tmp_path / "1.png")
    raw = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(raw[:600])
    broken = Image.open(tmp_path / "1.png")
    data = serving((broken, 0), (picture(), 1))
    assert labels(data) == [1]
    assert list(data.problems) == ["row 0"]
    broken.close()


@pytest.mark.parametrize("name", ["id", "train", "val", "test", "Test", "ID"])
def test_no_domain_has_the_name_of_one_of_the_data_sets_own_sets(name):
    good = [(x, 0)]
    with pytest.raises(ValueError, match=f"no domain can be called '{name}'"):
        from_datasets(good, good, good, classes=CLASSES, ood={name: good})

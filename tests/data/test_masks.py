"""Masks beside images: found, read by indices or colours, and moved as their images are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import NAMES, draw_scenes

from adaptune.data import Loading, Shares, from_datasets, open_domains
from adaptune.data.inputs.scene import SceneInput
from adaptune.data.labels import labels_of
from adaptune.data.labels.mask_table import IGNORE, STRAY, MaskTable, read_mask_table
from adaptune.data.labels.masks import MaskLabels
from adaptune.data.listing import Example
from adaptune.networks.network import WholeImage
from adaptune.types import Needs

SOME = Shares(0.2, 0.2)
PLAIN = {"size": 24, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    return draw_scenes(tmp_path_factory.mktemp("scenes") / "city", 12)


@pytest.fixture
def own_city(tmp_path) -> Path:
    return draw_scenes(tmp_path / "city", 8)


def opened(folder, **options):
    settings = {"shares": SOME, "loading": Loading(batch_size=2), **options}
    return open_domains(folder, labels="mask", **settings)


def seen(data, augment="none", epoch=1):
    """Give inputs and masks of an epoch by their rows."""
    data = data.with_input(WholeImage(**PLAIN), augment)
    found = {}
    for batch in data.batches(Needs(), epoch):
        side = batch.labeled
        for row, x, y in zip(side.index.tolist(), side.x, side.y, strict=True):
            found[row] = (x, y)
    return found


def save(file, values, mode="L"):
    Image.fromarray(np.asarray(values, np.uint8)).convert(mode).save(file)


def test_masks_lie_beside_images_and_their_classes_are_counted(city):
    data = opened(city)
    assert data.classes == ("0", "1", "2")
    assert data.labels == "mask"
    assert sum(map(len, data.sets.values())) == 12
    for rows in data.with_input(WholeImage(**PLAIN)).scan("train"):
        assert rows.y.dtype == torch.uint8
        assert rows.y.shape[1:] == rows.x.shape[2:] == (24, 24)
        assert set(rows.y.unique().tolist()) <= {0, 1, 2, IGNORE}


def test_a_folder_of_masks_may_lie_anywhere_and_splits_are_the_images_own(city, tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / "photos" / split / "deep").mkdir(parents=True)
    files = sorted((city / "images").iterdir())
    for number, file in enumerate(files[:6]):
        split = ("train", "val", "test")[number % 3]
        Image.open(file).save(tmp_path / "photos" / split / "deep" / f"{file.stem}.bmp")
    data = opened(tmp_path / "photos", masks={"": city / "masks"}, classes=NAMES)
    assert {split: len(rows) for split, rows in data.sets.items()} == dict(train=2, val=2, test=2)
    assert [p.stem for p in data.sets["train"].paths] == [f.stem for f in files[:6:3]]
    assert data.sets["train"].labels == [f"{f.stem}.png" for f in files[:6:3]]


def test_a_table_names_masks_domains_and_splits(city, tmp_path):
    rows = ["path,mask,domain"]
    for number in range(12):
        where = "night" if number > 8 else "day"
        mask = "" if number == 3 else f"{city}/masks/{number:03}.png"
        rows.append(f"{city}/images/{number:03}.png,{mask},{where}")
    (tmp_path / "all.csv").write_text("\n".join(rows))
    data = opened(tmp_path / "all.csv", domain="day")
    assert sum(map(len, data.sets.values())) == 8
    assert len(data.ood["night"]) == 3
    assert any("day: 1 images have no mask and are left out" in note for note in data.notes)


def test_an_image_without_a_mask_is_named_and_left_out(own_city):
    (own_city / "masks" / "002.png").unlink()
    data = opened(own_city)
    assert sum(map(len, data.sets.values())) == 7
    assert any(re.search("1 images have no mask .*002.png", note) for note in data.notes)
    for file in (own_city / "masks").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="no image of city has a mask"):
        opened(own_city, classes=NAMES)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda file: save(file, np.zeros((10, 12))), "is 12 x 10 pixels and the image 48 x 48"),
        (lambda file: save(file, np.zeros((48, 48)), "RGB"), "it has colours"),
        (lambda file: file.write_bytes(b"x"), "none of the images that are read"),
        (lambda file: Image.new("L", (48, 48)).save(file, "JPEG"), "JPEG changes the values"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named_and_its_image_left_out(own_city, wrong, said):
    data = opened(own_city, classes=NAMES)
    example = data.sets["train"].examples[0]
    wrong(Path(example.label))
    read = [*data.with_input(WholeImage(**PLAIN)).scan("train")]
    assert sum(map(len, read)) == len(data.sets["train"]) - 1
    assert said in data.problems[str(example.path)]
    assert "its mask" in data.problems[str(example.path)]


def test_an_image_that_exif_turns_has_the_size_that_it_looks(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "images" / "1.jpg", exif=exif)
    Image.new("L", (10, 20), 1).save(tmp_path / "masks" / "1.png")
    example = Example(tmp_path / "images/1.jpg", str(tmp_path / "masks/1.png"))
    assert labels_of("mask", NAMES).read(example).shape == (20, 10)


def test_indices_of_no_class_stay_apart_from_what_is_ignored(own_city):
    mask = Path(opened(own_city).sets["train"].examples[0].label)
    values = np.zeros((48, 48))
    values[0, :5], values[1, :7] = 9, 255
    save(mask, values)
    y = opened(own_city, classes=NAMES).sets["train"][0, 0][1]
    assert int((y == STRAY).sum()) == 5
    assert int((y == IGNORE).sum()) == 7


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_values_of_few_bits_and_of_palettes_are_indices(tmp_path, bits):
    most = min(2**bits - 1, 200)
    image = Image.new("P" if bits in (4, 8) else "L", (2, 1))
    image.putdata([0, most])
    if bits in (4, 8):
        image.putpalette([10, 20, 30] * (most + 1))
        image.save(tmp_path / "m.png", bits=bits)
    else:
        write_grey(tmp_path / "m.png", bits, [0, most])
    table = MaskTable(tuple(f"c{n}" for n in range(201)))
    assert MaskLabels(table)._numbers(tmp_path / "m.png").tolist() == [[0, most]]


def write_grey(file, bits, values):
    """Write a PNG of grey values of few bits, which Pillow does not."""
    import struct
    import zlib

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    packed = 0
    for value in values:
        packed = packed << bits | value
    line = bytes([0, packed << (8 - bits * len(values))])
    head = struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(line)), chunk(b"IEND", b""))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_colours_become_classes_by_a_table_and_one_name_is_one_class(tmp_path):
    file = tmp_path / "colours.csv"
    file.write_text("name, r,g,b\nsky,0,0,255\nsea,0,0,128\nsky,10,0,255\nvoid,0,0,0\n")
    table = read_mask_table(file)
    assert table.names == ("sky", "sea")
    pixels = [[[0, 0, 255], [0, 0, 128], [10, 0, 255], [0, 0, 0], [1, 1, 1]]]
    save(tmp_path / "m.png", pixels, "RGB")
    labels = labels_of("mask", table.names, table=table)
    assert labels._numbers(tmp_path / "m.png").tolist() == [[0, 1, 0, IGNORE, STRAY]]
    palette = Image.new("P", (5, 1))
    palette.putpalette(np.array(pixels, np.uint8).tobytes())
    palette.putdata(range(5))
    palette.save(tmp_path / "p.png")
    assert labels._numbers(tmp_path / "p.png").tolist() == [[0, 1, 0, IGNORE, STRAY]]


def test_indices_become_classes_by_a_table_of_which_some_are_kept(tmp_path):
    file = tmp_path / "indices.csv"
    file.write_text("name,index\nroad,7\ncar,26\ntruck,27\nignore,0\n")
    table = read_mask_table(file)
    assert table.numbers(np.array([7, 26, 27, 0, 1, 255])).tolist() == [0, 1, 2, 255, 254, 255]
    some = labels_of("mask", ["truck", "road"], table=table)
    assert some.given(np.array([[7, 26, 27, 0, 1]])).tolist() == [[1, 255, 0, 255, 254]]
    with pytest.raises(ValueError, match="has no bike"):
        labels_of("mask", ["bike"], table=table)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,index\nroad,-1\n", "line 2: road,-1: expected a name and whole numbers"),
        ("name,r,g\nroad,1,2\n", "expected name,index or name,r,g,b"),
        ("name,r,g,b\nroad,1,2,256\n", "whole numbers below 256"),
        ("name,index\nvoid,0\n", "names 0 classes"),
    ],
)
def test_a_table_that_is_none_says_what_was_expected(tmp_path, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_mask_table(tmp_path / "t.csv")


def test_names_alone_are_those_of_the_indices(city, tmp_path):
    (tmp_path / "names.txt").write_text("ground\ndisc\nsquare\n")
    assert opened(city, table=tmp_path / "names.txt").classes == NAMES


def test_indices_that_leave_a_gap_are_counted_and_high_ones_refused(own_city):
    file = own_city / "masks" / "000.png"
    save(file, np.full((48, 48), 5))
    assert len(opened(own_city).classes) == 6
    save(file, np.full((48, 48), 254))
    with pytest.raises(ValueError, match="so they are not the numbers of classes"):
        opened(own_city)


@pytest.mark.parametrize("augment", ["none", "flip", "crop"])
def test_image_and_mask_move_together(tmp_path, augment):
    """The image is drawn from the mask, so that one tells the other at every place."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        coarse = rng.integers(0, 3, (6, 8)).astype(np.uint8)
        mask = coarse.repeat(16, 0).repeat(16, 1)
        save(tmp_path / "masks" / f"{number}.png", mask)
        save(tmp_path / "images" / f"{number}.png", 100 * mask, "RGB")
    data = opened(tmp_path, classes=NAMES, shares=Shares(0, 0))
    agree = [
        float(((255 * x[0] / 100).round() == y).double().mean())
        for x, y in seen(data, augment).values()
    ]
    assert min(agree) > 0.8, "but for mixed pixels at borders they are the same"
    mirrored = [
        float(((255 * x[0] / 100).round().flip(1) == y).double().mean())
        for x, y in seen(data, augment).values()
    ]
    assert max(mirrored) < 0.8


@pytest.mark.parametrize("augment", ["flip", "crop"])
def test_what_is_random_is_that_of_seed_epoch_and_row_for_any_workers(city, augment):
    one = seen(opened(city), augment)
    two = seen(opened(city, loading=Loading(batch_size=2, workers=2, cache="ram")), augment)
    again = seen(opened(city), augment, epoch=2)
    assert one.keys() == two.keys()
    for row, (x, y) in one.items():
        assert torch.equal(x, two[row][0])
        assert torch.equal(y, two[row][1])
    both = one.keys() & again.keys()
    assert any(not torch.equal(one[row][1], again[row][1]) for row in both)


def test_a_mask_is_scaled_by_the_value_at_each_places_centre():
    y = torch.arange(36, dtype=torch.uint8).view(6, 6)
    reader = SceneInput(WholeImage(**{**PLAIN, "size": 2}))
    x = torch.zeros(3, 2, 2, dtype=torch.uint8)
    assert reader.varied(x, y)[1].tolist() == [[7, 10], [25, 28]]


def test_other_domains_have_masks_by_their_names_and_subjects_are_tested_once(city, tmp_path):
    night = draw_scenes(tmp_path / "night", 14, seed=1)
    (night / "masks").rename(tmp_path / "elsewhere")
    data = opened(city, ood={"night": night / "images"}, masks={"night": tmp_path / "elsewhere"})
    trained = len(data.sets["train"]) + len(data.sets["val"])
    assert len(data.ood["night"]) == 14 - trained
    with pytest.raises(ValueError, match="no image of night can be tested: none has a mask"):
        opened(city, ood={"night": night / "images"})
    with pytest.raises(ValueError, match="give that domain another name"):
        opened(city, masks={"": city / "masks", "city": city / "masks"})


def test_a_target_without_masks_is_adapted_to_and_one_with_masks_is_tested_too(city, tmp_path):
    night = draw_scenes(tmp_path / "night", 6, name="n")
    data = opened(city, target=f"night={night}")
    assert len(data.target) == len(data.ood["night"]) == 6
    bare = opened(city, target=f"night={night / 'images'}")
    assert len(bare.target) == 6
    assert not bare.ood
    x = next(iter(data.with_input(WholeImage(**PLAIN), "crop").unlabeled())).x
    assert x.shape[1:] == (3, 24, 24)


def test_open_sets_of_masks_are_refused_in_words(city):
    with pytest.raises(ValueError, match="leave out --open-set"):
        opened(city, open_set=True)


def test_masks_of_data_sets_are_whole_numbers_of_two_axes():
    y = torch.tensor([[[0, 1], [2, 255]]])
    rows = [(torch.zeros(3, 4, 4), one) for one in (y[0], y[0].numpy(), y)]
    data = from_datasets(rows, rows, rows, classes=NAMES, labels="mask")
    (batch,) = data.scan("train")
    assert batch.y.tolist() == [y[0].tolist()] * 3
    wrong = [(torch.zeros(3, 4, 4), torch.zeros(2, 2))]
    with pytest.raises(ValueError, match="should be a mask of whole numbers"):
        list(from_datasets(wrong, wrong, wrong, classes=NAMES, labels="mask").scan("train"))


def test_a_folder_that_is_not_there_is_told_from_one_without_masks(tmp_path):
    with pytest.raises(
        ValueError, match="no folder at .* expected one of images, with their masks"
    ):
        open_domains(tmp_path / "nowhere", labels="mask")

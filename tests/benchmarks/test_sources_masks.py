"""Data sets of masks are read from their usual layouts: each test writes a tiny one of its own."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from adaptune.data.domains import Loading
from adaptune.networks.architectures import WholeImage
from benchmarks.sources import streets, voc

SIZE = (12, 8)


def photo(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (90, 120, 90)).save(file)


def mask(file: Path, values: np.ndarray, *, palette: bool = False) -> None:
    """Write indices, of a palette if asked for."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if palette:
        image.putpalette([one for color in range(256) for one in (color, 7, 255 - color)])
    image.save(file)


def rows(*values: int) -> np.ndarray:
    """Give a mask whose rows hold these values in turn."""
    return np.resize(np.array(values), SIZE[1])[:, None].repeat(SIZE[0], 1)


def deep_png(file: Path, values: np.ndarray) -> None:
    """Write a PNG of 16 bits (H, W, C), which Pillow cannot."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc(name + data))

    crc, kinds = zlib.crc32, {2: 4, 3: 2}
    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, kinds[channels], 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b""))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def labels(data, rows) -> dict[str, set[int]]:
    """Give the values that are in the masks of a set, by image."""
    data = data.with_input(WholeImage(size=8, crop=1.0))
    found: dict[str, set[int]] = {}
    for name in {**data.sets, **data.ood}:
        if name == rows:
            files = {**data.sets, **data.ood}[name]
            for row in range(len(files)):
                found[files.paths[row].stem] = set(files[row, 0][1].unique().tolist())
    assert not data.problems
    return found


def write_voc(root: Path) -> None:
    """Write four images to train on and two to validate on; SBD has two more, and one of these."""
    place = root / "VOCdevkit/VOC2012"
    own = {"train": ["2007_01", "2007_02", "2007_03", "2007_04"], "val": ["2007_05", "2007_06"]}
    for name, stems in own.items():
        for number, stem in enumerate(stems):
            photo(place / "JPEGImages" / f"{stem}.jpg")
            mask(place / voc.OWN / f"{stem}.png", rows(0, number + 1, 255), palette=True)
        (place / voc.LISTS).mkdir(parents=True, exist_ok=True)
        (place / voc.LISTS / f"{name}.txt").write_text("\n".join(stems) + "\n")
    for stem in ("2008_01", "2008_02"):
        photo(place / "JPEGImages" / f"{stem}.jpg")


def write_sbd(root: Path) -> None:
    sbd = root / voc.SBD
    (sbd / "cls").mkdir(parents=True)
    for stem in ("2008_01", "2008_02", "2007_05", "2007_01"):
        inside = {"Segmentation": rows(0, 20).astype(np.uint8), "CategoriesPresent": [20]}
        savemat(sbd / "cls" / f"{stem}.mat", {"GTcls": inside})
    (sbd / "train.txt").write_text("2008_01\n2007_01\n")
    (sbd / "val.txt").write_text("2008_02\n2007_05\n")


def of(data, *splits: str) -> dict[str, set[int]]:
    return {stem: found for split in splits for stem, found in labels(data, split).items()}


def test_voc_is_read_by_its_lists_and_its_borders_are_ignored(tmp_path):
    write_voc(tmp_path)
    data = voc.open_source(tmp_path, tmp_path / "work", augmented=False)["voc"](Loading())
    assert data.classes == voc.CLASSES
    assert len(data.classes) == 21
    trained = of(data, "train", "val")
    assert trained["2007_03"] == {0, 3, 255}
    assert set(trained) == {"2007_01", "2007_02", "2007_03", "2007_04"}
    assert set(of(data, "test")) == {"2007_05", "2007_06"}


@pytest.mark.parametrize("kind", ["mat", "png"])
def test_sbd_adds_masks_of_all_images_but_those_that_are_validated_on(tmp_path, kind):
    write_voc(tmp_path)
    if kind == "mat":
        write_sbd(tmp_path)
    else:
        for stem in ("2008_01", "2008_02", "2007_05", "2007_01"):
            mask(tmp_path / "VOCdevkit/VOC2012" / voc.AUGMENTED / f"{stem}.png", rows(0, 20))
    data = voc.open_source(tmp_path, tmp_path / "work")["voc"](Loading())
    trained = of(data, "train", "val")
    assert set(trained) == {*(f"2007_0{n}" for n in range(1, 5)), "2008_01", "2008_02"}
    assert trained["2008_01"] == {0, 20}
    assert trained["2007_01"] == {0, 1, 255}, "VOC's own mask comes first"
    assert set(of(data, "test")) == {"2007_05", "2007_06"}


def write_cityscapes(root: Path) -> None:
    for split, cities in (
        ("train", ("aachen", "bremen")),
        ("val", ("lindau",)),
        ("test", ("bonn",)),
    ):
        for city in cities:
            for number in range(6):
                name = f"{city}_{number:06}_000019"
                inside = root / "cityscapes/leftImg8bit" / split / city
                photo(inside / f"{name}_leftImg8bit.png")
                drawn = root / "cityscapes/gtFine" / split / city
                mask(drawn / f"{name}_gtFine_labelIds.png", rows(0, 7, 22, 33, 4))
                mask(drawn / f"{name}_gtFine_instanceIds.png", rows(1))


def test_cityscapes_has_19_classes_by_label_ids_and_is_tested_on_its_validation(tmp_path):
    write_cityscapes(tmp_path)
    data = streets.open_source(tmp_path, tmp_path)["cityscapes"](Loading())
    assert len(data.classes) == 19
    assert (data.classes[0], data.classes[9], data.classes[18]) == ("road", "terrain", "bicycle")
    trained = of(data, "train", "val")
    assert len(trained) == 12
    assert set(map(frozenset, trained.values())) == {frozenset({0, 9, 18, 255})}
    assert {stem.split("_")[0] for stem in of(data, "test")} == {"lindau"}
    assert len(data.sets["val"])


def write_rendered(root: Path, name: str, *, channels: int = 0) -> None:
    images, masks = streets.LAYOUTS[name]
    for number in range(40):
        photo(root / images / f"{number:05}.png")
        file = root / masks / f"{number:05}.png"
        if channels:
            values = np.zeros((*rows(0).shape, channels), np.uint16)
            values[..., 0], values[..., 1] = rows(0, 1, 3, 8, 16, 14, 21), 700
            deep_png(file, values)
        else:
            mask(file, rows(0, 7, 23, 34), palette=True)


def test_gta5_is_trained_on_and_cityscapes_adapted_to_without_labels_and_tested(tmp_path):
    write_cityscapes(tmp_path)
    write_rendered(tmp_path, "gta5")
    data = streets.open_source(tmp_path, tmp_path, train="gta5")["gta5"](Loading())
    assert set(map(frozenset, of(data, "train", "test").values())) == {frozenset({0, 10, 255})}
    assert sum(len(files) for files in data.sets.values()) == 40
    assert list(data.ood) == ["cityscapes"]
    assert {one.parent.name for one in data.ood["cityscapes"].paths} == {"lindau"}
    assert {path.parent.name for path in data.target.rows.paths} == {"aachen", "bremen"}
    assert set(data.target.rows.labels) == {0}


@pytest.mark.parametrize("channels", [2, 3])
def test_synthias_deep_labels_are_16_classes_under_the_names_of_cityscapes(tmp_path, channels):
    write_cityscapes(tmp_path)
    write_rendered(tmp_path, "synthia", channels=channels)
    opened = streets.open_source(tmp_path, tmp_path / "work", train="synthia")["synthia"]
    data = opened(Loading())
    assert len(data.classes) == 16
    assert not {"terrain", "truck", "train"} & set(data.classes)
    wanted = {data.classes.index(one) for one in ("road", "sky", "car", "wall")} | {255}
    found = of(data, "train")
    assert set(map(frozenset, found.values())) == {frozenset(wanted)}  # void, terrain, works: 255
    assert set(map(frozenset, of(data, "cityscapes").values())) == {frozenset({0, 15, 255})}
    written = next((tmp_path / "work/synthia").glob("*.png"))
    when = written.stat().st_mtime_ns
    streets.open_source(tmp_path, tmp_path / "work", train="synthia")
    assert written.stat().st_mtime_ns == when


def test_what_is_missing_is_named(tmp_path):
    for source, said in ((voc, "VOCdevkit/VOC2012"), (streets, "cityscapes/leftImg8bit")):
        with pytest.raises(ValueError, match=f"pass the folder .*{said}"):
            source.open_source(None, tmp_path)
        with pytest.raises(ValueError, match=f"lacks .*expected a folder with .*{said}"):
            source.open_source(tmp_path, tmp_path)
    write_voc(tmp_path)
    with pytest.raises(ValueError, match="lacks SBD's masks"):
        voc.open_source(tmp_path, tmp_path)
    write_cityscapes(tmp_path)
    with pytest.raises(ValueError, match="lacks gta5/images, gta5/labels"):
        streets.open_source(tmp_path, tmp_path, train="gta5")


def test_ids_are_those_of_the_data_sets_own_tables():
    table = streets.read_mask_table(streets.TABLE)
    named = {value: table.names[number] for value, number in table.indices.items() if number < 19}
    assert sorted(named) == [*(7, 8, 11, 12, 13, 17), *range(19, 29), 31, 32, 33]
    assert named[24] == "person"
    assert {named[one] for one in streets.SYNTHIA.values()} == set(streets.CLASSES)
    assert torch.tensor(list(streets.SYNTHIA.values())).unique().numel() == 19

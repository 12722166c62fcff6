"""The papers' data are read from their usual layouts: each test writes a tiny one of its own."""

import csv
import io
import pickle
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adaptune.data.domains import Loading
from adaptune.networks.network import Preprocess
from adaptune.types import Needs
from benchmarks.sources import breeds, cifar10, domainnet, fmow

PROTOCOLS = Path(breeds.__file__).parents[1] / "protocols"


def jpeg(value: int) -> bytes:
    raw = io.BytesIO()
    Image.new("RGB", (8, 8), (value,) * 3).save(raw, "JPEG")
    return raw.getvalue()


def write_cifar(root: Path) -> None:
    """Write pictures whose red is their label, green their file, blue their row."""
    batches = root / "cifar-10-batches-bin"
    batches.mkdir(parents=True)
    for number in range(6):
        records = np.zeros((20, 3073), np.uint8)
        records[:, 0] = np.arange(20) % 10
        records[:, 1:1025] = records[:, :1]
        records[:, 1025:2049] = number
        records[:, 2049:] = np.arange(20)[:, None]
        name = f"data_batch_{number}.bin" if number else "test_batch.bin"
        records.tofile(batches / name)
    stl = root / "stl10_binary"
    stl.mkdir()
    labels = np.arange(1, 11, dtype=np.uint8)
    pictures = np.zeros((10, 3, 96, 96), np.uint8)  # stored columns first: the top row is white
    pictures[..., 0] = 255
    pictures[:, 0, 50, 50] = labels
    pictures.tofile(stl / "test_X.bin")
    labels.tofile(stl / "test_y.bin")
    (root / "CIFAR-10.1").mkdir()
    ten = np.arange(10, dtype=np.uint8)
    filled = np.broadcast_to(ten[:, None, None, None], (10, 32, 32, 3))
    np.save(root / "CIFAR-10.1/cifar10.1_v6_data.npy", filled)
    np.save(root / "CIFAR-10.1/cifar10.1_v6_labels.npy", ten.astype(np.int32))
    (root / "CIFAR-10-C").mkdir()
    severity = np.repeat(np.arange(1, 6, dtype=np.uint8), 10)
    corrupted = np.broadcast_to(severity[:, None, None, None], (50, 32, 32, 3))
    for name in cifar10.CORRUPTIONS:
        np.save(root / f"CIFAR-10-C/{name}.npy", corrupted)
    np.save(root / "CIFAR-10-C/labels.npy", np.tile(ten, 5))


def write_imagenet(root: Path, dataset: str) -> None:
    """Write images of the classes that are used, and of one that is not."""
    raw = jpeg(100)
    chosen = breeds.superclasses(dataset)
    used = [wnid for sides in chosen.values() for side in sides.values() for wnid in side]
    for wnid in [*used, "n00000000"]:
        for split, count in (("train", 3), ("val", 1)):
            folder = root / split / wnid
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{wnid}_{split}_{number}.JPEG").write_bytes(raw)


def write_domainnet(root: Path) -> None:
    """Write four domains with all forty classes and one that is not used."""
    raw = jpeg(50)
    classes = sorted([*domainnet.CLASSES, "aircraft_carrier"])
    for domain in domainnet.DOMAINS:
        for split, count in (("train", 5), ("test", 2)):
            lines = []
            for label, name in enumerate(classes):
                (root / domain / name).mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    path = f"{domain}/{name}/{domain}_{label:03}_{split}{number:06}.jpg"
                    (root / path).write_bytes(raw)
                    lines.append(f"{path} {label}")
            (root / f"{domain}_{split}.txt").write_text("\n".join(lines) + "\n")


COUNTRIES = {"USA": "Americas", "BRA": "Americas", "KEN": "Africa", "FRA": "Europe", "IND": "Asia"}


def write_fmow(root: Path) -> None:
    """Write every combination of country, year, split and two categories, one image each."""
    (root / "images").mkdir(parents=True)
    with (root / "country_code_mapping.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["name", "alpha-3", "region"])
        table.writerows([f"The {code}, of", code, region] for code, region in COUNTRIES.items())
    rows = [
        {
            "split": split,
            "country_code": code,
            "timestamp": f"{year}-12-31T23:59:59Z",
            "category": category,
        }
        for code in (*COUNTRIES, "XKX")
        for year in (2002, 2012, 2013, 2015, 2016)
        for split in ("train", "val", "test", "seq")
        for category in ("zoo", "airport")
    ]
    with (root / "rgb_metadata.csv").open("w", newline="") as lines:
        table = csv.DictWriter(lines, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    for number in range(len(rows)):
        Image.new("RGB", (4, 4), (number % 256, number // 256, 0)).save(
            root / "images" / f"rgb_img_{number}.png"
        )


WRITERS = {
    "cifar10": write_cifar,
    "living17": lambda root: write_imagenet(root, "living17"),
    "entity30": lambda root: write_imagenet(root, "entity30"),
    "domainnet40": write_domainnet,
    "fmow": write_fmow,
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Write a layout when it is first asked for, and open it as its protocol says."""
    roots: dict[str, Path] = {}

    def tree(name: str):
        if name not in roots:
            roots[name] = tmp_path_factory.mktemp(name)
            WRITERS[name](roots[name])
        protocol = tomllib.loads((PROTOCOLS / f"{name}.toml").read_text())
        source = import_module(f"benchmarks.sources.{protocol['source']}")
        openers = source.open_source(
            roots[name], roots[name] / "work", **protocol.get("source_options", {})
        )
        (domain,) = protocol["domains"]
        return openers[domain](Loading(batch_size=8))

    return tree


def names(data, rows) -> list[str]:
    return [data.classes[label] for label in rows.labels]


@pytest.mark.parametrize("name", WRITERS)
def test_all_sets_are_there_and_no_image_is_in_two_of_them(trees, name):
    data = trees(name)
    assert all(len(rows) for rows in (*data.sets.values(), *data.ood.values()))
    own = [data.sets[split].paths for split in ("train", "val", "test")]
    others = [rows.paths for rows in data.ood.values()]
    paths = [path for part in (*own, *others) for path in part]
    assert len(set(paths)) == len(paths)
    trained, val = data.sets["train"], data.sets["val"]
    assert len(trained) >= len(val)
    if name == "cifar10":
        assert not set(trained.rows) & set(val.rows)


@pytest.mark.parametrize("name", WRITERS)
def test_data_survive_the_way_to_another_process_and_come_as_a_network_wants_them(trees, name):
    data = trees(name)
    again = pickle.loads(pickle.dumps(data)).with_input(Preprocess(size=8))
    here = data.with_input(Preprocess(size=8))
    assert next(iter(again.batches(Needs(), 0))).labeled.x.shape == (8, 3, 8, 8)
    for test, rows in here.tests().items():
        first, second = next(iter(rows)), next(iter(again.tests()[test]))
        assert torch.equal(first.x, second.x), test
        assert torch.equal(first.y, second.y), test
    assert not data.problems
    assert not again.problems


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (cifar10, "cifar-10-batches-bin"),
        (breeds, "train/WNID"),
        (domainnet, "DOMAIN_train.txt"),
        (fmow, "rgb_metadata.csv"),
    ],
)
def test_missing_data_are_an_error_that_says_what_is_expected(tmp_path, source, expected):
    with pytest.raises(ValueError, match=f"pass the folder .*{expected}"):
        source.open_source(None, tmp_path)
    with pytest.raises(ValueError, match=f"lacks .*expected a folder with .*{expected}"):
        source.open_source(tmp_path, tmp_path)


def test_cifar_pictures_have_their_labels_channels_and_file(trees):
    data = trees("cifar10")
    assert data.classes == cifar10.CLASSES
    assert sum(len(data.sets[split]) for split in ("train", "val")) == 100
    for split in ("train", "val", "test"):
        rows = data.sets[split]
        for row in range(len(rows)):
            red, green, blue = rows.picture(row)[:, 3, 5].tolist()
            assert red == rows.labels[row]
            assert green == (0 if split == "test" else rows.rows[row] // 20 + 1)
            assert blue == rows.rows[row] % 20


def test_stl_has_cifars_names_no_monkey_and_stands_upright(trees):
    data = trees("cifar10")
    rows = data.ood["stl10"]
    left = [name for name in cifar10.STL_CLASSES if name != "monkey"]
    assert names(data, rows) == ["automobile" if name == "car" else name for name in left]
    for row in range(len(rows)):
        picture = rows.picture(row)
        assert (picture[:, 0] == 255).all()
        assert (picture[1:, 1:] == 0).all()
        assert cifar10.STL_CLASSES[picture[0, 50, 50] - 1] == left[row]


def test_the_new_and_the_corrupted_test_images_have_their_labels_and_severities(trees):
    data = trees("cifar10")
    rows = data.ood["cifar10.1"]
    assert [int(rows.picture(row)[0, 0, 0]) for row in range(10)] == rows.labels
    corrupted = [name for name in data.ood if name not in ("stl10", "cifar10.1")]
    assert len(corrupted) == 75
    for name in corrupted:
        assert data.ood[name].labels == list(range(10))
        assert data.ood[name].picture(0).unique().tolist() == [int(name[-1])]
    assert "jpeg-compression-5" in corrupted


def test_frogs_can_be_left_out_and_tests_chosen(tmp_path):
    write_cifar(tmp_path)
    openers = cifar10.open_source(tmp_path, tmp_path, tests=["stl10"], classes="shared")
    data = openers["cifar10"](Loading())
    assert data.classes == tuple(name for name in cifar10.CLASSES if name != "frog")
    assert list(data.ood) == ["stl10"]
    for rows in data.sets.values():
        for row, name in enumerate(names(data, rows)):
            assert cifar10.CLASSES[int(rows.picture(row)[0, 0, 0])] == name
    with pytest.raises(ValueError, match="no test set svhn: there are stl10"):
        cifar10.open_source(tmp_path, tmp_path, tests=["svhn"])


def test_only_the_tests_that_are_asked_for_have_to_be_there(tmp_path):
    write_cifar(tmp_path)
    (tmp_path / "CIFAR-10-C/snow.npy").unlink()
    assert cifar10.open_source(tmp_path, tmp_path, tests=["stl10", "cifar10.1"])
    with pytest.raises(ValueError, match="lacks CIFAR-10-C/snow.npy"):
        cifar10.open_source(tmp_path, tmp_path)


def test_a_file_with_fewer_labels_than_images_is_an_error(tmp_path):
    write_cifar(tmp_path)
    np.arange(1, 4, dtype=np.uint8).tofile(tmp_path / "stl10_binary/test_y.bin")
    with pytest.raises(ValueError, match="holds 10 images for 3 labels"):
        cifar10.open_source(tmp_path, tmp_path)["cifar10"](Loading())


@pytest.mark.parametrize(("dataset", "count", "each"), [("living17", 17, 2), ("entity30", 30, 4)])
def test_superclasses_have_as_many_classes_of_imagenet_as_is_documented(dataset, count, each):
    chosen = breeds.superclasses(dataset)
    assert len(chosen) == count
    wnids = [wnid for sides in chosen.values() for side in sides.values() for wnid in side]
    assert len(set(wnids)) == len(wnids) == count * each * 2
    assert all(len(sides[side]) == each for sides in chosen.values() for side in sides)
    assert all(len(wnid) == 9 and wnid[0] == "n" and wnid[1:].isdigit() for wnid in wnids)


PUBLISHED = {  # the splits that BREEDS shows for Living-17, by ImageNet's numbers of the classes
    "salamander": {"source": ["n01631663", "n01632777"], "target": ["n01630670", "n01632458"]},
    "wolf": {"source": ["n02114855", "n02114712"], "target": ["n02114548", "n02114367"]},
    "bear": {"source": ["n02134418", "n02133161"], "target": ["n02134084", "n02132136"]},
    "monkey": {"source": ["n02490219", "n02493509"], "target": ["n02493793", "n02492660"]},
}


def test_living17_is_split_as_published():
    chosen = breeds.superclasses("living17")
    for name, sides in PUBLISHED.items():
        assert {side: sorted(wnids) for side, wnids in chosen[name].items()} == {
            side: sorted(wnids) for side, wnids in sides.items()
        }


@pytest.mark.parametrize("dataset", ["living17", "entity30"])
def test_training_has_the_sources_subclasses_and_the_ood_set_the_targets(trees, dataset):
    data, chosen = trees(dataset), breeds.superclasses(dataset)
    assert data.classes == tuple(chosen)
    sides = {"source": data.sets.values(), "target": data.ood.values()}
    for side, sets in sides.items():
        for rows in sets:
            labels, wnids = names(data, rows), [path.parent.name for path in rows.paths]
            found = set(zip(labels, wnids, strict=True))
            allowed = {(name, wnid) for name in chosen for wnid in chosen[name][side]}
            assert found <= allowed
            assert found == allowed or rows is data.sets["val"]
    assert {path.parents[1].name for path in data.sets["val"].paths} == {"train"}
    assert {path.parents[1].name for path in data.sets["test"].paths} == {"val"}


def test_an_imagenet_that_lacks_classes_is_an_error_that_names_some(tmp_path):
    (tmp_path / "train/n01631663").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"lacks train/n\d{8}, .* and \d+ more: expected"):
        breeds.open_source(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="no data set 'living18': there are living17, entity30"):
        breeds.open_source(tmp_path, tmp_path, dataset="living18")


def test_domainnet_keeps_forty_classes_and_the_lists_own_splits(trees):
    data = trees("domainnet40")
    assert len(data.classes) == len(set(data.classes)) == 40
    assert list(data.ood) == ["real", "painting", "clipart"]
    for rows in (*data.sets.values(), *data.ood.values()):
        assert names(data, rows) == [path.parent.name for path in rows.paths]
    assert all("_train" in path.stem for s in ("train", "val") for path in data.sets[s].paths)
    for rows in (data.sets["test"], *data.ood.values()):
        assert len(rows) == 80
        assert all("_test" in path.stem for path in rows.paths)


def test_every_domain_of_domainnet_can_be_trained_on(tmp_path):
    write_domainnet(tmp_path)
    openers = domainnet.open_source(tmp_path, tmp_path)
    assert list(openers) == list(domainnet.DOMAINS)
    assert list(openers["clipart"](Loading()).ood) == ["sketch", "real", "painting"]


def test_fmow_trains_in_the_americas_and_tests_in_africa_and_europe_by_years(trees):
    data = trees("fmow")
    assert data.classes == ("airport", "zoo")
    found = {photo.path: photo for photo in fmow.photos(data.sets["train"].paths[0].parents[1])}

    def seen(rows) -> set[tuple[str, int, str]]:
        return {(found[p].region, found[p].year, found[p].split) for p in rows.paths}

    for split in ("train", "val", "test"):
        assert seen(data.sets[split]) == {("Americas", 2002, split), ("Americas", 2012, split)}
    for name, region in (("africa", "Africa"), ("europe", "Europe")):
        assert seen(data.ood[name]) == {(region, 2002, "val"), (region, 2012, "val")}
        assert seen(data.ood[f"{name}-later"]) == {(region, 2013, "val"), (region, 2015, "val")}
    for rows in (*data.sets.values(), *data.ood.values()):
        assert names(data, rows) == [found[path].category for path in rows.paths]


def test_a_line_of_fmows_metadata_belongs_to_the_image_of_its_number(trees):
    folder = trees("fmow").sets["train"].paths[0].parents[1]
    photos = fmow.photos(folder)
    assert [photo.path.name for photo in photos[:2]] == ["rgb_img_0.png", "rgb_img_1.png"]
    assert all(photo.path.is_file() for photo in photos)
    assert photos[-1].region == "Other"

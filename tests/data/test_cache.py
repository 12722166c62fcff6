"""With a cache no image is decoded twice, and not a bit is different."""

import os
import pickle
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from adaptune.data import cache
from adaptune.data.cache import DiskCache, store_of
from adaptune.data.domains import Loading
from adaptune.data.file_rows import FileRows
from adaptune.data.inputs import image
from adaptune.data.inputs.image import ImageInput
from adaptune.data.labels.classes import ClassLabels
from adaptune.data.listing import Example
from adaptune.data.opening import open_domains
from adaptune.data.sample import Unreadable
from adaptune.networks.network import Preprocess
from adaptune.types import Needs

NEEDS = Needs()
KINDS = ("ram", "disk")

# Python 3.12 warns of forks where threads run, which is what loading with workers does.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Empty caches of the test's own, and the folder of the one on disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store_of.cache_clear()
    yield tmp_path / "cache" / "adaptune" / "images"
    store_of.cache_clear()


@pytest.fixture
def decoded(monkeypatch) -> Counter:
    """How often each file is decoded in this process."""
    read, seen = image.read_image, Counter()

    def counting(path, part=None):
        seen[path] += 1
        return read(path, part)

    monkeypatch.setattr(image, "read_image", counting)
    return seen


@pytest.fixture
def mixed(tmp_path):
    """Photos of odd sizes in two domains, one of them without colour."""
    rng = np.random.default_rng(0)
    for domain in ("photo", "sketch"):
        for number in range(24):
            file = tmp_path / domain / ("cat", "dog")[number % 2] / f"{domain}{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            height, width = rng.integers(9, 60, 2)
            pixels = rng.integers(0, 255, (height, width, 3), np.uint8)
            image = Image.fromarray(pixels).convert("L" if domain == "sketch" else "RGB")
            image.save(file)
    return tmp_path


def opened(mixed, augment="flip", size=16, **loading):
    loading = Loading(batch_size=4, **loading)
    data = open_domains(mixed / "photo", {"sketch": mixed / "sketch"}, loading=loading)
    look = Preprocess(size=size, interpolation="bicubic", crop=0.875)
    return data.with_input(look, augment)


def everything(data) -> list[torch.Tensor]:
    """Two epochs, and every set without augmentation."""
    epochs = [batch.labeled for epoch in (0, 1) for batch in data.batches(NEEDS, epoch)]
    scans = [rows for split in ("train", "val") for rows in data.scan(split)]
    tests = [rows for one in data.tests().values() for rows in one]
    return [tensor for rows in (*epochs, *scans, *tests) for tensor in (rows.x, rows.y, rows.index)]


def same(some, others) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augment", ["none", "flip", "crop"])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_those_without_a_cache_to_the_bit(mixed, kind, augment, workers):
    plain = everything(opened(mixed, augment))
    for _ in range(2):  # while it fills, and when it is full
        assert same(everything(opened(mixed, augment, cache=kind, workers=workers)), plain)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("augment", "times"), [("none", 1), ("flip", 1), ("crop", 2)])
def test_a_file_is_decoded_once_for_all_passes_and_runs(mixed, decoded, kind, augment, times):
    """Random crops need the whole image, which is kept beside the resized one."""
    for _ in range(2):
        data = opened(mixed, augment, cache=kind)
        everything(data)
    assert decoded.keys() == set(mixed.glob("*/*/*.png"))
    trained = set(data.augmented.paths)
    assert all(n == (times if path in trained else 1) for path, n in decoded.items())


@pytest.mark.parametrize("kind", KINDS)
def test_what_workers_decoded_is_not_decoded_again(mixed, decoded, kind):
    everything(opened(mixed, cache=kind, workers=2))
    assert not decoded, "workers decode"
    everything(opened(mixed, cache=kind))
    assert not decoded


def test_the_next_process_finds_what_is_on_disk(mixed, decoded):
    plain = everything(opened(mixed, cache="disk"))
    decoded.clear()
    store_of.cache_clear()
    assert same(everything(opened(mixed, cache="disk")), plain)
    assert not decoded


def test_another_resize_is_another_image(mixed):
    small = everything(opened(mixed, size=12))
    everything(opened(mixed, size=16, cache="ram"))
    assert same(everything(opened(mixed, size=12, cache="ram")), small)


def only(path, kind) -> FileRows:
    return FileRows(
        [Example(path, "cat")], ImageInput(Preprocess(size=8)), ClassLabels(["cat"]), kind
    )


def read(rows: FileRows):
    item = rows[0, 0]
    rows.store.keep(rows.store.handed_over())
    return item


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_changes_is_read_again(tmp_path, kind):
    file = tmp_path / "1.bmp"
    Image.new("RGB", (9, 9), "black").save(file)
    status = file.stat()
    rows = only(file, kind)
    black = read(rows)[0]
    Image.new("RGB", (9, 9), "white").save(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # as copying with times does
    assert read(rows)[0].min() > black.max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_cannot_be_read_is_not_kept(tmp_path, kind):
    file = tmp_path / "1.png"
    file.write_bytes(b"no image")
    rows = only(file, kind)
    assert isinstance(read(rows), Unreadable)
    assert isinstance(read(rows), Unreadable)
    file.unlink()
    assert "no such file" in read(rows).reason
    Image.new("RGB", (9, 9)).save(file)
    assert not isinstance(read(rows), Unreadable)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:7],
        lambda raw: raw[:-1],
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
        lambda raw: raw[:4] + b"\xff" * 8 + raw[12:],
        lambda raw: b"P6  " + raw[4:],
    ],
)
def test_what_is_damaged_on_disk_is_read_from_its_source_and_replaced(
    tmp_path, folder, decoded, damage
):
    file = tmp_path / "1.png"
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(file)
    rows = only(file, "disk")
    plain = read(rows)[0]
    (kept,) = [path for path in folder.rglob("*") if path.is_file()]
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert torch.equal(read(rows)[0], plain)
    assert kept.read_bytes() == whole
    assert torch.equal(read(rows)[0], plain)
    assert decoded[file] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_images_in_tars_are_kept_each_by_itself(mixed, kind):
    with tarfile.open(mixed / "photo.tar", "w") as tar:
        for number, file in enumerate(sorted((mixed / "photo").glob("*/*.png"))):
            (mixed / "label.cls").write_text(file.parent.name)
            tar.add(file, f"{number}.png")
            tar.add(mixed / "label.cls", f"{number}.cls")
    plain, kept, again = (
        open_domains(mixed / "photo.tar", loading=Loading(batch_size=4, cache=kind))
        for kind in ("none", kind, kind)
    )
    wanted = everything(plain.with_input(Preprocess(size=8)))
    assert same(everything(kept.with_input(Preprocess(size=8))), wanted)
    assert same(everything(again.with_input(Preprocess(size=8))), wanted)


def test_a_full_memory_is_said_once_and_all_images_still_come(mixed, monkeypatch):
    plain = everything(opened(mixed))
    monkeypatch.setattr(cache, "EVERY", 16 * 16 * 3)
    monkeypatch.setattr(cache, "memory_bytes", lambda: (10 * 16 * 16 * 3, 1.0))
    with pytest.warns(UserWarning, match="fill 50% of the memory") as said:
        found = everything(opened(mixed, cache="ram"))
    assert len(said) == 1
    assert same(found, plain)
    assert len(store_of("ram").images) == 6


def test_little_free_memory_is_not_taken(mixed, monkeypatch):
    monkeypatch.setattr(cache, "memory_bytes", lambda: (2**40, 0.1))
    with pytest.warns(UserWarning, match="less than 20% of the memory is free"):
        everything(opened(mixed, cache="ram"))
    assert not store_of("ram").images


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_is_said_once_and_all_images_still_come(mixed, folder, monkeypatch, workers):
    def fails(file, content, *, forced=True):
        raise OSError(f"{file} could not be written (No space left on device)")

    plain = everything(opened(mixed))
    monkeypatch.setattr(cache, "write_atomically", fails)
    with pytest.warns(UserWarning, match="No space left on device") as said:
        found = everything(opened(mixed, cache="disk", workers=workers))
    assert len(said) == 1
    assert same(found, plain)


def test_a_folder_that_cannot_be_made_stops_nothing(mixed, folder):
    folder.parent.parent.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="keeps no more images after 0 MB") as said:
        everything(opened(mixed, cache="disk"))
    assert len(said) == 1


def test_other_processes_get_the_place_and_not_the_images(mixed):
    data = opened(mixed, cache="ram")
    everything(data)
    size = len(pickle.dumps(data.sets["train"]))
    assert store_of("ram").images
    assert size < 20_000
    assert pickle.loads(pickle.dumps(store_of("ram"))) is store_of("ram")


def test_what_a_kill_left_beside_an_image_is_not_taken_for_one(tmp_path):
    store = DiskCache(tmp_path / "kept")
    store.put("ab" * 16, np.ones((2, 2, 3), np.uint8))
    file = store.file("ab" * 16)
    file.rename(file.with_name(f"{file.name}.1.new"))
    assert store.get("ab" * 16) is None

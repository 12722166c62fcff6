"""WebDataset tars are trained on as folders are."""

from __future__ import annotations

import io
import json
import tarfile
from itertools import permutations

import pytest
import torch

from adaptune.data import open_domains
from adaptune.data.readers.tars import read_tars
from adaptune.types import Needs


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(photos, tmp_path):
    """Tars of the photos, 20 a shard, by the order of their names."""
    files = sorted(photos.glob("*/*.png"))
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        with tarfile.open(folder / f"photo-{number}.tar", "w") as tar:
            for file in files[number::3]:
                add(tar, f"{file.stem}.json", b"{}")
                add(tar, f"{file.stem}.png", file.read_bytes())
                add(tar, f"{file.stem}.cls", f"{file.parent.name}\n".encode())
    return folder


def by_name(data) -> dict:
    rows = [data.sets[split] for split in ("train", "val", "test")]
    return {
        path.stem: (split[at, 0][0], split.labels[at])
        for split in rows
        for at, path in enumerate(split.paths)
    }


def test_tars_give_the_same_images_labels_and_splits_as_a_folder(shards, photos):
    found, wanted = open_domains(shards), open_domains(photos)
    assert found.classes == wanted.classes
    for split in wanted.sets:
        names = [{path.stem for path in data.sets[split].paths} for data in (found, wanted)]
        assert names[0] == names[1]
    a, b = by_name(found), by_name(wanted)
    assert all(torch.equal(a[key][0], b[key][0]) and a[key][1] == b[key][1] for key in b)
    assert len(list(found.batches(Needs(), 0))) == 1


def test_a_shards_name_may_say_its_split_and_numbers_are_sorted_as_numbers(photos, tmp_path):
    files = sorted(photos.glob("*/*.png"))
    for at, split in enumerate(("train", "val", "test")):
        with tarfile.open(tmp_path / f"{split}-000.tar", "w") as tar:
            for number, file in enumerate(files[at::3]):
                add(tar, f"{file.stem}.PNG", file.read_bytes())
                add(tar, f"{file.stem}.cls", str(number % 11).encode())
    data = open_domains(tmp_path)
    assert data.classes == tuple(str(number) for number in range(11))
    assert {split: len(rows) for split, rows in data.sets.items()} == {
        "train": 20,
        "val": 20,
        "test": 20,
    }


def test_a_broken_image_is_named_and_one_without_a_class_is_noted(shards):
    with tarfile.open(shards / "photo-3.tar", "w") as tar:
        add(tar, "odd.png", b"no image")
        add(tar, "odd.cls", b"dots")
        add(tar, "lost.png", b"no image")
    data = open_domains(shards)
    assert any("images without a class passed over" in note for note in data.notes)
    for split in ("train", "val", "test"):
        list(data.scan(split))
    assert list(data.problems) == [str(shards / "photo-3.tar" / "odd.png")]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no tar" * 200, "could not be read as a tar"), (b"\0" * 10240, "holds no samples")],
)
def test_what_is_no_tar_or_has_no_sample_is_said(tmp_path, content, said):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        open_domains(tmp_path)


def test_a_run_trains_on_tars(shards, tiny, tmp_path, told):
    words = ["fit", shards, *tiny, "--method=ft", "--epochs=1", "--out", tmp_path / "run"]
    assert told(*words)[0] == 0
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["data"]["problems"] == {}
    assert (tmp_path / "run" / "report.html").is_file()
    assert told("doctor", shards)[0] == 0


def packed(file, members: list[tuple[str, str]], **options):
    """List what a tar of these members holds, by name."""
    with tarfile.open(file, "w", **options) as tar:
        for name, text in members:
            add(tar, name, text.encode())
    listing = read_tars(file, "x")
    found = [(str(one.path.relative_to(file)), one.label) for one in listing.examples]
    return found, " ".join(listing.notes)


SAMPLE = [("1.png", ""), ("1.cls", "cat"), ("1.txt", "a cat on a mat"), ("1.json", "{}")]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_class_file_wins_over_a_caption_in_every_order_of_members(tmp_path, order):
    found, said = packed(tmp_path / "a.tar", [SAMPLE[at] for at in order])
    assert found == [("1.png", "cat")]
    assert ".txt files were taken as captions" in said


@pytest.mark.parametrize("name", ["a.tar", "b.tar"])
def test_a_caption_is_no_class_of_a_sample_without_a_class_file_in_any_shard(tmp_path, name):
    other = [("2.png", ""), ("2.txt", "a dog in a bog")]
    with tarfile.open(tmp_path / name, "w") as tar:
        for member, text in other:
            add(tar, member, text.encode())
    packed(tmp_path / ("b.tar" if name == "a.tar" else "a.tar"), SAMPLE)
    listing = read_tars(tmp_path, "x")
    assert listing.classes == ("cat",)
    assert f"images without a class passed over: {tmp_path / name}/2.png" in " ".join(listing.notes)


def test_text_is_the_class_where_no_sample_has_a_class_file(tmp_path):
    members = [("1.txt", "cat"), ("1.png", ""), ("1.caption", "a cat"), ("2.png", "")]
    assert packed(tmp_path / "a.tar", members)[0] == [("1.png", "cat")]


@pytest.mark.parametrize(
    "options", [{"format": tarfile.PAX_FORMAT}, {"format": tarfile.GNU_FORMAT}]
)
@pytest.mark.parametrize("name", ["./1", "deep/" * 60 + "1", "thé/ñ", "a.b/1"])
def test_members_are_matched_however_their_names_are_kept(tmp_path, options, name):
    members = [(f"{name}.png", ""), (f"{name.removeprefix('./')}.cls", "cat")]
    found, _ = packed(tmp_path / "a.tar", members, **options)
    assert [label for _, label in found] == ["cat"]


def test_of_members_of_one_name_the_last_counts(tmp_path):
    members = [("1.png", "a"), ("1.cls", "dog"), ("1.png", "bcd"), ("1.cls", "cat")]
    assert packed(tmp_path / "a.tar", members)[0] == [("1.png", "cat")]
    (example,) = read_tars(tmp_path / "a.tar", "x").examples
    assert example.part.size == 3


def test_a_sample_may_have_dots_and_its_class_is_found_up_to_the_first(tmp_path):
    members = [("1.left.png", ""), ("1.cls", "cat"), ("v1.2.png", ""), ("v1.2.cls", "dog")]
    assert packed(tmp_path / "a.tar", members)[0] == [("1.left.png", "cat"), ("v1.2.png", "dog")]


def test_a_mask_is_not_trained_on_beside_its_image(tmp_path):
    members = [("1.mask.png", ""), ("1.jpg", ""), ("1.cls", "cat"), ("1.depth.png", "")]
    found, said = packed(tmp_path / "a.tar", members)
    assert found == [("1.jpg", "cat")]
    assert "further images of a sample passed over" in said
    assert "1.mask.png" in said
    assert "1.depth.png" in said


def test_where_nobody_can_tell_which_image_is_the_sample_none_is_and_it_is_said(tmp_path):
    members = [("1.mask.png", ""), ("1.rgb.png", ""), ("1.cls", "cat")]
    with pytest.raises(ValueError, match=r"holds no samples.*1\.mask\.png, .*1\.rgb\.png"):
        packed(tmp_path / "a.tar", members)


def test_hard_links_are_the_files_that_they_share_and_other_links_are_named(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "1.png", b"abc")
        add(tar, "1.cls", b"cat")
        for name, kind in (("2.png", tarfile.LNKTYPE), ("3.png", tarfile.SYMTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "1.png"
            tar.addfile(link)
            add(tar, name.replace("png", "cls"), b"dog")
    listing = read_tars(tmp_path / "a.tar", "x")
    one, two = listing.examples
    assert (two.path.name, two.label) == ("2.png", "dog")
    assert (two.part.offset, two.part.size) == (one.part.offset, one.part.size)
    assert "3.png (a link" in " ".join(listing.notes)

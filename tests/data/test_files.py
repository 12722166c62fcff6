"""What programs leave behind is passed over alike by all who list; endings are Pillow's."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adaptune.data.files import ENDINGS, image_files, is_image
from adaptune.data.inputs.image import FOREIGN, read_image
from adaptune.data.readers.folder import is_flat, read_flat, read_folder
from adaptune.data.readers.manifest import read_manifest
from adaptune.data.readers.tars import read_tars
from adaptune.data.rotation import list_domains_below
from adaptune.data.sources import read_source

LEFT = [
    "__MACOSX/cat/._1.png",
    "__MACOSX/1.png",
    "cat/._1.png",
    "cat/.DS_Store",
    "cat/.ipynb_checkpoints/1-checkpoint.png",
    "cat/deep/.cache/9.png",
    ".cache/9.png",
    ".hidden.png",
    ".git/objects/1.png",
    "cat/Thumbs.db",
    "cat/THUMBS.DB",
    "desktop.ini",
    "cat/@eaDir/1.png/thumb.jpg",
    "$RECYCLE.BIN/1.png",
    "System Volume Information/1.png",
    "lost+found/1.png",
    ".Trash-1000/files/1.png",
    "cat/.AppleDouble/1.png",
    "cat/~$1.png",
    "cat/1.png~",
    "cat/__pycache__/1.png",
    "#recycle/1.png",
    "cat/@__thumb/1.png",
]
KEPT = ["cat/1.png", "cat/6.png/2.jpg", "dog/3.JPEG"]


def write(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def listed(root: Path, kind: str) -> list[str]:
    """List images, relative to the root, as each of those who list does."""
    if kind == "folder":
        found = [example.path for example in read_folder(root, "photo").examples]
    elif kind == "flat":
        found = [example.path for example in read_flat(root, "photo").examples]
    else:
        found = image_files([root])[0]
    return [str(path.relative_to(root)) for path in found]


@pytest.mark.parametrize("kind", ["folder", "flat", "files"])
@pytest.mark.parametrize("left", LEFT)
def test_what_is_left_behind_is_passed_over_in_every_listing(tmp_path, left, kind):
    assert listed(write(tmp_path, *KEPT, left), kind) == KEPT


@pytest.mark.parametrize("left", LEFT)
def test_what_is_left_behind_in_a_tar_is_passed_over(tmp_path, left):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ["./1.png", "1.cls", left, f"{left.rpartition('.')[0]}.cls", "lone.png"]:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"cat"))
    listing = read_tars(tmp_path / "a.tar", "photo")
    assert [example.path.name for example in listing.examples] == ["1.png"]
    assert [note for note in listing.notes if "leave behind" in note]


def test_one_note_counts_what_was_left_behind_and_one_the_files_that_are_no_images(tmp_path):
    names = ["cat/._1.png", "cat/._2.png", ".DS_Store", "__MACOSX/cat/1.png", "cat/1.png~"]
    root = write(tmp_path, *KEPT, *names, "cat/a.txt", "dog/b.TXT", "dog/c.csv", "dog/README")
    notes = (
        "photo: 4 files that are no images were passed over (.txt 2, .csv 1, without an ending 1)",
        "photo: 5 hidden files and folders, or such as programs leave behind, were passed over "
        "(._* 2, *~ 1, .DS_Store 1, __MACOSX 1)",
    )
    assert read_folder(root, "photo").notes == notes
    assert tuple(image_files([root])[1]) == tuple(n.replace("photo", str(root)) for n in notes)


def test_a_folder_is_no_image_whatever_it_is_called(tmp_path):
    root = write(tmp_path, "1.png", "6.png/note.txt")
    assert image_files([root])[0] == [root / "1.png"]
    assert is_flat(root)
    (root / "7.png").symlink_to(root / "6.png")
    assert image_files([root])[0] == [root / "1.png"]
    assert not is_flat(write(tmp_path / "other", "6.png/note.txt"))


def test_a_file_that_is_named_is_taken_whatever_it_is_called(tmp_path):
    names = ["._1.png", ".cache/9.png", "notes.txt", "1.png~"]
    files = [write(tmp_path, name) / name for name in names]
    assert image_files(files) == (files, [])


def test_a_hidden_folder_that_is_given_itself_is_read(tmp_path):
    root = write(tmp_path / ".cache/photos", *KEPT)
    assert listed(root, "folder") == listed(root, "files") == KEPT


def test_what_is_left_behind_in_a_split_does_not_keep_it_from_being_one(tmp_path):
    root = write(tmp_path, "train/cat/1.png", "train/._1.png", "test/cat/2.png", "__MACOSX/1.png")
    listing = read_folder(root, "photo")
    assert listing.classes == ("cat",)
    assert [example.split for example in listing.examples] == ["test", "train"]


def test_what_is_left_behind_is_no_domain_and_no_tar(tmp_path):
    root = write(tmp_path, "photo/cat/1.png", "ink/cat/2.png", "__MACOSX/cat/1.png", ".git/a/1.png")
    write(root, "photo/._shards.tar")
    assert [one.name for one in list_domains_below(root)] == ["ink", "photo"]


def test_rows_of_a_table_that_name_what_was_left_behind_are_counted_and_hidden_ones_are_read(
    tmp_path,
):
    paths = ["cat/1.png", ".data/2.png", "__MACOSX/cat/._1.png", "cat/.ipynb_checkpoints/1.png"]
    file = tmp_path / "all.csv"
    file.write_text("\n".join(["path,label", *(f"{path},cat" for path in paths)]))
    listing = read_manifest(file, "photo")["photo"]
    assert [str(one.path.relative_to(tmp_path)) for one in listing.examples] == paths[:2]
    assert listing.notes == (
        "photo: 2 hidden files and folders, or such as programs leave behind, were passed over "
        "(.ipynb_checkpoints 1, __MACOSX 1)",
    )
    file.write_text("path,label\n__MACOSX/1.png,cat\n")
    with pytest.raises(ValueError, match=r"names no image: .*__MACOSX 1"):
        read_manifest(file, "photo")


@pytest.mark.parametrize(
    "ending", ["pgm", "pbm", "jfif", "jpe", "jp2", "tga", "ico", "PNG", "apng"]
)
def test_every_ending_of_a_picture_that_pillow_reads_is_one(tmp_path, ending):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8))
    mode = {"pgm": "L", "pbm": "1"}.get(ending, "RGB")
    file = tmp_path / f"cat/1.{ending}"
    file.parent.mkdir()
    image.convert(mode).save(file, ENDINGS[f".{ending.lower()}"])
    assert listed(tmp_path, "folder") == [f"cat/1.{ending}"]
    pixels = read_image(file)
    assert pixels.shape == (3, 16, 16)
    if ending in ("tga", "PNG", "apng"):
        assert torch.equal(pixels, torch.tensor(np.asarray(image)).permute(2, 0, 1))


@pytest.mark.parametrize("ending", ["eps", "ps", "pdf", "mpg", "hdf", "txt", "svg", "wmf", "mp4"])
def test_what_is_no_picture_or_would_start_a_program_is_no_image(ending):
    assert not is_image(f"1.{ending}")


def test_rare_kinds_are_opened_under_their_own_endings_alone(tmp_path):
    raw = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(raw, "TGA")
    for ending in ("png", "eps"):
        (tmp_path / f"1.{ending}").write_bytes(raw.getvalue())
        with pytest.raises(OSError, match=r".") as raised:
            read_image(tmp_path / f"1.{ending}")
        assert str(raised.value) == FOREIGN


def test_a_folder_of_images_without_class_folders_says_what_it_holds_and_what_is_expected(tmp_path):
    root = write(tmp_path, "1.png", "2.jpg", "empty/notes.txt", "._3.png", "readme.txt")
    with pytest.raises(ValueError, match=r".") as raised:
        read_source(root, "photo")
    said = str(raised.value)
    assert said.startswith(
        f"{root} holds 2 images directly, in no class folder: expected a folder for each class "
        "with images in it, such as CLASS/1.png (images without classes can be a --target, or be "
        "given to predict and stream)"
    )


def test_images_beside_class_folders_are_counted(tmp_path):
    notes = read_folder(write(tmp_path, *KEPT, "1.png", "2.png"), "photo").notes
    assert notes == ("photo: 2 images that lie in no class folder were passed over",)


def test_folders_that_are_all_called_as_splits_are_and_lack_classes_are_said_to_be_classes(
    tmp_path,
):
    notes = read_folder(write(tmp_path, "train/1.png", "Val/2.png"), "photo").notes
    assert len(notes) == 1
    assert "Val, train hold images directly, so they are classes" in notes[0]
    assert read_folder(write(tmp_path, "cat/3.png"), "photo").notes == ()

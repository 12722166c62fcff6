"""Folders of class folders: with splits or without, with whatever else lies around."""

import pytest

from adaptune.data.readers.folder import read_folder


@pytest.fixture
def made(tmp_path):
    """Write empty files; listing opens none of them."""

    def make(*paths: str):
        for path in paths:
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tmp_path

    return make


def found(folder) -> set[tuple[str, str, str | None]]:
    examples = read_folder(folder, "photo").examples
    return {(example.path.name, example.label, example.split) for example in examples}


def test_a_class_is_the_folder_below_the_root_however_deep_the_file_lies(made):
    folder = made("cat/1.png", "cat/more/deep/2.JPG", "dog/3.webp")
    labels = {name: label for name, label, _ in found(folder)}
    assert labels == {"1.png": "cat", "2.JPG": "cat", "3.webp": "dog"}
    assert read_folder(folder, "photo").classes == ("cat", "dog")


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "VALID", "testing")])
def test_split_folders_are_known_by_their_usual_names(made, names):
    folder = made(*(f"{name}/cat/{n}.png" for n, name in enumerate(names)))
    assert found(folder) == {
        ("0.png", "cat", "train"),
        ("1.png", "cat", "val"),
        ("2.png", "cat", "test"),
    }


def test_two_folders_of_one_split_are_both_read(made):
    folder = made("train/cat/1.png", "val/cat/2.png", "validation/cat/3.png")
    assert {("2.png", "cat", "val"), ("3.png", "cat", "val")} < found(folder)


@pytest.mark.parametrize("name", ["train", "test", "Val"])
def test_a_class_may_have_the_name_of_a_split(made, name):
    folder = made(f"{name}/1.png", "car/2.png")
    assert found(folder) == {("1.png", name, None), ("2.png", "car", None)}


def test_folders_beside_the_splits_are_passed_over_and_named(made):
    folder = made("train/cat/1.png", "annotations/2.png")
    assert found(folder) == {("1.png", "cat", "train")}
    assert "annotations" in " ".join(read_folder(folder, "photo").notes)


def test_the_order_of_examples_is_that_of_their_names(made):
    folder = made(*(f"cat/{n}.png" for n in (3, 1, 2)), "ant/9.png")
    names = [example.path.name for example in read_folder(folder, "photo").examples]
    assert names == ["9.png", "1.png", "2.png", "3.png"]


def test_other_files_and_empty_classes_are_counted_in_the_notes(made):
    folder = made("cat/1.png", "cat/Thumbs.db", "emu/readme.txt", "licence.txt", ".git/x/1.png")
    listing = read_folder(folder, "photo")
    assert listing.classes == ("cat", "emu")
    said = " ".join(listing.notes)
    assert "1 files that are no images were passed over (.txt 1)" in said
    assert "passed over (.git 1, Thumbs.db 1)" in said
    assert "without images: emu" in said


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no folder at .*nowhere"):
        read_folder(tmp_path / "nowhere", "photo")


@pytest.mark.parametrize("paths", [("cat/notes.txt",), ("1.png", "2.png"), (".hidden/1.png",)])
def test_a_folder_without_images_in_class_folders_says_what_was_expected(made, paths):
    with pytest.raises(ValueError, match="a folder for each class"):
        read_folder(made(*paths), "photo")

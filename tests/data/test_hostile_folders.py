"""Links in circles, closed folders and names in broken UTF-8, and the exact words about each."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptune.data.inputs.image import FOREIGN
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains
from adaptune.data.readers.folder import read_folder
from adaptune.networks.network import Preprocess
from adaptune.runtime.files import write_text


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 4, 3), np.uint8))


@pytest.fixture
def made(tmp_path):
    """Write small images below a folder and give it."""

    def make(*paths: str) -> Path:
        for path in paths:
            file = tmp_path / "photos" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            picture().save(file)
        return tmp_path / "photos"

    return make


def labels(root: Path) -> dict[str, str]:
    return {str(e.path.relative_to(root)): e.label for e in read_folder(root, "photo").examples}


CATS = {"cat/1.png": "cat", "dog/1.png": "dog"}


@pytest.mark.parametrize(
    ("link", "target", "said"),
    [
        ("cat/again", "..", "{root}/cat/again (a link to a folder)"),
        ("cat/round", "round", "{root}/cat/round (a link that leads nowhere)"),
        ("cat/more", "gone", "{root}/cat/more (a link that leads nowhere)"),
        ("again", ".", "{root}/again (a link to a folder that it lies in)"),
        ("above", "../..", "{root}/above (a link to a folder that it lies in)"),
        ("train", ".", "{root}/train (a link to a folder that it lies in)"),
        ("round", "round", "{root}/round (a link that leads nowhere)"),
        ("emu", "gone", "{root}/emu (a link that leads nowhere)"),
    ],
)
def test_a_link_that_leads_in_circles_or_nowhere_is_passed_over_and_named(made, link, target, said):
    root = made(*CATS)
    (root / link).symlink_to(target)
    assert labels(root) == CATS
    said = said.format(root=root)
    assert read_folder(root, "photo").notes == (
        f"photo: passed over with all that is in it: {said}",
    )


def test_a_class_may_be_a_link_to_a_folder_elsewhere(made, tmp_path):
    root = made(*CATS)
    (tmp_path / "far").mkdir()
    picture().save(tmp_path / "far/2.png")
    (root / "emu").symlink_to(tmp_path / "far")
    assert labels(root) == CATS | {"emu/2.png": "emu"}


def test_links_to_images_that_are_gone_are_listed_so_that_reading_names_them(made):
    root = made(*CATS)
    (root / "cat/2.png").symlink_to("gone.png")
    os.mkfifo(root / "cat/3.png")
    assert labels(root) == CATS | {"cat/2.png": "cat", "cat/3.png": "cat"}


@pytest.fixture
def closed(monkeypatch):
    """Make folders refuse to be opened, as those of another user do; tests may run as root."""

    def close(*folders: Path) -> None:
        scan = os.scandir

        def refuse(path="."):
            if Path(path) in folders:
                raise PermissionError(13, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)

    return close


def test_a_folder_that_cannot_be_opened_is_passed_over_and_named(made, closed):
    root = made(*CATS, "cat/deep/2.png", "emu/3.png")
    closed(root / "cat/deep", root / "emu")
    assert labels(root) == CATS
    assert read_folder(root, "photo").notes == (
        "photo: class folders without images: emu",
        "photo: passed over with all that is in it: "
        f"{root}/cat/deep (could not be opened: Permission denied), "
        f"{root}/emu (could not be opened: Permission denied)",
    )


@pytest.mark.parametrize("name", ["", "train"])
def test_a_root_or_split_that_cannot_be_opened_is_an_error_as_nothing_tells_the_classes(
    made, closed, name
):
    root = made("train/cat/1.png", "val/cat/2.png", "test/cat/3.png")
    closed(root / name)
    with pytest.raises(ValueError, match=".") as raised:
        read_folder(root, "photo")
    assert str(raised.value) == (
        f"{root / name} could not be opened (Permission denied): give yourself the right to read it"
    )


def test_folders_however_deep_are_listed(made):
    root = made("cat/1.png")
    deep = root / "cat"
    for _ in range(400):
        deep = deep / "a"
    deep.mkdir(parents=True)
    picture().save(deep / "2.png")
    assert len(labels(root)) == 2


BROKEN = os.fsdecode(b"caf\xe9")
"""A name that is no UTF-8, as old disks and archives have."""


def test_names_in_broken_utf8_are_read_reported_and_saved(made, tmp_path):
    root = made("dog/1.png", f"{BROKEN}/{BROKEN}.png", f"{BROKEN}/2.png")
    (root / BROKEN / f"{BROKEN}-bad\x1b[31m.png").write_bytes(b"none")
    data = open_domains(root, shares=Shares(0, 0)).with_input(Preprocess(size=4))
    assert data.classes == ("caf\\udce9", "dog")
    assert sum(map(len, data.scan("train"))) == 3
    assert data.problems == {f"{root}/caf\\udce9/caf\\udce9-bad\\x1b[31m.png": FOREIGN}
    write_text(tmp_path / "page.html", " ".join([*data.problems, *data.notes, *data.classes]))
    json.dumps(data.problems, ensure_ascii=False).encode()


def test_notes_about_broken_names_can_be_saved(made):
    root = made("dog/1.png")
    (root / BROKEN).mkdir()
    (root / "dog" / f"{BROKEN}-link").symlink_to("gone")
    notes = read_folder(root, "photo").notes
    assert notes == (
        "photo: class folders without images: caf\\udce9",
        "photo: passed over with all that is in it: "
        f"{root}/dog/caf\\udce9-link (a link that leads nowhere)",
    )
    "".join(notes).encode()

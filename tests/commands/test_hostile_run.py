"""A run on data with every kind of bad file ends well, and its results and its page name them."""

import html
import json
import os
from shutil import copyfile

import pytest

from adaptune.data.inputs.image import DAMAGED, EMPTY, FOREIGN, LARGE, MISSING, NARROW, SPECIAL

pytestmark = pytest.mark.usefixtures("drawn")

BROKEN = os.fsdecode(b"caf\xe9")


@pytest.fixture
def mess(own_photos):
    """Name all photos in broken UTF-8, and spoil a file in every way."""
    folder = own_photos / "dots"
    raw = (folder / "dots-00.png").read_bytes()
    for path in sorted(own_photos.glob("*/*")):
        path.rename(path.with_name(f"{BROKEN} {path.name}"))
    (folder / f"cut {BROKEN}.png").write_bytes(raw[:-200])
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("404")
    (folder / "link.png").symlink_to("gone.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "bomb.ppm").write_bytes(b"P6 30000 30000 255\n")
    (folder / "thread.ppm").write_bytes(b"P6 1 30000 255\n" + b"\0" * 90_000)
    return own_photos


def test_a_run_on_spoilt_data_ends_well_and_names_each_file(mess, photos, tmp_path, tiny, told):
    out, wrong = tmp_path / "run", tmp_path / "wrong/stripes"
    wrong.mkdir(parents=True)
    for path in (photos / "dots").iterdir():
        copyfile(path, wrong / f"{BROKEN} {path.name}")  # a mistake that the page shows by name
    words = [f"--ood=wrong={wrong.parent}", "--ood-images=all", "--epochs=1"]
    code, _, error = told("fit", mess, *tiny, *words, "--out", out)
    assert code == 0, error
    assert "Traceback" not in error
    folder = mess / "dots"
    said = {
        f"{folder}/bomb.ppm": LARGE,
        f"{folder}/cut caf\\udce9.png": DAMAGED,
        f"{folder}/empty.png": EMPTY,
        f"{folder}/link.png": MISSING,
        f"{folder}/pipe.png": SPECIAL,
        f"{folder}/text.png": FOREIGN,
        f"{folder}/thread.ppm": NARROW,
    }
    results = json.loads((out / "results.json").read_text())
    assert results["worst"]["wrong"]
    assert results["data"]["problems"] == said
    page = (out / "report.html").read_text(encoding="utf-8")
    for path, reason in said.items():
        assert html.escape(path) in page
        assert html.escape(reason) in page.replace("&#39;", "&#x27;")

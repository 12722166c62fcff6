"""Data sets of Hugging Face: images are read from where they lie in the Arrow files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptune import open_domains
from adaptune.commands.config import absolute_path
from adaptune.data.inputs.image import read_image
from adaptune.data.readers.arrow import is_hosted, read_arrow

pa = pytest.importorskip("pyarrow")

CLASSES = ["stripes", "dots", "rings"]


def save(folder: Path, rows: list[dict], *, step: int = 7, compress: str | None = None) -> Path:
    """Write what `Dataset.save_to_disk` writes, several batches long."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": CLASSES, "_type": "ClassLabel"},
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())]).with_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    folder.mkdir(parents=True)
    file = folder / "data-00000-of-00001.arrow"
    options = pa.ipc.IpcWriteOptions(compression=compress)
    with pa.ipc.new_stream(str(file), schema, options=options) as writer:
        for at in range(0, len(rows), step):
            writer.write_table(pa.Table.from_pylist(rows[at : at + step], schema=schema))
    state = {"_data_files": [{"filename": file.name}], "_indices_data_files": None}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def rows_of(photos: Path) -> list[dict]:
    files = sorted(photos.rglob("*.png"))
    order = np.random.default_rng(0).permutation(len(files))
    files = [files[row] for row in order]
    return [
        {
            "image": {"bytes": file.read_bytes(), "path": file.name},
            "label": CLASSES.index(file.parent.name),
        }
        for file in files
    ]


@pytest.fixture(scope="module")
def saved(photos, tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("hub") / "photos", rows_of(photos))


def test_images_are_those_of_the_files_bit_for_bit(saved, photos):
    listing = read_arrow(Path(f"hf:{saved}"), "photos")
    assert listing.classes == ("dots", "rings", "stripes")
    assert len(listing.examples) == 60
    for example in listing.examples:
        file = photos / example.label / example.path.name
        assert torch.equal(read_image(example.path, example.part), read_image(file))


def test_it_is_split_and_read_as_a_folder_of_the_same_files(saved, photos):
    arrow, folder = open_domains(f"hf:{saved}"), open_domains(photos)
    assert arrow.classes == folder.classes
    for name, rows in folder.sets.items():
        known = {path.name: row for row, path in enumerate(arrow.sets[name].paths)}
        for row, path in enumerate(rows.paths):
            theirs = arrow.sets[name][known[path.name], 0]
            assert torch.equal(theirs[0], rows[row, 0][0])
            assert theirs[1] == rows[row, 0][1]


def test_splits_of_a_dictionary_are_kept_and_rows_without_label_are_named(photos, tmp_path):
    rows = rows_of(photos)
    rows[40]["label"] = -1
    rows[41]["image"] = {"bytes": None, "path": None}
    for name, part in (("train", rows[:30]), ("validation", rows[30:]), ("extra", rows[:1])):
        save(tmp_path / "set" / name, part)
    said = {"splits": ["train", "validation", "extra"]}
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps(said))
    listing = read_arrow(Path(f"hf:{tmp_path / 'set'}"), "photos")
    assert [len(listing.of(name)) for name in ("train", "val")] == [30, 28]
    assert "2 rows lack image or label: photos-validation-0000010" in listing.notes[0]


def test_what_cannot_be_read_in_place_is_refused(photos, tmp_path):
    packed = save(tmp_path / "packed", rows_of(photos), compress="zstd")
    with pytest.raises(ValueError, match=r"compressed|could not be read as an Arrow file"):
        read_arrow(Path(f"hf:{packed}"), "photos")
    cut = save(tmp_path / "cut", rows_of(photos))
    file = cut / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="save it again"):
        read_arrow(Path(f"hf:{cut}"), "photos")


def test_a_run_is_trained_on_it_from_any_folder(saved, sketches, tiny, tmp_path, told, monkeypatch):
    monkeypatch.chdir(saved.parent)
    words = ["--method=lp", "--cs=3", f"--ood=sketch={sketches}", "--out", tmp_path / "run"]
    assert told("fit", f"hf:{saved.name}", *tiny, *words)[0] == 0
    assert f"hf:{saved}" in (tmp_path / "run" / "config.yaml").read_text()
    assert absolute_path("hf:cifar10") == "hf:cifar10"
    assert is_hosted(Path("hf:cifar10"))


def test_the_library_s_own_folders_are_read(photos, tmp_path):
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(photos), cache_dir=str(tmp_path / "cache")
    )
    rows = [{"image": str(file), "label": file.parent.name} for file in photos.rglob("*.png")]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)}
    made = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    made.save_to_disk(tmp_path / "saved")
    found.save_to_disk(tmp_path / "dictionary")
    for name in ("saved", "dictionary"):
        listing = read_arrow(Path(f"hf:{tmp_path / name}"), "photos")
        assert len(listing.examples) == 60
        for one in listing.examples[::7]:
            file = photos / one.label / one.path.name
            assert torch.equal(read_image(one.path, one.part), read_image(file))

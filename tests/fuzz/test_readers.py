"""Readers that are fed damaged bytes: never a crash, a hang, a lost row or a wrong label."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter

import numpy as np
import pytest
import torch
from damage import damaged, encoded, images, table
from PIL import Image
from safetensors.torch import save

from adaptune.data.files import ENDINGS
from adaptune.data.inputs import image as words
from adaptune.data.inputs.image import read_image, transform_for
from adaptune.data.inputs.pixels import FRACTIONS
from adaptune.data.listing import Shares
from adaptune.data.loading import Loading
from adaptune.data.opening import open_domains
from adaptune.data.readers.manifest import read_manifest
from adaptune.networks.network import FORMAT, Origin, Preprocess
from adaptune.networks.serialization import read_description, read_weights

pytestmark = [pytest.mark.alone, pytest.mark.no_cover]

SECONDS = 5
BITS = {"MSP", "XBM"}
REASONS = {
    words.EMPTY,
    words.FOREIGN,
    words.DAMAGED,
    words.LARGE,
    words.NARROW,
    FRACTIONS,
}


def often(few: int, many: int) -> pytest.MarkDecorator:
    """Run with a few damaged files, or with many where time does not matter."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


def timed(read: Callable[[], str]) -> str:
    """Name the outcome of reading, which has to come in time."""
    began = perf_counter()
    outcome = read()
    assert perf_counter() - began < SECONDS
    return outcome


@often(500, 10_000)
def test_damaged_images_are_read_or_refused_in_plain_words(tmp_path, count):
    whole, file = images(), tmp_path / "image"
    kinds = list(whole)

    def read() -> str:
        try:
            pixels = read_image(file)
        except OSError as error:
            return str(error)
        assert pixels.dtype == torch.uint8
        assert pixels.dim() == 3
        assert len(pixels) == 3
        assert pixels.numel()
        return "read"

    outcomes = Counter()
    for number in range(count):
        rng = Random(f"image {number}")
        raw = whole[kinds[number % len(kinds)]]
        file.write_bytes(damaged(raw, whole[rng.choice(kinds)], rng))
        outcomes[timed(read)] += 1
    print(outcomes)
    assert {"read", words.DAMAGED, words.FOREIGN} <= set(outcomes) <= {"read", *REASONS}


def rare() -> dict[str, bytes]:
    """Draw one file of each kind that is opened under its own ending alone, if Pillow writes it."""
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8))
    drawn = {}
    for ending, kind in ENDINGS.items():
        with suppress(KeyError, OSError, ValueError):
            drawn[ending] = encoded(colour if kind not in BITS else colour.convert("1"), kind)
    return {ending: raw for ending, raw in drawn.items() if ENDINGS[ending] not in words.KINDS}


@often(300, 5_000)
def test_damaged_images_of_rare_kinds_are_read_or_refused_in_plain_words(tmp_path, count):
    whole = rare()
    assert {".tga", ".ico", ".qoi", ".xbm"} <= set(whole)
    endings = sorted(whole)

    def read(file: Path) -> str:
        try:
            pixels = read_image(file)
        except OSError as error:
            return str(error)
        assert pixels.dtype == torch.uint8
        assert pixels.shape[0] == 3
        return "read"

    outcomes = Counter()
    for number in range(count):
        rng = Random(f"rare {number}")
        ending = endings[number % len(endings)]
        file = tmp_path / f"image{ending}"
        file.write_bytes(damaged(whole[ending], whole[rng.choice(endings)], rng))
        outcomes[timed(partial(read, file))] += 1
    print(outcomes)
    assert {"read", words.DAMAGED, words.FOREIGN} <= set(outcomes) <= {"read", *REASONS}


@often(200, 2_000)
def test_among_damaged_images_every_other_one_keeps_its_row_and_label(tmp_path, count):
    whole = images()
    kinds = list(whole)
    for number in range(count):
        rng = Random(f"row {number}")
        kind = rng.choice(kinds)
        raw = whole[kind]
        raw = damaged(raw, whole[rng.choice(kinds)], rng) if rng.random() < 0.7 else raw
        file = tmp_path / f"class {number % 7}" / f"{number}.{kind}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(raw)
    look = Preprocess(size=6)
    data = open_domains(tmp_path, shares=Shares(0, 0), loading=Loading(batch_size=7))
    data = data.with_input(look)
    files = data.sets["train"]
    seen = []
    for rows in data.scan("train"):
        for x, label, row in zip(rows.x, rows.y.tolist(), rows.index.tolist(), strict=True):
            assert data.classes[label] == files.paths[row].parent.name
            assert torch.equal(x, transform_for(look)(read_image(files.paths[row])))
            seen.append(str(files.paths[row]))
    assert sorted([*seen, *data.problems]) == sorted(map(str, files.paths))
    assert min(len(seen), len(data.problems)) > count / 10


def rows_of(file: Path) -> list[tuple[Path, str]]:
    """Read a table line by line, none of which can have swallowed another; blank ones are none."""
    lines = io.StringIO(file.read_bytes().decode("utf-8-sig"), newline="")
    header, *rows = (next(csv.reader([line])) for line in lines if line.strip("\r\n"))
    path, label = header.index("path"), header.index("label")
    return [(file.parent / row[path], row[label].strip()) for row in rows]


@often(500, 10_000)
def test_a_damaged_table_is_refused_or_gives_each_row_that_stands_in_it(tmp_path, count):
    whole, file = table(), tmp_path / "all.csv"

    def read() -> str:
        try:
            domains = read_manifest(file, "all")
        except ValueError as error:
            return "refused" if str(error).startswith(str(file)) else str(error)
        examples = [example for listing in domains.values() for example in listing.examples]
        assert sorted((one.path, one.label) for one in examples) == sorted(rows_of(file))
        return "read"

    outcomes = Counter()
    for number in range(count):
        file.write_bytes(damaged(whole, whole, Random(f"table {number}")))
        outcomes[timed(read)] += 1
    print(outcomes)
    assert set(outcomes) == {"read", "refused"}


def parquet() -> bytes:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    raw = io.BytesIO()
    pandas.read_csv(io.BytesIO(table())).to_parquet(raw)
    return raw.getvalue()


def torch_file(**options: bool) -> bytes:
    raw = io.BytesIO()
    torch.save(torch.nn.BatchNorm2d(4).state_dict(), raw, **options)
    return raw.getvalue()


def described() -> bytes:
    origin = {"kind": "timm", "name": "resnet18", "head": "fc"}
    look = {"size": 32, "mean": [0.5], "std": [0.5], "interpolation": "bilinear", "crop": 0.9}
    said = {"origin": origin, "classes": ["cat", "dog"], "preprocess": look}
    return json.dumps({"format": 1, "batchnorm": "eval"} | said, indent=2).encode()


def read_parts(file: Path) -> None:
    """Read a description, and build what it describes as far as that takes no time."""
    said = read_description(file, FORMAT)
    Origin(**said["origin"])
    Preprocess(**said["preprocess"])


FILES = {
    "all.parquet": (parquet, lambda file: read_manifest(file, "all")),
    "w.safetensors": (lambda: save(torch.nn.BatchNorm2d(4).state_dict()), read_weights),
    "w.pth": (torch_file, read_weights),
    "old.pth": (lambda: torch_file(_use_new_zipfile_serialization=False), read_weights),
    "network.json": (described, read_parts),
}


@often(100, 3_000)
@pytest.mark.parametrize("name", FILES)
def test_other_damaged_files_are_read_or_refused_in_a_sentence(tmp_path, name, count):
    make, reader = FILES[name]
    whole, file = make(), tmp_path / name

    def read() -> str:
        try:
            reader(file)
        except ValueError as error:
            return "refused" if str(error).startswith(str(file)) else str(error)
        return "read"

    outcomes = Counter()
    for number in range(count):
        file.write_bytes(damaged(whole, whole, Random(f"{name} {number}")))
        outcomes[timed(read)] += 1
    print(outcomes)
    assert set(outcomes) <= {"read", "refused"}
    assert outcomes["refused"] > outcomes["read"]


@pytest.mark.parametrize("name", FILES)
def test_what_is_not_damaged_is_read(tmp_path, name):
    make, reader = FILES[name]
    (tmp_path / name).write_bytes(make())
    reader(tmp_path / name)

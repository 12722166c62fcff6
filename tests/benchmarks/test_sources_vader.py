"""Rated sentences of four places: read from the archive, drawn alike, and tested apart."""

from __future__ import annotations

import io
import tarfile
import tomllib
from collections import Counter

import pytest

from adaptune.data.loading import Loading
from benchmarks.settings import ROOT, Bench
from benchmarks.sources import vader


def packed(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An archive of two hundred sentences a place, a fifth of them too neutral for a label."""
    monkeypatch.setattr(vader, "DRAWN", {"train": 12, "val": 2, "test": 10})
    rated = {}
    for name, begins in vader.RATED.items():
        lines = (f"{n}\t{(n % 5 - 2) * 0.6:.1f}\tthe {name} number {n}.\r\n" for n in range(200))
        rated[f"hutto_ICWSM_2014/{begins}_GroundTruth.txt"] = "".join(lines).encode()
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / vader.ARCHIVE).write_bytes(packed({vader.INNER: packed(rated)}))
    return folder


def test_a_sentence_has_the_sign_of_its_rating_and_none_near_zero(place, tmp_path):
    known = vader.listings(place, tmp_path / "work")
    assert list(known) == list(vader.RATED)
    for name, one in known.items():
        counted = Counter((int(e.text.split()[3][:-1]) % 5 > 2, e.label) for e in one.examples)
        assert counted == {(True, "positive"): 80, (False, "negative"): 80}
        assert all(e.text.startswith(f"the {name}") for e in one.examples)
    again = vader.listings(tmp_path / "work" / "vader", tmp_path / "none")
    assert [one.examples[0].text for one in again.values()] == [
        one.examples[0].text for one in known.values()
    ]


def test_labels_are_drawn_alike_and_no_sentence_is_on_both_sides(place, tmp_path):
    known = vader.listings(place, tmp_path)
    asked = {"classes": ["negative", "positive"], "loading": Loading()}
    data = vader.pair(known, ["movies"], "tweets", adapts=True, **asked)
    assert {split: len(rows) for split, rows in data.sets.items()} == {
        "train": 24,
        "val": 4,
        "test": 20,
    }
    assert Counter(e.label for e in data.ood["tweets"].examples) == {"negative": 10, "positive": 10}
    tested = {e.text for e in data.ood["tweets"].examples}
    assert {e.text for e in data.target.rows.examples} == tested
    few = vader.pair(known, ["movies"], "tweets", adapts=False, few=3, seed=1, **asked)
    assert few.parts["train"] == (24, 6)
    assert not {e.text for e in few.sets["train"].examples} & tested
    other = vader.pair(known, ["movies"], "tweets", adapts=False, few=3, seed=2, **asked)
    assert few.sets["train"].paths != other.sets["train"].paths
    begun = vader.pair(known, ["movies"], "tweets", adapts=True, begun=True, **asked)
    assert (set(begun.sets), len(begun.augmented)) == ({"test"}, 0)


def test_without_the_archive_the_files_that_would_do_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(vader.sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(ValueError, match="movies, amazon, nyt, tweets as CSVs"):
        vader.listings(tmp_path, tmp_path / "work")


def test_the_protocol_lays_out_every_pair_with_every_variant(place, tmp_path):
    protocol = tomllib.loads((ROOT / "protocols" / "texts.toml").read_text()) | {"seeds": [0]}
    bench = Bench(protocol, vader.listings(place, tmp_path), tmp_path, vader.pair)
    for name, part in protocol["parts"].items():
        cells = list(bench.cells(name))
        assert len({cell.domain for cell in cells}) == 12
        seeds = [one.get("seeds", [0]) for one in part["variants"].values()]
        assert len(cells) == 12 * sum(map(len, seeds))
        for cell in cells:
            assert cell.plan.optimizer == ("sgd" if cell.method == "daft" else "adamw")

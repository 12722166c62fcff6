"""`predict` gives every file a line: a label and how sure it is, or what is wrong with it."""

import csv
import json

import pytest


def lines(file) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as rows:
        return list(csv.DictReader(rows))


@pytest.fixture
def broken(tmp_path):
    file = tmp_path / "broken, with a comma.png"
    file.write_bytes(b"no image")
    return file


def test_files_and_folders_are_labelled_and_broken_files_have_a_reason(
    finished, photos, broken, tmp_path, told
):
    out = tmp_path / "labels.csv"
    one = photos / "rings" / "rings-03.png"
    gone = tmp_path / "gone.png"
    words = [photos / "dots", one, broken, gone, "--out", out, "--batch-size", 7]
    code, _, error = told("predict", finished, *words)
    assert code == 0
    assert "2 of them could not be read" in error
    found = lines(out)
    assert list(found[0]) == ["path", "predicted", "confidence", "problem"]
    expected = [*sorted((photos / "dots").iterdir()), one, broken, gone]
    assert [line["path"] for line in found] == [str(path) for path in expected]
    for line in found[:-2]:
        assert line["predicted"] in ("dots", "rings", "stripes")
        assert 1 / 3 <= float(line["confidence"]) <= 1
        assert not line["problem"]
    for line in found[-2:]:
        assert (line["predicted"], line["confidence"]) == ("", "")
        assert line["problem"]


def test_labels_are_those_that_the_run_was_scored_with(finished, finished_results, photos, told):
    code, out, _ = told("predict", finished, photos, "--out", "/dev/null", "--json")
    assert code == 0
    rows = json.loads(out)["rows"]
    tested = finished_results["scores"]["id"]
    wrong = {row["path"] for row in rows if row["predicted"] not in row["path"].split("/")[-2]}
    missed = {mistake["path"] for mistake in finished_results["worst"]["id"]}
    assert missed <= wrong
    assert len(rows) == len(list(photos.glob("*/*")))
    assert len(wrong) / len(rows) < 0.4
    assert tested["count"] * (1 - tested["accuracy"] / 100) == pytest.approx(len(missed))


def test_how_files_are_grouped_changes_no_label(finished, photos, tmp_path, told):
    found = []
    for size in (1, 64):
        out = tmp_path / f"{size}.csv"
        assert told("predict", finished, photos, "--out", out, "--batch-size", size)[0] == 0
        found.append([(line["path"], line["predicted"]) for line in lines(out)])
    assert found[0] == found[1]


def test_a_folder_without_images_is_an_error(finished, tmp_path, told):
    code, _, error = told("predict", finished, tmp_path, "--out", tmp_path / "labels.csv")
    assert code == 1
    assert f"no image files in {tmp_path}" in error
    assert not (tmp_path / "labels.csv").exists()


def test_broken_files_alone_are_no_crash(finished, broken, tmp_path, told):
    assert told("predict", finished, broken, "--out", tmp_path / "labels.csv")[0] == 0
    (line,) = lines(tmp_path / "labels.csv")
    assert line["problem"]

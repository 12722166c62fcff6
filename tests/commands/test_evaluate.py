"""`evaluate` scores a run as it was scored, on its own data, on others, and without its source."""

import json
from shutil import copytree, rmtree

import pytest


def evaluated(told, *words) -> dict:
    code, out, error = told("evaluate", *words, "--json")
    assert code == 0, error
    return json.loads(out)


def test_a_run_is_scored_on_its_own_data_as_it_was(finished, finished_results, told):
    assert evaluated(told, finished)["scores"] == finished_results["scores"]


def test_the_table_names_every_test_set(finished, told):
    code, out, error = told("evaluate", finished)
    assert code == 0
    assert not out
    assert "id" in error
    assert "sketch" in error


def test_named_data_are_tested_alone_and_without_the_subjects_of_training(
    finished, finished_results, sketches, told
):
    found = evaluated(told, finished, "--data", f"drawn={sketches}")["scores"]
    assert found == {"drawn": finished_results["scores"]["sketch"]}


@pytest.fixture
def orphaned(finished, two_domains, tmp_path):
    """A run whose training images are gone."""
    folder = copytree(finished, tmp_path / "run")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(str(two_domains / "photo"), "/gone/photo"))
    return folder


def test_where_the_source_is_gone_all_of_the_named_data_are_tested(orphaned, sketches, told):
    found = evaluated(told, orphaned, "--data", f"sketch={sketches}")["scores"]
    assert list(found) == ["sketch"]
    assert found["sketch"]["count"] == len(list(sketches.glob("*/*")))


def test_where_the_source_is_gone_and_nothing_is_named_that_is_said(orphaned, told):
    code, _, error = told("evaluate", orphaned)
    assert code == 1
    assert "--data NAME=DIR" in error


def test_a_saved_network_is_enough(finished, sketches, told):
    found = evaluated(told, finished / "best", "--data", f"sketch={sketches}")
    assert found["scores"]["sketch"]["count"] == len(list(sketches.glob("*/*")))


def test_classes_and_broken_files_that_came_since_are_left_out_and_said(
    finished, own_photos, photos, tmp_path, told
):
    run = copytree(finished, tmp_path / "run")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(photos), str(own_photos)))
    copytree(own_photos / "dots", own_photos / "apples")
    rmtree(own_photos / "rings")
    for path in (own_photos / "stripes").iterdir():
        path.write_bytes(b"broken")
    code, out, error = told("evaluate", run, "--json")
    assert code == 0
    assert "left out: apples" in error
    assert f"left out {own_photos}/stripes" in error
    found = json.loads(out)
    assert all("stripes" in path for path in found["problems"])
    counts = [sum(row) for row in found["scores"]["id"]["confusion"]]
    assert counts[0] > 0
    assert counts[1:] == [0, 0]

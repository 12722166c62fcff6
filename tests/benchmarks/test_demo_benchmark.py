"""The demo's benchmark keeps what the demo's comparison came to."""

import json
from pathlib import Path

import pytest

from benchmarks import demo


@pytest.fixture
def ran(monkeypatch):
    """Let the demo be over at once; give the words that it was run with."""
    words = []

    def run(given):
        words.extend(given)
        folder = Path(given[0].partition("=")[2]) / "comparison"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text('{"rows": [], "versus": [1]}')

    monkeypatch.setattr(demo.demo, "run", run)
    return words


def test_the_demo_runs_with_three_seeds_and_its_results_are_kept(ran, tmp_path):
    work, out = tmp_path / "runs", tmp_path / "results"
    out.mkdir()
    demo.main(["--work", str(work), "--out", str(out)])
    assert ran == [f"--out={work / 'demo'}", "--seeds=3"], "all else is the demo's own"
    found = json.loads((out / "demo.json").read_text())
    assert (found["rows"], found["versus"]) == ([], [1])


def test_epochs_and_jobs_are_passed_on_where_they_are_given(ran, tmp_path):
    words = ["--seeds=1", "--epochs=2", "--jobs=1", "--out", str(tmp_path)]
    demo.main([*words, "--work", str(tmp_path / "runs")])
    assert ran[1:] == ["--seeds=1", "--epochs=2", "--jobs=1"]

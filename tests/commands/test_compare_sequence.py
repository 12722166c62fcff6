"""`compare --sequence` trains on one domain after the other and tells what is forgotten."""

import json
from dataclasses import replace

import pytest
from conftest import draw_domain

from adaptune.commands import main
from adaptune.report import page
from adaptune.results.row import HOME
from adaptune.results.run import RunResults
from adaptune.results.score import Measure, Score, Scores
from adaptune.results.sequence import SequenceSummary, sequence_table, sequences
from adaptune.studies import grid

pytestmark = pytest.mark.usefixtures("drawn")

ORDER = ("photo", "comic")


def results(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder of two tiny domains, one of which has a class of its own and lacks one."""
    folder = tmp_path_factory.mktemp("two")
    for number, name in enumerate(ORDER):
        draw_domain(folder / name, shift=30.0 * number, each=10)
    (folder / "comic" / "rings").rename(folder / "comic" / "zigzag")
    return folder


@pytest.fixture(scope="module")
def words(two, tiny) -> list[str]:
    how = ["--epochs=1", "--seeds=2", "--methods=ft", "--sequence=photo,comic"]
    return ["compare", str(two), *tiny, *how]


@pytest.fixture(scope="module")
def done(tmp_path_factory, words):
    folder = tmp_path_factory.mktemp("sequence") / "all"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page, "write_run_report", lambda place: place / "report.html")
        assert main([*words, "--out", str(folder)]) == 0
    return folder


def test_each_run_goes_on_from_the_last_ones_network_with_the_classes_of_all(done):
    found = results(done)
    rows = [(row["domain"], row["seed"]) for row in found["rows"]]
    assert rows == [("photo", 0), ("comic", 0), ("photo", 1), ("comic", 1)]
    for row in found["rows"]:
        one = results((done / row["config"]).parent)
        assert one["classes"] == ["dots", "rings", "stripes", "zigzag"]
        start = str(done / "runs/photo" / f"ft-{row['seed']}")
        assert one.get("start", "") == (start if row["domain"] == "comic" else "")


def test_domains_are_tested_on_the_same_images_at_every_step(done):
    rows = [results((done / row["config"]).parent) for row in results(done)["rows"][:2]]
    first, second = (one["data"]["counts"] for one in rows)
    assert first["test"] == second["photo"]
    assert second["test"] == first["comic"]


def test_measures_are_those_of_the_rows(done):
    found = results(done)
    (line,) = found["sequence"]
    own = {(row["domain"], row["seed"]): row for row in found["rows"]}
    lost, ends, before = [], [], []
    for seed in (0, 1):
        first, second = own["photo", seed], own["comic", seed]
        lost.append(first["id_accuracy"] - second["ood"]["photo"])
        ends.append((second["id_accuracy"] + second["ood"]["photo"]) / 2)
        before.append(first["ood"]["comic"])
    for name, values in (("forgetting", lost), ("last", ends), ("transfer", before)):
        assert line[name]["mean"] == pytest.approx(sum(values) / 2)
    assert (line["method"], line["seeds"], line["domains"]) == ("ft", 2, list(ORDER))
    text = (done / "report.html").read_text()
    for told in ("In sequence", "forgetting", "photo, comic"):
        assert told in text


def test_what_is_finished_is_not_run_again(done, words, monkeypatch):
    before = results(done)
    monkeypatch.setattr(grid, "experiment", lambda *_, **__: pytest.fail("it was run again"))
    monkeypatch.setattr(page, "write_run_report", lambda place: place / "report.html")
    assert main([*words, "--out", str(done)]) == 0
    assert results(done)["sequence"] == before["sequence"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--tune=2"], "leave out --tune"),
        (["--sequence=photo"], "two domains or more"),
        (["--sequence=photo,sketch"], "no domain 'sketch'"),
        (["--source=a=b"], "--sequence photo,comic chooses domains itself"),
    ],
)
def test_what_does_not_go_with_a_sequence_is_refused(words, tmp_path, capsys, more, told):
    assert main([*words, *more, "--out", str(tmp_path / "no")]) != 0
    assert told in " ".join(capsys.readouterr().err.split())


def test_three_steps_are_counted_by_hand_and_where_lower_is_better():
    measure = Measure("mae", "", "lower")
    reached = [[1.0, 5.0, 9.0], [2.0, 1.0, 7.0], [4.0, 3.0, 2.0]]
    names = ["a", "b", "c"]

    def scored(value: float) -> Scores:
        return Scores(Score("mae", value, value, value, unit="", better="lower"), 0.0, 1)

    def run(step: int) -> RunResults:
        scores = {
            HOME if at == step else name: scored(reached[step][at]) for at, name in enumerate(names)
        }
        return replace(RunResults("ft", 0, 1, measure), domain=names[step], scores=scores)

    (found,) = sequences([run(step) for step in range(3)], names)
    assert found.last.mean == 3
    assert found.average.mean == pytest.approx(34 / 9)
    assert found.transfer.mean == (5 + (9 + 7) / 2) / 2
    assert found.forgetting.mean == ((4 - 1) + (3 - 1)) / 2
    assert SequenceSummary.from_dict(found.to_dict()) == found
    title, columns, rows = sequence_table([found], measure)
    assert columns[-3:] == names
    assert title.endswith("a, b, c")
    assert "to" not in rows[0][1]

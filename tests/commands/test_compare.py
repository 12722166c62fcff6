"""`compare` runs what is missing and nothing twice, and writes rows that others can read."""

import json
from shutil import copytree

import pytest
import yaml

from adaptune.commands import main
from adaptune.runs.checkpoint import Checkpoints
from adaptune.runs.folder import Run
from adaptune.selection import SCORES
from adaptune.selection.bag import BAG_SCORES
from adaptune.studies import grid

ACCURACIES = {"id_accuracy", "ood", "ood_accuracy"}
ROW = {"method", "domain", "seed", "distortion", "seconds", "config"} | ACCURACIES
SET = ["lp.cs=5", "ft.lr=0.01", "ft.average=ema", "ft.interpolate=0.5"]


@pytest.fixture(scope="module")
def words(photos, sketches, tiny) -> list[str]:
    return ["compare", str(photos), f"--ood=sketch={sketches}", *tiny, "--epochs=1"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory, words):
    """A finished comparison of two methods over two seeds: to read only."""
    folder = tmp_path_factory.mktemp("compared") / "all"
    several = ["--methods", "ft, lp", "--seeds=2", "--set", *SET]
    assert main([*words, *several, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def again(compared, tmp_path, words):
    """The words that made a comparison, and a copy of it that a test may change."""
    folder = copytree(compared, tmp_path / "all")
    several = ["--methods=ft,lp", "--seeds=2", "--set", *SET]
    return [*words, *several, "--out", str(folder)], folder


def results(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_results_have_one_row_a_method_and_seed_with_just_the_documented_keys(compared):
    rows = results(compared)["rows"]
    assert [(row["method"], row["seed"]) for row in rows] == [
        (method, seed) for seed in (0, 1) for method in ("ft", "lp")
    ]
    for row in rows:
        assert set(row) == ROW
        assert row["domain"] == "photo"
        assert set(row["distortion"]) == {"cosine", "l2"}
        assert row["ood"] == {"sketch": row["ood_accuracy"]}
        assert 0 <= row["id_accuracy"] <= 100
        assert row["seconds"] > 0


def test_the_summary_averages_over_seeds(compared):
    found = results(compared)
    for line in found["summary"]:
        own = [row for row in found["rows"] if row["method"] == line["method"]]
        assert line["seeds"] == 2
        assert line["id"]["mean"] == pytest.approx(sum(row["id_accuracy"] for row in own) / 2)
        assert line["ood"]["low"] <= line["ood"]["mean"] <= line["ood"]["high"]


def test_settings_reach_the_method_that_they_are_for(compared):
    assert results(compared / "runs/lp-0")["options"] == {"cs": 5}
    assert results(compared / "runs/ft-1")["options"]["lr"] == 0.01


def test_settings_of_a_plan_reach_the_plan_of_the_method_that_they_are_for(compared):
    found = {name: Checkpoints(compared / f"runs/{name}-0/checkpoints") for name in ("ft", "lp")}
    states = {name: one.newest().state["fit"] for name, one in found.items()}
    assert states["ft"]["average"]["count"] == states["ft"]["progress"]["epoch"] * 2
    assert "average" not in states["lp"]
    for name, said in (("ft", 0.5), ("lp", None)):
        config = yaml.safe_load((compared / f"runs/{name}-0/config.yaml").read_text())
        assert config.get("interpolate") == said


def test_a_probe_moves_no_feature_and_fine_tuning_does(compared):
    for row in results(compared)["rows"]:
        moved = row["distortion"]["cosine"]
        assert moved > 1e-4 if row["method"] == "ft" else moved == pytest.approx(0, abs=1e-6)


def test_the_page_lists_what_each_score_would_have_chosen(compared):
    found, page = results(compared)["selection"], (compared / "report.html").read_text()
    assert set(found) == {*SCORES, *BAG_SCORES}
    for name, one in found.items():
        assert f"<tr><td>{name}</td>" in page
        assert sum(one["chose"].values()) == (one["gap"] is not None)
    assert found["agreement"]["gap"] is not None
    assert found["distortion"]["chose"] == {"lp": 1}  # a probe moves no feature


def test_every_row_names_a_config_that_fit_reproduces_it_from(compared, tmp_path):
    row = results(compared)["rows"][2]
    config = str(compared / row["config"])
    assert main(["fit", "--config", config, "--out", str(tmp_path / "run")]) == 0
    alone = results(tmp_path / "run")
    same = ROW - {"domain", "seconds", "config"}
    assert {key: alone[key] for key in same} == {key: row[key] for key in same}


class Ran(BaseException):
    """Says that a run was about to begin: no `Exception`, since a grid goes on after those."""


@pytest.fixture
def no_run(monkeypatch):
    def begin(run, *_, **__):
        raise Ran(run.folder.name)

    monkeypatch.setattr(grid, "experiment", begin)


@pytest.mark.usefixtures("no_run")
def test_finished_runs_are_not_run_again_wherever_their_folder_is_now(again, compared, told):
    words, folder = again
    code, out, _ = told(*words, "--json")
    assert code == 0
    assert results(folder)["rows"] == results(compared)["rows"]
    assert json.loads(out) == results(folder)


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize(
    ("change", "runs"),
    [
        (["--epochs=2"], "ft-0"),
        (["--augment=none"], "ft-0"),
        (["--set", "lp.cs=6", "ft.lr=0.01"], "lp-0"),
    ],
)
def test_other_settings_are_another_run(again, change, runs):
    with pytest.raises(Ran, match=runs):
        main([*again[0], *change])


@pytest.mark.usefixtures("no_run")
def test_results_of_former_settings_never_pass_for_those_of_a_run_that_was_interrupted(again):
    words, folder = again
    for _ in range(2):
        with pytest.raises(Ran, match="ft-0"):
            main([*words, "--epochs=2"])
    assert Run(folder / "runs/lp-0").results.exists(), "runs that did not begin should be left"


@pytest.mark.usefixtures("no_run")
def test_one_more_seed_runs_that_seed_alone(again):
    with pytest.raises(Ran, match="ft-2"):
        main([*again[0], "--seeds=3"])


@pytest.mark.usefixtures("no_run")
def test_a_config_given_back_asks_for_the_same_comparison(again, tmp_path):
    config = tmp_path / "all" / "config.yaml"
    assert main(["compare", "--config", str(config), "--out", str(again[1])]) == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--methods=ft,tnt"], "no method 'tnt': there are "),
        (["--seeds=0"], "--seeds must be at least 1"),
        (["--set", "lr=1"], "expected METHOD.OPTION=VALUE"),
        (["--set", "ft.lr"], "expected METHOD.OPTION=VALUE"),
        (["--set", "lp.cs=3", "--methods=ft"], "with one of ft"),
        (["--set", "ft.rate=1"], "the settings of ft are lr, batchnorm"),
        (["--set", "ft.seed=1"], "the settings of ft are lr, batchnorm"),
        (["--set", "ft.interpolate=2"], "--interpolate must be at least 0 and at most 1: got 2"),
        (["--set", "ft.average=mean"], "average=mean does not fit the plan of ft"),
        (["--set", "ft.lr=fast"], "ft.lr=fast".partition(".")[2]),
    ],
)
def test_what_cannot_be_is_explained_before_anything_runs(words, tmp_path, told, wrong, said):
    code, out, error = told(*words, *wrong, "--out", tmp_path / "all")
    assert code == 1
    assert not out
    assert said in error
    assert not (tmp_path / "all").exists()


def test_teachers_are_those_of_methods_that_learn_from_them(words, finished, tmp_path, capsys):
    out = tmp_path / "all"
    own = ["--from", str(finished), "--teacher", str(finished), "--seeds=1"]
    assert main([*words, *own, "--methods=ft,kl-dp", "--out", str(out)]) == 0
    said = {
        name: yaml.safe_load((out / f"runs/{name}-0/config.yaml").read_text())
        for name in ("ft", "kl-dp")
    }
    assert said["kl-dp"]["teacher"] == [str(finished)]
    assert "teacher" not in said["ft"]
    assert {row["method"] for row in results(out)["rows"]} == {"ft", "kl-dp"}
    capsys.readouterr()
    assert main([*words, *own, "--methods=ft", "--out", str(tmp_path / "other")]) == 1
    assert "none of ft does: leave it out" in capsys.readouterr().err

"""Networks are judged without target labels; what that costs against an oracle is told."""

import json
import math
from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from toy import CLASSES, body, domains, network

from adaptune.commands import main
from adaptune.data.shifts import FAMILIES, shifted
from adaptune.engine.evaluate import sample_outputs
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.daft import DAFT
from adaptune.metrics.sample import Sample, ranks
from adaptune.networks.network import Network
from adaptune.results.row import RunRow
from adaptune.runs.folder import Run
from adaptune.runtime.files import read_lines
from adaptune.selection import SCORES
from adaptune.selection.epochs import OF_SOURCE, selection_rule
from adaptune.selection.scoring import LabelFreeScorer
from adaptune.studies.oracle import oracle_gaps
from adaptune.tasks.classification import Classification

FABRIC = Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def trained():
    """A method with a conditioned head after two epochs on the toy, and its data."""
    method, data = DAFT(network(), Classification(len(CLASSES))), domains()
    list(fit(method, data, Plan(epochs=2)))
    return method, data


def target(model, data):
    return sample_outputs(model, data.tests()["shifted"])


def test_labels_of_the_target_change_no_score(trained):
    method, data = trained
    judge, outputs = LabelFreeScorer(method, data, FABRIC), target(method, data)
    scores = judge(outputs, outputs.features)
    assert scores.keys() == SCORES.keys()
    order = torch.randperm(len(outputs.y), generator=torch.Generator().manual_seed(0))
    for y in (outputs.y[order], torch.zeros_like(outputs.y), torch.full_like(outputs.y, -1)):
        assert judge(replace(outputs, y=y), outputs.features) == scores


def test_a_method_and_its_saved_network_are_judged_alike(trained, tmp_path):
    method, data = trained
    assert method.net.head.fold() is not method.net.head
    method.net.save(tmp_path)
    folded = Network.load(tmp_path, module=body())
    before, after = LabelFreeScorer(method, data, FABRIC), LabelFreeScorer(folded, data, FABRIC)
    assert torch.allclose(before.weight, folded.head.weight)
    assert not torch.allclose(before.weight, method.net.head.weight, rtol=0.1)
    one, other = target(method, data), target(folded, data)
    told = after(other, one.features)
    assert told == pytest.approx(before(one, one.features), abs=1e-3)


def test_judging_leaves_the_method_as_it_was(trained):
    method, data = trained
    method.train()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    LabelFreeScorer(method, data, FABRIC)(target(method, data))
    assert method.training
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


def test_large_sets_are_judged_by_a_fixed_sample_of_them(trained, monkeypatch):
    method, data = trained
    monkeypatch.setattr("adaptune.selection.scoring.SAMPLE", 10)
    monkeypatch.setattr("adaptune.engine.evaluate.Sample", lambda: Sample(10))
    judge = LabelFreeScorer(method, data, FABRIC)
    assert (len(judge.train), len(judge.val.y)) == (10, 10)
    lowest = ranks(torch.arange(30)).argsort()[:10].sort().values
    assert judge.val.index.tolist() == lowest.tolist()
    outputs = target(method, data)
    assert not any(math.isnan(score) for score in judge(outputs, outputs.features).values())


def run(domain, scores, truth):
    """A run as `oracle_gaps` sees it; a score that is not named is undefined."""
    told = {one: dict.fromkeys(SCORES) | values for one, values in scores.items()}
    return RunRow("any", domain, 0, truth, None, 1.0, label_free=told)


def test_gaps_are_those_of_a_table_worked_out_by_hand():
    runs = [
        run("x", {"y": {"snd": 1.0, "dev": 0.1}, "z": {"snd": 9.0}}, {"y": 60.0, "z": 40.0}),
        run("x", {"y": {"snd": 2.0, "dev": 0.3}, "z": {"snd": 8.0}}, {"y": 70.0, "z": 41.0}),
        run("x", {"y": {"snd": 3.0, "dev": 0.2}, "z": {"snd": 7.0}}, {"y": 65.0, "z": 50.0}),
        run("y", {"x": {"snd": 0.0, "dev": 0.5}}, {"x": 80.0}),
        run("y", {"x": {"snd": 1.0, "dev": None}}, {"x": 82.0}),
    ]
    found = oracle_gaps(runs)
    cases = {(case["trained"], case["target"]): case for case in found["snd"]["cases"]}
    assert {place: case["gap"] for place, case in cases.items()} == {
        ("x", "y"): 5.0,  # 65 was chosen, 70 was there
        ("x", "z"): 10.0,
        ("y", "x"): 0.0,
    }
    assert {place: case["runs"] for place, case in cases.items()} == {
        ("x", "y"): 3,
        ("x", "z"): 3,
        ("y", "x"): 2,
    }
    assert cases["x", "z"]["oracle"] == 50.0
    assert found["snd"]["gap"] == pytest.approx(5.0)
    assert found["snd"]["close"] == 1
    assert found["snd"]["spearman"] == pytest.approx((0.5 - 1.0 + 1.0) / 3)
    assert (found["dev"]["gap"], found["dev"]["close"]) == (1.0, 2)  # 0 on y, 2 on x
    assert found["dev"]["spearman"] == pytest.approx(1.0)


def test_a_score_that_is_never_defined_says_nothing():
    found = oracle_gaps([run("x", {"y": {"snd": 1.0}}, {"y": 60.0})])
    nothing = {key: found["dev"][key] for key in ("spearman", "gap", "close")}
    assert nothing == {"spearman": None, "gap": None, "close": 0}
    assert (found["snd"]["gap"], found["snd"]["spearman"]) == (0.0, None)


def test_names_of_scores_are_checked():
    names = [name for name in SCORES if name != "distortion"]
    assert [selection_rule(name, domains()) for name in names] == names
    with pytest.raises(ValueError, match="no score 'nonsense' to select by: there are id-val.*snd"):
        selection_rule("nonsense", domains())


def test_a_score_that_compares_runs_chooses_no_epoch():
    with pytest.raises(ValueError, match="--select distortion would choose the first epoch of any"):
        selection_rule("distortion", domains())


@pytest.mark.parametrize("name", [name for name in SCORES if name != "distortion"])
def test_scores_of_the_source_are_those_that_have_no_value_without_it(trained, name):
    """What `selection_rule` says of each score, and what the score says of itself."""
    method, data = trained
    outputs = target(method, data)
    sourceless = replace(data, sets={})
    score = LabelFreeScorer(method, sourceless, FABRIC)(outputs)[name]
    assert math.isnan(score) == (name in OF_SOURCE)


@pytest.fixture(scope="module")
def selected(tmp_path_factory, fit_words):
    """The folder of a run like ``finished``, its epoch chosen by density: to read only."""
    folder = tmp_path_factory.mktemp("selected") / "run"
    assert main([*fit_words, "--select", "snd", "--out", str(folder)]) == 0
    return folder


def test_the_epoch_of_the_highest_score_is_tested_and_its_gap_to_the_oracle_reported(selected):
    lines = read_lines(selected / "metrics.jsonl")
    found = json.loads((selected / "results.json").read_text())
    trained = [line for line in lines if line["epoch"]]  # before the first step scores mislead
    best = max(trained, key=lambda line: (line["score"], line["epoch"]))
    oracle = max(lines, key=lambda line: line["oracle_accuracy"])
    assert found["best_epoch"] == best["epoch"]
    assert found["val_accuracy"] == best["val_accuracy"]
    assert found["selection"] == {
        "by": "snd",
        "epoch": best["epoch"],
        "oracle_epoch": oracle["epoch"],
        "gap_to_oracle": oracle["oracle_accuracy"] - best["oracle_accuracy"],
    }
    assert found["ood_accuracy"] == pytest.approx(best["oracle_accuracy"])
    assert found["label_free"]["sketch"]["snd"] == pytest.approx(best["score"], abs=1e-3)
    assert "by snd" in (selected / "report.html").read_text()


def test_choosing_by_a_score_trains_the_very_same_epochs(selected, finished):
    told = ("score", "oracle_accuracy", "seconds")
    one, other = (
        [
            {key: value for key, value in line.items() if key not in told}
            for line in read_lines(folder / "metrics.jsonl")
        ]
        for folder in (selected, finished)
    )
    assert one == other
    assert json.loads((finished / "results.json").read_text())["selection"]["by"] == "id-validation"


def test_a_selected_run_that_was_interrupted_chooses_as_if_it_had_not_been(
    selected, fit_words, tmp_path, monkeypatch
):
    def interrupt(run, line):
        if line["epoch"] == 2:
            raise KeyboardInterrupt
        log(run, line)

    log = Run.log
    words = [*fit_words, "--select", "snd", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patched:
        patched.setattr(Run, "log", interrupt)
        assert main(words) == 130
    assert main(["fit", "--resume", "--out", str(tmp_path / "run")]) == 0
    one, other = (
        json.loads((folder / "results.json").read_text()) for folder in (selected, tmp_path / "run")
    )
    for key in ("best_epoch", "selection", "ood", "id_accuracy", "label_free"):
        assert one[key] == other[key]


def test_a_score_that_is_not_there_names_those_that_are(fit_words, tmp_path, told):
    code, _, error = told(*fit_words, "--select", "nonsense", "--out", tmp_path / "run")
    assert code == 1
    assert f"no score 'nonsense' to select by: there are {', '.join(SCORES)}" in error


def test_selecting_without_another_domain_says_what_to_give(photos, tiny, tmp_path, told):
    words = ["fit", photos, *tiny, "--epochs=1", "--select=snd", "--out", tmp_path / "run"]
    code, _, error = told(*words)
    assert code == 1
    assert "--select snd needs images of another domain: give some with --ood" in error


def test_made_shifts_are_accuracies_under_every_family_whatever_the_batches(trained):
    method, data = trained
    look = method.net.preprocess
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (look.mean, look.std))
    right = torch.zeros(len(FAMILIES))
    for rows in data.scan("val"):
        for at, family in enumerate(FAMILIES):
            for x, y, row in zip(rows.x, rows.y, rows.index.tolist(), strict=True):
                seen = shifted((x * std + mean).clamp(0, 1), family, row)
                with torch.no_grad():
                    said = method.eval()(((seen - mean) / std)[None]).argmax()
                right[at] += said == y
    found = LabelFreeScorer(method, data, FABRIC).shifted
    assert found.tolist() == pytest.approx((100 * right / 30).tolist())
    outputs = target(method, data)
    told = LabelFreeScorer(method, data, FABRIC)(outputs, outputs.features)
    assert told["made-shifts"] == pytest.approx(float(found.mean()))


def test_an_epoch_is_chosen_by_made_shifts_without_images_of_another_domain(
    photos, tiny, told, tmp_path
):
    run = tmp_path / "run"
    words = ["--method=ft", "--select=made-shifts", "--epochs=1", f"--out={run}"]
    code, _, error = told("fit", photos, *tiny, *words)
    assert code == 0, error
    lines = read_lines(run / "metrics.jsonl")
    assert all(0 <= line["score"] <= 100 for line in lines)
    results = json.loads((run / "results.json").read_text())
    assert results["selection"]["by"] == "made-shifts"

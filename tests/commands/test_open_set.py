"""`--open-set`: images of further classes are tested, and right when told to be unknown."""

import csv
import json
from shutil import copytree

import pytest
import torch

from adaptune.commands import main
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains
from adaptune.engine.evaluate import sample_outputs
from adaptune.networks.network import Network
from adaptune.ops.information import add_unknown_column, keeping

KNOWN = ("dots", "rings")
OPEN = ["--open-set", "--unknown-above=0.7"]
SLOWLY = ["--lr=1e-5", "--batchnorm=eval", "--epochs=1", "--batch-size=16"]
SLOWLY += [
    "--layout=contiguous"
]  # the other rounds otherwise, and here runs are the same to the bit


def results(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def known(tmp_path_factory, photos, tiny):
    """A network trained on two of the three classes, and made sure of itself."""
    folder = tmp_path_factory.mktemp("known")
    words = ["fit", str(photos), "--classes", *KNOWN, *tiny, "--epochs=3", "--layout=contiguous"]
    assert main([*words, "--out", str(folder / "run")]) == 0
    net = Network.load(folder / "run" / "best")
    with torch.no_grad():
        net.head.weight.mul_(2)
        net.head.bias.mul_(2)
    net.save(folder / "known")
    return folder / "known"


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, known, sketches):
    """That network adapted to a target with all three."""
    folder = tmp_path_factory.mktemp("open") / "run"
    words = ["fit", f"--from={known}", f"--target={sketches}", "--method=glc"]
    assert main([*words, *OPEN, *SLOWLY, "--out", str(folder)]) == 0
    return folder


def test_a_run_is_scored_on_known_and_unknown_images(adapted):
    found = results(adapted)
    scores = found["scores"]["sketch"]
    assert found["classes"] == list(KNOWN)
    assert scores["count"] == 60
    assert [sum(row) for row in scores["confusion"]] == [20, 20, 20]
    right = [100 * row[at] / 20 for at, row in enumerate(scores["confusion"])]
    known, unknown = sum(right[:2]) / 2, right[2]
    assert scores["open_set"]["known"] == pytest.approx(known)
    assert scores["open_set"]["unknown"] == pytest.approx(unknown)
    h = 2 * known * unknown / (known + unknown) if known + unknown else 0
    assert scores["open_set"]["h"] == pytest.approx(h)
    assert set(found["before_open_set"]["sketch"]) == {"known", "unknown", "h"}
    named = {one[key] for one in found["worst"]["sketch"] for key in ("label", "predicted")}
    assert named <= {*KNOWN, "unknown"}


def test_label_free_scores_see_the_classes_alone(adapted, known, sketches, tmp_path, told):
    words = ["fit", f"--from={known}", f"--target={sketches}", "--method=glc", *SLOWLY]
    assert told(*words, "--out", tmp_path / "closed")[0] == 0
    closed, opened = results(tmp_path / "closed"), results(adapted)
    assert closed["scores"]["sketch"]["count"] == 40
    assert "open_set" not in closed["scores"]["sketch"]
    last = [Network.load(folder / "last") for folder in (tmp_path / "closed", adapted)]
    assert [net.threshold for net in last] == [1.0, 0.7]
    assert all(
        (a == b).all() for a, b in zip(*(n.state_dict().values() for n in last), strict=True)
    )
    for one in (closed, opened):
        assert one["label_free"]["sketch"]["entropy"] is not None


def test_the_page_and_the_terminal_show_the_three_numbers(adapted, known, sketches, told):
    page = (adapted / "report.html").read_text()
    h = results(adapted)["scores"]["sketch"]["open_set"]["h"]
    for words in ("OS*", "UNK", "H-score", f"<td>{h:.1f}</td>", "more than 0.7 of the largest"):
        assert words in page
    assert ">unknown<" in page, "the confusion matrix names it"
    _, _, said = told("evaluate", adapted)
    for words in ("OS*", "UNK", "H-score", f"{h:.1f}"):
        assert words in said


def test_evaluate_scores_a_run_as_it_was_scored(adapted, told):
    code, out, said = told("evaluate", adapted, "--json")
    assert code == 0, said
    assert json.loads(out)["scores"] == results(adapted)["scores"]
    assert "unknown: stripes (20)" in said


def test_evaluate_opens_a_closed_run_and_moves_its_threshold(known, sketches, told):
    words = ["evaluate", known, f"--data=sketch={sketches}", "--json"]
    counts, unknown = [], []
    for more in ([], ["--open-set"], ["--unknown-above=0.01"], ["--unknown-above=0.99"]):
        code, out, said = told(*words, *more)
        assert code == 0, said
        scores = json.loads(out)["scores"]["sketch"]
        counts.append(scores["count"])
        unknown.append(scores.get("open_set", {}).get("unknown"))
    assert counts == [40, 60, 60, 60]
    assert unknown[0] is None
    assert unknown[2] >= unknown[1] >= unknown[3]
    assert unknown[2] > unknown[3]
    code, _, error = told(*words, "--unknown-above=1.5")
    assert code == 1
    assert "--unknown-above must be above 0 and below 1: got 1.5" in error


def test_predict_writes_unknown_where_the_network_rejects(known, sketches, tmp_path, told):
    net = Network.load(known)
    net.threshold = 0.01
    net.save(tmp_path / "net")
    said = {}
    for name, folder in (("closed", known), ("open", tmp_path / "net")):
        out = tmp_path / f"{name}.csv"
        assert told("predict", folder, sketches, "--out", out)[0] == 0
        said[name] = list(csv.DictReader(out.read_text().splitlines()))
    assert {line["predicted"] for line in said["closed"]} <= set(KNOWN)
    assert "unknown" in {line["predicted"] for line in said["open"]}
    for one, other in zip(said["closed"], said["open"], strict=True):
        assert one["confidence"] == other["confidence"], "that in the likeliest class"
        assert other["predicted"] in (one["predicted"], "unknown")


def test_any_method_takes_an_open_set_and_its_config_runs_again(
    photos, sketches, tiny, tmp_path, told
):
    run, again = tmp_path / "run", tmp_path / "again"
    words = ["fit", photos, "--classes", *KNOWN, f"--ood=sketch={sketches}", "--method=gdcan"]
    words += [f"--target=goal={sketches}", "--threshold=0.3", "--open-set", *tiny, "--epochs=1"]
    code, _, said = told(*words, "--ood-images=all", "--layout=contiguous", "--out", run)
    assert code == 0, said
    found = results(run)
    assert len(found["scores"]["id"]["confusion"]) == 3
    assert sum(found["scores"]["id"]["confusion"][2]) == 0
    assert "open_set" not in found["scores"]["id"]
    assert "open_set" in found["scores"]["sketch"]
    assert "open_set: true" in (run / "config.yaml").read_text()
    assert told("fit", "--config", run / "config.yaml", "--out", again)[0] == 0
    assert results(again)["scores"] == found["scores"]


def test_an_oracle_counts_answers_and_a_score_sees_logits(photos, sketches, tiny, tmp_path, told):
    words = ["fit", photos, "--classes", *KNOWN, f"--ood=sketch={sketches}", "--method=ft"]
    run = tmp_path / "run"
    code, _, said = told(*words, "--open-set", "--select=snd", *tiny, "--epochs=1", "--out", run)
    assert code == 0, said
    assert "oracle_epoch" in results(run)["selection"]


def test_open_sets_are_compared_on_given_data_and_refused_in_rotation(
    photos, sketches, two_domains, tiny, tmp_path, told
):
    out = tmp_path / "comparison"
    words = ["compare", photos, "--classes", *KNOWN, f"--ood=sketch={sketches}", "--methods=ft,lp"]
    more = ["--set", "lp.cs=3", "--open-set", *tiny, "--epochs=1", "--seeds=1"]
    code, _, said = told(*words, *more, "--out", out)
    assert code == 0, said
    assert "H-score" in said
    summary = results(out)["summary"]
    assert [set(line["open_set"]) for line in summary] == [{"sketch"}] * 2
    assert "H-score" in (out / "report.html").read_text()
    rotated = ["compare", two_domains, "--domains=leave-one-out", "--open-set"]
    code, _, error = told(*rotated, "--out", tmp_path / "rotation")
    assert code == 1
    assert "leave out --open-set" in error


def test_a_run_that_starts_from_an_open_one_is_closed_unless_it_is_asked_for(
    adapted, photos, tmp_path, told
):
    run = tmp_path / "run"
    words = ["fit", photos, f"--from={adapted}", "--method=ft", "--batch-size=16", "--epochs=1"]
    code, _, said = told(*words, "--out", run)
    assert code == 0, said
    assert Network.load(run / "best").threshold == 1


def test_a_threshold_that_is_no_share_is_refused(photos, tmp_path, told):
    words = ["fit", photos, "--open-set", "--unknown-above=1", "--out", tmp_path / "run"]
    code, _, error = told(*words)
    assert code == 1
    assert "--unknown-above must be above 0 and below 1: got 1.0" in error


def test_a_threshold_without_an_open_set_is_refused_before_a_run_ignores_it(photos, tmp_path, told):
    words = ["fit", photos, "--unknown-above=0.3", "--out", tmp_path / "run"]
    code, _, error = told(*words)
    assert code == 1
    assert "--unknown-above is for open sets: give --open-set too" in error


def validation(folder, photos):
    """Give what a run's best network says of its ID validation images."""
    net = Network.load(folder / "best")
    shares = Shares(val_share=0.3)
    data = open_domains(photos, classes=KNOWN, shares=shares).with_input(net.preprocess)
    return sample_outputs(net, data.scan("val"))


def kept(logits: torch.Tensor, threshold: float) -> float:
    """Give the share of predictions that are not rejected."""
    return float(
        (add_unknown_column(logits, threshold).argmax(1) < logits.shape[1]).double().mean()
    )


@pytest.fixture(scope="module")
def brief(tmp_path_factory, photos, sketches, tiny):
    """A run of one epoch on two of the three classes, tested on all, with no threshold given."""
    folder = tmp_path_factory.mktemp("brief") / "run"
    words = ["fit", str(photos), "--classes", *KNOWN, f"--ood=sketch={sketches}", "--method=ft"]
    words += ["--val-share=0.3", "--ood-images=all", "--open-set", "--lr=1e-4", "--epochs=1"]
    assert main([*words, *tiny, "--layout=contiguous", "--out", str(folder)]) == 0
    return folder


def test_a_threshold_is_the_least_that_keeps_nearly_all_validation_images(brief, photos):
    found, logits = results(brief), validation(brief, photos).logits
    threshold = Network.load(brief / "best").threshold
    assert threshold == found["threshold"]
    assert found["calibrated"] == {"kept": 0.95, "images": len(logits)}
    assert kept(logits, threshold) >= 0.95 > kept(logits, threshold - 3e-4)


def test_a_network_of_one_epoch_does_not_reject_all_that_it_knows(brief, photos, told):
    assert kept(validation(brief, photos).logits, 0.55) == 0
    confusion = results(brief)["scores"]["id"]["confusion"]
    rejected = sum(row[-1] for row in confusion)
    assert rejected < sum(map(sum, confusion)) / 2
    page = (brief / "report.html").read_text()
    assert "the least that keeps 95% of" in " ".join(page.split())
    code, out, _ = told("evaluate", brief, "--json")
    assert code == 0
    assert json.loads(out)["scores"] == results(brief)["scores"]


def test_what_a_run_found_is_its_own_after_resuming(brief, tmp_path, told):
    copytree(brief, tmp_path / "run")
    code, _, said = told("fit", "--resume", "--out", tmp_path / "run")
    assert code == 0
    assert "the least that keeps 95% of" in said
    for key in ("threshold", "scores", "calibrated"):
        assert results(tmp_path / "run")[key] == results(brief)[key]


def test_a_threshold_that_is_given_stays(adapted, brief, tmp_path, told):
    assert results(adapted)["threshold"] == 0.7
    assert "calibrated" not in results(adapted)
    words = ["fit", "--config", brief / "config.yaml", "--unknown-above=0.55"]
    code, _, said = told(*words, "--out", tmp_path / "run")
    assert code == 0
    assert results(tmp_path / "run")["threshold"] == 0.55
    assert "predictions mean unknown above an uncertainty of 0.55" in said
    assert Network.load(tmp_path / "run" / "last").threshold == 0.55


def test_without_validation_the_threshold_is_that_of_the_start_or_else_the_papers(
    brief, known, sketches, tmp_path, told
):
    for start, expected in ((brief, results(brief)["threshold"]), (known, 0.55)):
        out = tmp_path / start.name
        words = ["fit", f"--from={start}", f"--target={sketches}", "--method=glc", *SLOWLY]
        assert told(*words, "--open-set", "--out", out)[0] == 0
        assert results(out)["threshold"] == expected
        assert "calibrated" not in results(out)


def test_evaluate_finds_the_threshold_of_a_closed_run_on_its_own_validation(
    photos, sketches, tiny, tmp_path, told
):
    run = tmp_path / "run"
    words = ["fit", photos, "--classes", *KNOWN, "--val-share=0.3", "--method=ft", "--lr=1e-4"]
    assert told(*words, *tiny, "--epochs=1", "--out", run)[0] == 0
    wild = f"--data=sketch={sketches}"
    code, _, said = told("evaluate", run, wild, "--open-set")
    assert code == 0
    threshold = keeping(validation(run, photos).logits, 0.95)
    assert f"above an uncertainty of {threshold:.4g}, the least that keeps 95% of" in said
    assert "the least" not in told("evaluate", run, wild, "--unknown-above=0.5")[2]


def test_configs_that_name_the_papers_threshold_without_an_open_set_still_run(
    photos, tiny, tmp_path, told
):
    (tmp_path / "old.yaml").write_text("open_set: false\nunknown_above: 0.55\n")
    words = ["fit", photos, *tiny, "--method=ft", "--epochs=1"]
    code, _, said = told(*words, "--config", tmp_path / "old.yaml", "--out", tmp_path / "run")
    assert code == 0, said

"""`--open-set`: images of further classes are tested, and right when told to be unknown."""

import csv
import json

import pytest
import torch

from adaptune.commands import main
from adaptune.network import Network

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
        net.head.weight.mul_(20)
        net.head.bias.mul_(20)
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

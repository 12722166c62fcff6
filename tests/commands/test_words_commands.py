"""Classes of words, from a network that matches to predictions, and a run that trains them."""

from __future__ import annotations

import csv
import json
from shutil import copytree

import pytest
import torch
from conftest import draw_domain
from named_classes import NAMES, pair_network, saved_pair

from adaptune.data.class_words import class_texts, with_words
from adaptune.networks.heads import Readout
from adaptune.networks.joint import Words
from adaptune.networks.network import Network

FIT = ("--method", "ft", "--lr", 0.003, "--epochs", 2, "--batch-size", 16, "--device", "cpu")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    saved_pair(folder / "pairs")
    draw_domain(folder / "photo", each=12)
    draw_domain(folder / "sketch", shift=60, each=20)
    return folder


@pytest.fixture(scope="module")
def trained(places, tmp_path_factory):
    from adaptune.commands import main

    out = tmp_path_factory.mktemp("run") / "run"
    words = ["fit", places / "photo", "--from", places / "pairs", "--words", "a {}", "my {}"]
    words += ["--ood", f"sketch={places / 'sketch'}", "--out", out, *FIT]
    assert main(list(map(str, words))) == 0
    return out


def test_a_network_that_matches_is_scored_zero_shot(places, told):
    data = ("--data", f"photo={places / 'photo'}", "--device", "cpu", "--json")
    code, out, error = told("evaluate", places / "pairs", *data, "--words", "a {}", "my {}")
    assert code == 0, error
    found = json.loads(out)["scores"]["photo"]
    assert found["count"] == 36
    code, out, error = told("evaluate", places / "pairs", *data, "--classes", "rings", "dots")
    assert code == 0, error
    assert json.loads(out)["scores"]["photo"]["count"] == 24


def test_predict_answers_with_classes_that_are_named_at_that_moment(places, tmp_path, told):
    out = tmp_path / "found.csv"
    file = places / "photo" / "rings" / "rings-00.png"
    code, _, error = told(
        *("predict", places / "pairs", file, "--classes", "emu", "guide_dog", "--out", out)
    )
    assert code == 0, error
    [line] = csv.DictReader(out.read_text().splitlines())
    assert line["predicted"] in ("emu", "guide_dog")


def test_a_run_on_words_tells_zero_shot_and_adapted(trained, places, told):
    results = json.loads((trained / "results.json").read_text())
    assert results["words"] == ["a {}", "my {}"]
    assert set(results["before"]) == {"id", "sketch"} == set(results["notes"]["modality_gap"])
    page = (trained / "report.html").read_text()
    assert "zero-shot" in page
    assert "embeddings lay apart by" in " ".join(page.split())
    net = Network.load(trained / "best").eval()
    assert isinstance(net.head, Words)
    assert net.classes == NAMES
    # what was tested zero-shot is the network before training
    data = ("--data", f"sketch={places / 'sketch'}", "--device", "cpu", "--json")
    code, out, error = told("evaluate", places / "pairs", *data, "--words", "a {}", "my {}")
    assert code == 0, error
    everything = json.loads(out)["scores"]["sketch"]
    assert everything["count"] >= results["scores"]["sketch"]["count"]


def test_after_training_outputs_are_those_of_renewed_anchors(trained):
    net, x = Network.load(trained / "best").eval(), torch.randn(4, 3, 32, 32)
    begun = with_words(pair_network(), NAMES, class_texts(NAMES, ["a {}", "my {}"]))
    assert not torch.allclose(net.head.anchors, begun.head.anchors, atol=1e-4)
    with torch.no_grad():
        said = net(x)
        net.head.renew()
        assert torch.allclose(net(x), said, atol=1e-5)


def test_a_run_is_evaluated_and_predicts_as_it_was(trained, places, tmp_path, told):
    code, out, error = told("evaluate", trained, "--json", "--device", "cpu")
    assert code == 0, error
    known = json.loads((trained / "results.json").read_text())["scores"]
    assert json.loads(out)["scores"]["sketch"]["accuracy"] == known["sketch"]["accuracy"]
    out = tmp_path / "found.csv"
    code, _, error = told("predict", trained, places / "photo" / "dots", "--out", out)
    assert code == 0, error
    assert {one["predicted"] for one in csv.DictReader(out.read_text().splitlines())} <= {*NAMES}
    code, _, error = told(
        *("stream", trained, places / "sketch", "--method", "lame", "--out", tmp_path / "s.csv")
    )
    assert code == 0, error


def test_a_run_goes_on(trained, tmp_path, told):
    folder = copytree(trained, tmp_path / "run")
    code, _, error = told("fit", "--resume", "--out", folder, "--epochs", 3)
    assert code == 0, error
    assert "going on from" in error
    code, _, error = told("fit", "--resume", "--out", folder, "--epochs", 4, "--words", "its {}")
    assert code == 1
    assert "was begun with words a {} my {}" in error


def test_a_linear_head_starts_at_the_zero_shot_classifier(places, tmp_path, told):
    words = ("--from", places / "pairs", "--words", "a {}", "--zero-shot-head", "linear")
    out = tmp_path / "run"
    code, _, error = told(
        *("fit", places / "photo", *words, "--out", out, *FIT, "--interpolate", 0.5)
    )
    assert code == 0, error
    net = Network.load(out / "best")
    assert isinstance(net.head, Readout)
    assert [one["name"] for one in net.surgery] == ["zero-shot-head"]
    code, out, error = told("evaluate", out, "--json", "--device", "cpu")
    assert code == 0, error


def test_descriptions_of_a_file_train_and_are_kept_in_the_run(places, tmp_path, told):
    file = tmp_path / "texts.json"
    file.write_text(json.dumps({name: [f"{name} one", f"{name} two"] for name in NAMES}))
    out = tmp_path / "run"
    code, _, error = told(
        *("fit", places / "photo", "--from", places / "pairs", "--words", file, "--out", out, *FIT)
    )
    assert code == 0, error
    net = Network.load(out / "best")
    assert net.head.average == "similarities"
    assert net.head.words[0] == ("dots one", "dots two")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "give --words 'a photo of a {}'"),
        (("--words", "a {x}"), "no template"),
        (("--words", "gone.json"), "neither a file nor a template"),
        (("--words", "a {}", "--method", "lp-ft"), "one's is a Words"),
    ],
)
def test_what_cannot_be_classes_is_said(words, reason, places, tmp_path, told):
    start = ("fit", places / "photo", "--from", places / "pairs", *FIT, "--out", tmp_path / "run")
    code, _, error = told(*start, *words)
    assert code == 1
    assert reason in error


def test_words_for_a_network_that_knows_none_are_refused(places, tmp_path, told):
    code, _, error = told(
        *("fit", places / "photo", "--backbone", "test_resnet", "--weights", "none"),
        *("--words", "a {}", "--out", tmp_path / "run", *FIT),
    )
    assert code == 1
    assert "--task matching" in error

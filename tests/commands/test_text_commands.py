"""Commands on texts, from a table to a saved network; no sentence of them is about images."""

from __future__ import annotations

import csv
import json
import re
from copy import deepcopy
from html import unescape
from pathlib import Path

import pytest
import torch
from texts import encoder, table

from adaptune import FineTune, Plan, fit
from adaptune.data import open_domains
from adaptune.data.domains import DomainData, Loading
from adaptune.data.inputs import input_of
from adaptune.data.readers.texts import TextSource
from adaptune.networks.backbones import open_backbone
from adaptune.networks.network import Network
from adaptune.runtime.wording import in_words_of_texts
from adaptune.tasks.classification import Classification

PLAIN = ("--device", "cpu", "--batch-size", "16")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    table(folder / "tweets.csv", 30, "lol", seed=1)
    return table(folder / "reviews.csv", 120)


def test_a_run_that_goes_on_is_the_same_to_the_bit(reviews, tmp_path):
    folder = encoder(tmp_path / "bert")
    data = open_domains(reviews, texts=TextSource(), loading=Loading(16))

    def method() -> FineTune:
        torch.manual_seed(0)
        net = open_backbone(f"hf:{folder}", data.classes)
        return FineTune(net, Classification(2), lr=0.1)

    def seen(one: FineTune) -> DomainData:
        return data.with_input(one.net.preprocess)

    whole, states = method(), {}
    for epoch in fit(whole, seen(whole), Plan(epochs=3)):
        states[epoch.number] = deepcopy(epoch.state)
    resumed = method()
    for _ in fit(resumed, seen(resumed), Plan(epochs=3), state=states[1]):
        pass
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.fixture(scope="module")
def learnt(reviews, tmp_path_factory) -> Path:
    from adaptune.commands import main

    out = tmp_path_factory.mktemp("run") / "run"
    tweets = f"tweets={reviews.with_name('tweets.csv')}"
    words = ["fit", reviews, "--backbone", "ngrams", "--method", "ft", "--lr", "0.5"]
    words += ["--epochs", "4", "--ood", tweets, "--out", out, *PLAIN]
    assert main(list(map(str, words))) == 0
    return out


def of_images(said: str) -> list[str]:
    """Find sentences about images, beside the names of options and of files."""
    said = re.sub(r"[-/\w]*ood[-_]images|image_size|image/\w+|/[\w/.-]+", "", said)
    return re.findall(r".{0,40}\bimages?\b.{0,40}", said, re.IGNORECASE)


def test_a_run_of_texts_learns_and_says_nothing_of_images(learnt):
    results = json.loads((learnt / "results.json").read_text())
    assert results["scores"]["id"]["accuracy"] > 90
    assert results["scores"]["tweets"]["accuracy"] > 80
    assert results["origin"] == {"kind": "text", "name": "ngrams", "head": "classifier"}
    assert not of_images((learnt / "report.html").read_text())


def test_the_page_shows_the_words_of_what_was_surely_wrong(reviews, tmp_path, told):
    wrong = reviews.read_text().splitlines()
    turned = {"pos": "neg", "neg": "pos"}
    wrong[1:] = [
        f"{text} an image,{turned[kind]}" for text, kind in (one.split(",") for one in wrong[1:])
    ]
    (tmp_path / "wrong.csv").write_text("\n".join(wrong))
    out = tmp_path / "run"
    other = f"wrong={tmp_path / 'wrong.csv'}"
    code, _, error = told(
        "fit", reviews, "--backbone", "ngrams", "--method", "ft", "--epochs", 1, "--ood", other,
        "--ood-images", "all", "--out", out, *PLAIN,
    )  # fmt: skip
    assert code == 0, error
    assert not of_images(error)
    worst = json.loads((out / "results.json").read_text())["worst"]["wrong"]
    words = worst[0]["text"].split()
    page = (out / "report.html").read_text()
    plain = " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())
    assert worst[0]["text"] in plain, "as it stands, also where it speaks of images"
    assert len(worst[0]["shades"]) == len(words)
    assert max(map(abs, worst[0]["shades"])) == 1
    assert page.count('<span class="for" style') + page.count('<span class="against" style') > 1


def test_evaluate_predict_stream_choose_and_report(learnt, reviews, tmp_path, told):
    tweets = reviews.with_name("tweets.csv")
    code, out, error = told("evaluate", learnt, "--json", "--device", "cpu")
    assert code == 0, error
    known = json.loads((learnt / "results.json").read_text())["scores"]["tweets"]["accuracy"]
    assert json.loads(out)["scores"]["tweets"]["accuracy"] == known
    (tmp_path / "one.txt").write_text("a superb, lovely film")
    (tmp_path / "two.md").write_bytes(b"\xe9t\xe9: awful, dull and sad")
    labels = tmp_path / "labels.csv"
    words = [tweets, tmp_path / "one.txt", tmp_path / "two.md", tmp_path / "gone.txt"]
    code, _, error = told("predict", learnt, *words, "--out", labels, "--device", "cpu")
    assert code == 0, error
    assert "Latin-1" in error
    assert "1 of them could not be read" in error
    lines = list(csv.DictReader(labels.read_text().splitlines()))
    assert [line["path"] for line in lines[:2]] == [f"{tweets}/line 2", f"{tweets}/line 3"]
    assert [line["predicted"] for line in lines[-3:]] == ["pos", "neg", ""]
    code, out, error = told("choose", learnt, "--images", tweets, "--json", "--device", "cpu")
    assert (code, json.loads(out)["images"]) == (0, 30), error
    code, _, error = told("report", learnt)
    assert code == 0, error
    assert not of_images((learnt / "report.html").read_text())


def test_a_target_search_and_a_comparison(reviews, tmp_path, told):
    tweets = reviews.with_name("tweets.csv")
    common = ("--backbone", "ngrams", "--epochs", 1, *PLAIN)
    for number, words in enumerate(
        (
            ("fit", reviews, "--method", "dann", "--target", tweets),
            ("search", reviews, "--method", "ft", "--budget", 2),
            ("compare", reviews, "--methods", "ft,lp", "--seeds", 1, "--ood", f"t={tweets}"),
        )
    ):
        folder = tmp_path / str(number)
        code, _, error = told(*words, *common, "--out", folder)
        assert code == 0, error
        assert not of_images(error)
        assert not of_images((folder / "report.html").read_text())


def test_a_small_encoder_is_trained_resumed_and_streamed(reviews, tmp_path, told):
    folder, out = encoder(tmp_path / "bert"), tmp_path / "run"
    words = ("fit", reviews, "--backbone", f"hf:{folder}", "--optimizer", "adamw", "--method", "ft")
    words += ("--text-length", 16, "--out", out, *PLAIN)
    code, _, error = told(*words, "--epochs", 1)
    assert code == 0, error
    assert (out / "best" / "tokenizer.json").is_file()
    code, _, error = told("fit", "--resume", "--out", out, "--epochs", 2)
    assert code == 0, error
    tweets = reviews.with_name("tweets.csv")
    code, told_, error = told(
        "stream", out, tweets, "--method", "tent", "--out", tmp_path / "s.csv", "--json",
        "--device", "cpu",
    )  # fmt: skip
    assert code == 0, error
    assert json.loads(told_)["scores"]["adapted"]["all"]["count"] == 30
    assert not of_images(error)


def test_doctor_tells_lengths_and_duplicates(reviews, tmp_path, told):
    file = tmp_path / "a.jsonl"
    rows = list(csv.DictReader(reviews.read_text().splitlines()))
    rows += [{"text": rows[0]["text"].upper(), "label": "pos"}, {"text": "", "label": "neg"}]
    file.write_text("\n".join(map(json.dumps, rows)))
    code, _, error = told("doctor", file)
    assert code == 0, error
    assert "1 texts are empty" in error
    assert "1 texts are in more than one class" in error
    assert "lose their end" in error
    assert not of_images(error)


def test_a_run_is_exported_pushed_pulled_and_its_card_says_nothing_of_images(
    learnt, reviews, tmp_path, told
):
    code, out, error = told(
        "export", learnt, "--format", "torch-export", "--out", tmp_path / "file", "--json"
    )
    assert code == 0, error
    said = json.loads(out)
    call = torch.export.load(str(tmp_path / "file" / said["file"])).module()
    net = Network.load(learnt / "best").eval()
    read = input_of(net.preprocess)
    x = torch.stack([read.given(text) for text in ("a superb film", "awful", "")])
    with torch.no_grad():
        torch.testing.assert_close(call(x), net(x))
    code, _, error = told("push", learnt, tmp_path / "shared")
    assert code == 0, error
    for folder in ("file", "shared"):
        card = (tmp_path / folder / "README.md").read_text()
        assert "pipeline_tag: text-classification" in card
        assert not of_images(card)
    assert str(reviews.parent) not in (tmp_path / "shared" / "results.json").read_text()
    code, _, error = told("pull", tmp_path / "shared", "--out", tmp_path / "theirs")
    assert code == 0, error
    assert torch.equal(Network.load(tmp_path / "theirs").eval()(x), net(x))


def test_what_texts_cannot_have_is_refused_in_words(learnt, reviews, tmp_path, told):
    tweets = reviews.with_name("tweets.csv")
    out = ("--out", tmp_path / "no")
    for words, said in (
        (("fit", reviews, *out), "give --backbone minilm, ngrams or hf:FOLDER"),
        (("fit", reviews, "--backbone", "ngrams", "--image-size", 32, *out), "have no pixels"),
        (
            ("fit", reviews, "--backbone", "ngrams", "--task", "segmentation", *out),
            "masks lie on",
        ),
        (
            ("fit", reviews, "--backbone", "ngrams", "--method", "udim", "--source", f"t={tweets}",
             *out),
            "this network reads texts",
        ),
        (("export", learnt, "--format", "torchscript", *out), "the length of one text"),
        (("try", learnt), "this network reads texts"),
        (("evaluate", learnt, "--text-column", "body"), "lacks the column body"),
        (("predict", learnt, tmp_path / "gone.csv"), "no table at"),
        (
            ("stream", learnt, tweets, "--method", "alpha-bn", "--out", tmp_path / "s.csv"),
            "adapts batch norms",
        ),
    ):  # fmt: skip
        code, _, error = told(*words)
        assert code == 1, words
        assert said in error


def test_words_of_images_become_words_of_texts_but_names_stay():
    said = "An image in /a/image/b.png and 3 images: --image-size 8, image_size, a/image.csv"
    assert in_words_of_texts(said) == (
        "A text in /a/image/b.png and 3 texts: --text-length 8, image_size, a/image.csv"
    )

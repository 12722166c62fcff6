"""Pairs at the command line: learnt, gone on with, evaluated, found, and what is refused."""

from __future__ import annotations

import csv
import json
import random

import pytest

from adaptune.commands import main

WORDS = [3 * letter for letter in "abcdefghijklmno"]
TINY = ["--task=matching", "--backbone=ngrams", "--text-length=16", "--batch-size=16"]
FIT = ["fit", "PAIRS", *TINY, "--out=new"]
LEARN = [*TINY, "--method=clip", "--lr=1.0"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Give a table of texts of three words, whose partners have other words in their places."""
    file, draw = tmp_path_factory.mktemp("pairs") / "pairs.csv", random.Random(0)
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["text", "partner"])
        for number in range(80):
            own = draw.sample(WORDS, 3)
            rows.writerow([f"{' '.join(own)} q{number}", " ".join(f"{word}z" for word in own)])
    return file


@pytest.fixture(scope="module")
def matched(pairs, tmp_path_factory):
    run = tmp_path_factory.mktemp("matched") / "run"
    assert main(["fit", str(pairs), *LEARN, "--epochs=8", f"--out={run}"]) == 0
    return run


def results(run):
    return json.loads((run / "results.json").read_text())


def test_a_run_learns_which_text_belongs_to_which(matched):
    found = results(matched)
    assert found["scores"]["id"]["recall@1"] > found["before"]["id"] + 20
    assert "Found instead" in (matched / "report.html").read_text()


def test_what_is_evaluated_is_what_the_run_came_to(matched, told):
    code, out, said = told("evaluate", matched, "--json")
    assert code == 0, said
    found, wanted = json.loads(out)["scores"]["id"], results(matched)["scores"]["id"]
    assert found | {"loss": 0} == wanted | {"loss": 0}
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-6)  # batches are larger


def test_a_run_that_goes_on_ends_at_the_same_bits(pairs, tmp_path, told):
    steady = [*LEARN, "--schedule=constant", "--warmup=0"]
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    assert told("fit", pairs, *steady, "--epochs=2", f"--out={parts}")[0] == 0
    assert told("fit", "--resume", "--epochs=4", f"--out={parts}")[0] == 0
    assert told("fit", pairs, *steady, "--epochs=4", f"--out={whole}")[0] == 0
    ends = [(one / "last" / "network.safetensors").read_bytes() for one in (parts, whole)]
    assert ends[0] == ends[1]


def test_a_finished_run_of_pairs_is_gone_on_from(pairs, matched, tmp_path, told):
    run = tmp_path / "run"
    words = [f"--from={matched}", "--task=matching", "--method=l2-sp", "--epochs=1"]
    code, _, said = told("fit", pairs, *words, f"--out={run}")
    assert code == 0, said
    wanted = results(matched)["scores"]["id"]["recall@1"]
    assert results(run)["before"]["id"] == pytest.approx(wanted)


def test_documents_of_a_collection_are_found_best_first(pairs, matched, tmp_path, told):
    with pairs.open(newline="") as rows:
        partners = [row["partner"] for row in csv.DictReader(rows)]
    docs, out = tmp_path / "docs.csv", tmp_path / "found.csv"
    with docs.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([one] for one in partners)])
    words = [f"--collection={docs}", "--top=3", f"--out={out}"]
    code, _, said = told("retrieve", matched, pairs, *words)
    assert code == 0, said
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 3 * 80
    scores = [float(row["score"]) for row in found]
    assert all(scores[at] >= scores[at + 1] >= scores[at + 2] for at in range(0, 240, 3))
    lines = [int(row["document"].rpartition(" ")[2]) - 2 for row in found[::3]]
    right = sum(partners[at] == own for at, own in zip(lines, partners, strict=True))
    assert right > 40


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["export", "RUN"], "matches pairs and knows no classes: adaptune fit --from RUN --words"),
        (["try", "RUN"], "matches pairs and knows no classes: adaptune retrieve"),
        (["predict", "RUN", "PAIRS"], "knows no classes: name some, as in --classes"),
        ([*FIT, "--method=daft"], "take another method, see adaptune methods --task matching"),
        ([*FIT, "--method=cwcl"], "start from a network with a tower"),
        ([*FIT, "--method=ft", "--accumulate=2"], "--accumulate"),
    ],
)
def test_what_pairs_cannot_do_is_said_with_what_to_do(pairs, matched, told, words, wanted):
    given = [{"RUN": matched, "PAIRS": pairs}.get(word, word) for word in words]
    code, _, said = told(*given)
    assert code == 1
    assert wanted in " ".join(said.split())


def test_the_card_of_a_pushed_run_says_what_it_does(matched, tmp_path, told):
    assert told("push", matched, tmp_path / "given")[0] == 0
    card = (tmp_path / "given" / "README.md").read_text()
    assert "It finds the text that belongs to" in card
    assert "classes apart" not in card

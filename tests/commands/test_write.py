"""`adaptune write`: texts by a writer, filtered and labelled by runs; nothing is asked twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from texts import GOOD, causal_model, table

from adaptune import Classification, FineTune, Loading, Plan, fit, open_backbone, open_domains
from adaptune.commands.write import RunAnswers
from adaptune.data.readers.texts import TextSource
from adaptune.writers.texts import prompt_like, written


def texts_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def recorded(file: Path, examples: Path, answers: list[str], shots: int = 2) -> str:
    """Write down what is answered to each prompt of `adaptune write` in turn."""
    texts = [one["text"] for one in texts_of(examples)]
    lines = [
        {"prompt": prompt_like(texts, shots, at), "answer": answer}
        for at, answer in enumerate(answers)
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return f"recorded:{file}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Give the folder of two runs: one tells pos from neg, one written from real."""
    folder = tmp_path_factory.mktemp("runs")
    table(folder / "source.csv", 160)
    lines = (folder / "source.csv").read_text().splitlines()[1:]
    real = [f"{line.rpartition(',')[0]},real" for line in lines]
    noise = [f"buzz zap {at} word{at % 7},written" for at in range(160)]
    (folder / "judge.csv").write_text("\n".join(["text,label", *real, *noise]))
    for name in ("source", "judge"):
        data = open_domains(folder / f"{name}.csv", texts=TextSource(), loading=Loading(16))
        torch.manual_seed(0)
        net = open_backbone("ngrams", data.classes)
        method = FineTune(net, Classification(2), lr=0.5)
        for _ in fit(method, data.with_input(net.preprocess), Plan(epochs=5)):
            pass
        net.save(folder / name)
    return folder


def test_texts_are_new_kept_by_a_judge_and_labelled_by_a_run(runs, tmp_path, told):
    examples = table(tmp_path / "few.csv", 6)
    known = texts_of(examples)[0]["text"]
    answers = ["A superb, lovely film with people", "", f"{known.upper()}", "buzz zap 1 word1"]
    answers += ["a superb,  lovely film with people", "the dull music was awful\n\nText: more"]
    writer = recorded(tmp_path / "answers.jsonl", examples, answers)
    words = ["write", examples, "--writer", writer, "--shots", 2, "--prompts", 7, "--json"]
    words += ["--keep", runs / "judge", "--label", runs / "source", "--device", "cpu"]
    code, out, error = told(*words, "--out", tmp_path / "texts.csv")
    assert code == 0, error
    assert texts_of(tmp_path / "texts.csv") == [
        {"text": "A superb, lovely film with people", "label": "pos"},
        {"text": "the dull music was awful", "label": "neg"},
    ]
    said = json.loads(out)
    assert said["left"] == {"are empty": 1, "repeat another": 2, "were rejected": 1}
    assert len(said["problems"]) == 1, "the seventh prompt is not in the record"
    assert "2 texts kept" in error
    assert "100 were asked for: give more --prompts" in error


def test_a_text_is_kept_exactly_where_the_judge_finds_real_the_likelier(runs):
    judge = RunAnswers(str(runs / "judge"), "cpu", ("real", "written"))
    for text in ("the film was good", "buzz zap 3 word3", GOOD[0], "buzz film"):
        one = judge.net(judge.ids.given(text)[None]).softmax(1)[0]
        at = judge.net.classes.index("real")
        assert (judge(text) == "real") == bool(one[at] > one[1 - at])


def test_what_a_judge_learns_from_has_both_labels(tmp_path, told):
    examples = table(tmp_path / "few.csv", 4)
    writer = recorded(tmp_path / "answers.jsonl", examples, ["one film", "two films"])
    words = ["write", examples, "--writer", writer, "--shots", 2, "--count", 2, "--with-real"]
    code, _, error = told(*words, "--out", tmp_path / "judge.csv", "--device", "cpu")
    assert code == 0, error
    assert [one["label"] for one in texts_of(tmp_path / "judge.csv")] == ["real"] * 4 + [
        "written",
        "written",
    ]


def test_a_folder_writes_and_the_same_command_goes_on_where_it_was_stopped(tmp_path, told):
    folder, examples = causal_model(tmp_path / "llm"), table(tmp_path / "few.csv", 6)
    out, record = tmp_path / "texts.csv", tmp_path / "texts.record.jsonl"
    words = ["write", examples, "--writer", f"hf:{folder}", "--shots", 2, "--tokens", 5]
    words += ["--count", 8, "--out", out, "--device", "cpu"]
    code, _, error = told(*words)
    assert code == 0, error
    whole, lines = out.read_text(), record.read_bytes()
    assert len(texts_of(out)) == 8
    record.write_bytes(lines[: len(lines) // 2])
    out.unlink()
    code, _, error = told(*words)
    assert code == 0, error
    assert (out.read_text(), record.read_bytes()) == (whole, lines)
    code, _, error = told(*words)
    assert "; 0 asked now" in error
    code, _, error = told(*words, "--seed", 1)
    assert (code, "holds answers of another writer" in error) == (1, True)


def test_what_cannot_be_is_said_before_anything_is_asked(runs, tmp_path, told):
    examples = table(tmp_path / "few.csv", 6)
    words = ["write", examples, "--writer", "recorded:none", "--device", "cpu"]
    for more, said in (
        (["--keep", runs / "source"], "does not tell what is real, it knows neg, pos"),
        (["--with-real", "--label", runs / "source"], "leave out one of them"),
        (["--template", examples], "lacks {examples}"),
        ([], "no record at none"),
    ):
        code, _, error = told(*words, *more, "--out", tmp_path / "texts.csv")
        assert (code, said in error) == (1, True), error


@pytest.mark.parametrize(
    ("answer", "text"),
    [("Text: a\n b", "a b"), ("", ""), ('"', '"'), ("a\nText: b", "a"), ("\n\nText:", "")],
)
def test_one_text_is_taken_of_an_answer(answer, text):
    assert written(answer) == text

"""`adaptune ask`: prompts without leaks, answers understood, scores, and nothing asked twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from texts import causal_model

from adaptune.writers.bioasq import asked, drawn_shots, read_questions, understood


def question(at: int, kind: str, exact: object, body: str = "") -> dict[str, object]:
    passages = [{"text": f"Passage {at} of  TP53."}, {"text": f"Passage {at} of TP53."}]
    told = {"id": f"q{at}", "body": body or f"What of {at}?", "type": kind, "snippets": passages}
    return told | ({"exact_answer": exact} if exact else {})


@pytest.fixture
def questions(tmp_path) -> Path:
    rows = [question(at, "yesno", ("yes", "no")[at % 2]) for at in range(4)]
    rows += [question(4, "factoid", [["BRCA1", "the gene"]]), question(5, "factoid", ["TP53"])]
    rows += [question(6, "list", [["a", "alpha"], ["b"]]), question(7, "summary", None)]
    rows += [question(8, "yesno", None), question(9, "yesno", "yes", "What of 0?")]
    file = tmp_path / "questions.json"
    file.write_text(json.dumps({"questions": rows}))
    return file


def recorded(file: Path, answers: dict[str, str]) -> str:
    lines = [{"prompt": prompt, "answer": answer} for prompt, answer in answers.items()]
    file.write_text("\n".join(map(json.dumps, lines)))
    return f"recorded:{file}"


def test_answers_are_scored_by_hand_and_what_is_not_understood_is_counted(
    questions, tmp_path, told
):
    found, others = read_questions(questions)
    assert (len(found), others) == (9, 1)
    said = dict(
        zip("012345689", ["Yes.", "Yes", "Well", "no", "TP53\nbrca1", "", "- a\n- x"], strict=False)
    )
    answers = {asked(one): said[one.id[1]] for one in found if one.id[1] in said}
    writer = recorded(tmp_path / "answers.jsonl", answers)
    out = tmp_path / "out.json"
    code, output, error = told("ask", questions, "--writer", writer, "--out", out, "--json")
    assert code == 0, error
    scores = json.loads(output)["scores"]
    value = {name: one["value"] for own in scores.values() for name, one in own.items()}
    # Yes is true of q0, q2 and q9, and said of q0 and q1; no of q1 and q3, and said of q3.
    assert value["macro F1"] == pytest.approx(100 * (2 * 1 / 5 + 2 * 1 / 3) / 2)
    assert value["accuracy"] == pytest.approx(40)
    assert (value["MRR"], value["strict accuracy"], value["lenient accuracy"]) == (25, 0, 50)
    assert value["mean F1"] == pytest.approx(50)
    assert json.loads(output)["not_understood"] == {"yesno": 3, "factoid": 1}
    assert "6 yesno, 3 not understood" in error
    assert "2 prompts have no answer, such as:" in error
    told_so = {one["id"]: one["exact_answer"] for one in json.loads(out.read_text())["questions"]}
    assert told_so["q4"] == ["TP53", "brca1"]
    assert told_so["q6"] == [["a"], ["x"]]
    assert (told_so["q0"], told_so["q2"]) == ("yes", "")


def test_a_prompt_has_as_many_shots_of_its_kind_and_never_the_question_itself(questions):
    found, _ = read_questions(questions)
    for one in (found[0], found[1]):
        shots = drawn_shots(one, found, 3)
        assert drawn_shots(one, found[::-1], 3) == shots
        prompt = asked(one, shots)
        assert prompt.count("Question: ") == 4
        assert prompt.count(one.body) == 1, "nor one of the same words"
        assert all(shot.kind == one.kind and shot.truth for shot in shots)
        assert prompt.endswith(f"Question: {one.body}\nAnswer:")
        assert prompt.count("Passage ") == 4, "a passage stands there once"
    assert "Passage" not in asked(found[0], passages=0)
    with pytest.raises(ValueError, match="2 solved examples of the type list .* there are 0"):
        drawn_shots(found[6], found, 2)


def test_a_folder_is_asked_each_question_once_wherever_it_was_stopped(questions, tmp_path, told):
    words = ["ask", questions, "--writer", f"hf:{causal_model(tmp_path / 'llm')}", "--tokens", 4]
    words += ["--passages", 0, "--out", tmp_path / "out.json", "--device", "cpu"]
    record = tmp_path / "out.record.jsonl"
    code, _, error = told(*words)
    assert (code, "8 asked now" in error) == (0, True), error  # q0 and q9 are one prompt
    whole, answers = record.read_bytes(), (tmp_path / "out.json").read_bytes()
    record.write_bytes(whole[: len(whole) // 2])
    code, _, error = told(*words)
    assert code == 0, error
    assert (record.read_bytes(), (tmp_path / "out.json").read_bytes()) == (whole, answers)
    code, _, error = told(*words, "--against", tmp_path / "out.json")
    assert "0 asked now" in error
    assert "+0.0 (+0.0 to +0.0)" in error


def test_where_an_address_is_gone_it_says_what_is_kept(questions, tmp_path, told, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    words = ["ask", questions, "--writer", "http://127.0.0.1:9/v1", "--retries", 0]
    code, _, error = told(*words, "--out", tmp_path / "out.json")
    assert code == 1
    assert "was asked 1 times without an answer" in error
    line = {"prompt": "a", "answer": "b"}
    how = {"writer": "http://127.0.0.1:9/v1", "model": "", "tokens": 256, "temperature": 0.0}
    line["by"] = how | {"seed": 0, "chat": True}
    (tmp_path / "out.record.jsonl").write_text(json.dumps(line) + "\n")
    _, _, error = told(*words, "--out", tmp_path / "out.json")
    assert "keeps what was answered, and the same command goes on there" in error


def test_what_most_passages_name_is_a_rival_without_a_model(questions, tmp_path, told):
    words = ["ask", questions, "--writer", "passages", "--out", tmp_path / "out.json", "--json"]
    code, output, error = told(*words)
    assert code == 0, error
    factoid = json.loads(output)["scores"]["factoid"]
    assert factoid["lenient accuracy"]["value"] == 50


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b'{"questions": [{"id": 1}]}', b'{"questions": []}', b"\xff", b"[" * 9999]
    + [json.dumps({"questions": [question(0, "yesno", "perhaps")]}).encode()]
    + [json.dumps({"questions": [question(0, "yesno", "yes")] * 2}).encode()],
)
def test_a_file_of_another_form_is_refused(content, tmp_path):
    file = tmp_path / "questions.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="questions.json"):
        read_questions(file)


@pytest.mark.parametrize(
    ("kind", "answer", "names"),
    [
        ("yesno", "**No**, since", ("no",)),
        ("yesno", "Notably", ()),
        ("factoid", "a\nb\nc\nd\ne\nf", (*"abcde",)),
        ("factoid", "IL-2, soluble\n\nQuestion: next?", ("IL-2, soluble",)),
        ("list", "* a\n\n2. b\n" + "so " * 50, ("a", "b")),
        ("list", "3 beta, TP53", ("3 beta", "TP53")),
        ("factoid", "?\n.", ()),
    ],
)
def test_answers_are_understood(kind, answer, names):
    assert understood(kind, answer) == names

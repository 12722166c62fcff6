"""Writers: folders, addresses, records, and answers that are not what they should be."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from texts import causal_model

from adaptune.writers.address import AddressWriter
from adaptune.writers.opening import open_writer
from adaptune.writers.recorded import RecordedWriter, Recorder
from adaptune.writers.writer import LONGEST, NoAnswerError, Writing

KEY = "sk-very-secret"


def said(text: object) -> tuple[int, bytes]:
    return 200, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


@contextmanager
def serving(
    answer: Callable[[int, dict], tuple[int, bytes]], **headers: str
) -> Iterator[tuple[str, list]]:
    """Serve answers on a free port of this machine; list what was asked."""
    asked: list[tuple[str, str | None, dict]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers["Authorization"], body))
            code, content = answer(len(asked) - 1, body)
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return causal_model(tmp_path_factory.mktemp("llm") / "llm")


def test_a_folder_answers_alike_for_one_seed_and_anew_each_time(folder):
    writer = open_writer(f"hf:{folder}", Writing(tokens=6, temperature=1.0, chat=False))
    first, second = writer("the film was", 0), writer("the film was", 1)
    assert first != second
    again = open_writer(f"hf:{folder}", Writing(tokens=6, temperature=1.0, chat=False))
    again("a story", 0)
    assert (again("the film was", 1), again("the film was", 0)) == (second, first)
    other = open_writer(f"hf:{folder}", Writing(tokens=6, temperature=1.0, chat=False, seed=1))
    assert other("the film was", 0) != first


def test_without_temperature_a_folder_takes_the_likeliest_word_by_its_own_logits(folder):
    import torch

    writer = open_writer(f"hf:{folder}", Writing(tokens=4))
    ids = torch.tensor([writer.tokenizer("the film was")["input_ids"]])
    start = ids.shape[1]
    for _ in range(4):
        ids = torch.cat([ids, writer.model(ids).logits[:, -1:].argmax(2)], 1)
    wanted = writer.tokenizer.decode(ids[0, start:], skip_special_tokens=True)
    assert writer("the film was", 0) == writer("the film was", 5) == wanted.strip()


def test_a_conversations_template_is_put_around_a_prompt_where_there_is_one(folder):
    chat, plain = (open_writer(f"hf:{folder}", Writing(chat=one)) for one in (True, False))
    alone = plain._ids("film").tolist()
    assert chat._ids("film").tolist() == alone
    for one in (chat, plain):
        one.tokenizer.chat_template = "the {{ messages[0]['content'] }} was"
    assert plain._ids("film").tolist() == alone
    assert chat._ids("film").shape[1] == 3


def test_a_prompt_that_is_too_long_and_a_folder_of_another_kind_are_refused(folder, tmp_path):
    with pytest.raises(NoAnswerError, match=r"reads 64 with the answer's 60: give a shorter"):
        open_writer(f"hf:{folder}", Writing(tokens=60))("film " * 9, 0)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is no language model that transformers can open"):
        open_writer(f"hf:{tmp_path}")
    with pytest.raises(ValueError, match=r"no config.json in .*: give hf:FOLDER"):
        open_writer(f"hf:{tmp_path / 'none'}")


@pytest.mark.parametrize("name", ["gpt", "hf:", "recorded:", "ftp://a/v1", "http://", ""])
def test_what_names_no_writer_is_refused(name):
    with pytest.raises(ValueError, match="a writer"):
        open_writer(name)


def test_an_address_is_asked_in_openais_form_with_the_key_of_the_environment(monkeypatch):
    monkeypatch.setenv("OWN_KEY", KEY)
    how = Writing(model="m", key_variable="OWN_KEY", temperature=0.5, tokens=9)
    with serving(lambda *_: said(" good ")) as (place, asked):
        assert open_writer(place, how)("say good", 0) == "good"
        open_writer(place, how)("say good", 1)
    (path, key, body), (_, _, again) = asked
    assert (path, key) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert body.pop("seed") != again["seed"]
    said_so = [{"role": "user", "content": "say good"}]
    assert body == {"model": "m", "messages": said_so, "max_tokens": 9, "temperature": 0.5}


def test_a_text_that_goes_on_is_asked_for_without_a_conversation():
    plain = 200, json.dumps({"choices": [{"text": "on"}]}).encode()
    with serving(lambda *_: plain) as (place, asked):
        assert open_writer(place, Writing(chat=False))("and so", 0) == "on"
    path, key, body = asked[0]
    assert (path, key, body["prompt"]) == ("/v1/completions", None, "and so")


@pytest.mark.parametrize(
    "bad",
    [
        (500, b"oops"),
        (429, b""),
        (200, b"<html>"),
        (200, b'{"choices": []}'),
        (200, b"[" * 5000),
        said(3),
    ],
)
def test_what_fails_in_passing_is_asked_again(bad):
    with serving(lambda turn, _: bad if turn < 2 else said("at last")) as (place, asked):
        assert AddressWriter(place, Writing(retries=2), wait=0)("a", 0) == "at last"
        assert len(asked) == 3
    with serving(lambda *_: bad) as (place, asked):
        with pytest.raises(ConnectionError, match="was asked 2 times without an answer"):
            AddressWriter(place, Writing(retries=1), wait=0)("a", 0)
        assert len(asked) == 2


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ((400, b"too long a prompt"), NoAnswerError, "status 400: too long a prompt"),
        ((401, f"wrong key {KEY}".encode()), ConnectionError, r"wrong key \*\*\*"),
        ((404, b""), ConnectionError, "check the address, --model"),
        ((200, b"x" * (LONGEST + 1)), NoAnswerError, "more than 1048576 bytes"),
    ],
)
def test_what_is_refused_is_asked_once_and_the_key_is_shown_nowhere(
    answer, kind, told, monkeypatch
):
    monkeypatch.setenv("OWN_KEY", KEY)
    with serving(lambda *_: answer) as (place, asked):
        with pytest.raises(kind, match=told) as raised:
            AddressWriter(place, Writing(key_variable="OWN_KEY"), wait=0)("a", 0)
        assert len(asked) == 1
    assert KEY not in str(raised.value)


def test_prompts_and_key_are_not_taken_elsewhere_by_a_redirect():
    with serving(lambda *_: said("caught")) as (other, caught):
        where = {"Location": f"{other}/chat/completions"}
        with (
            serving(lambda *_: (302, b""), **where) as (place, _),
            pytest.raises(ConnectionError, match="status 302"),
        ):
            AddressWriter(place, Writing(), wait=0)("a", 0)
    assert not caught


def test_an_address_that_hangs_runs_out_of_time():
    def late(*_: object) -> tuple[int, bytes]:
        time.sleep(0.3)
        return said("late")

    wrong = pytest.raises(ConnectionError, match="timed out.*larger --timeout")
    with serving(late) as (place, _), wrong:
        AddressWriter(place, Writing(timeout=0.05, retries=0), wait=0)("a", 0)


@pytest.mark.parametrize("place", ["http://me:pass@host/v1", "http:///v1"])
def test_an_address_with_a_password_or_without_a_host_is_refused(place):
    with pytest.raises(ValueError, match="give a key by --key-variable") as raised:
        AddressWriter(place, Writing())
    assert "pass@" not in str(raised.value)


@pytest.mark.parametrize("key", ["", "a\nb", "schlüssel"])
def test_a_key_that_is_none_is_refused_unseen(key, monkeypatch):
    monkeypatch.setenv("OWN_KEY", key)
    with pytest.raises(ValueError, match="OWN_KEY"):
        AddressWriter("http://host/v1", Writing(key_variable="OWN_KEY"))


def counting(prompt: str, times: int) -> str:
    return f"{prompt} {times}"


def test_a_record_answers_a_prompt_as_often_as_it_was_asked(tmp_path):
    file = tmp_path / "a.jsonl"
    record = Recorder(counting, file, {"by": 1})
    assert [record(one) for one in "aab"] == ["a 0", "a 1", "b 0"]
    replay = RecordedWriter(file)
    assert [replay("a", 0), replay("a", 1), replay("b", 0)] == ["a 0", "a 1", "b 0"]
    with pytest.raises(NoAnswerError, match="has 1 answers to a prompt that ends in 'b'"):
        replay("b", 1)


def test_a_record_that_was_cut_goes_on_and_asks_nothing_twice(tmp_path):
    file = tmp_path / "a.jsonl"
    whole = Recorder(counting, file, {})
    for one in "abac":
        whole(one)
    content = file.read_bytes()
    for kept in (0, 1, 40, len(content) - 1, len(content)):
        file.write_bytes(content[:kept])
        again = Recorder(counting, file, {})
        assert [again(one) for one in "abac"] == ["a 0", "b 0", "a 1", "c 0"]
        assert file.read_bytes() == content
        assert again.asked == 4 - content[: kept + 1].count(b"\n")


def test_a_prompt_without_an_answer_leaves_no_trace_in_a_record(tmp_path):
    def fails_once(prompt: str, times: int, failed: list = []) -> str:  # noqa: B006
        if not failed:
            failed.append(prompt)
            raise NoAnswerError("no")
        return counting(prompt, times)

    record = Recorder(fails_once, tmp_path / "a.jsonl", {})
    with pytest.raises(NoAnswerError):
        record("a")
    assert record("a") == "a 0"
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 1


def test_a_record_of_another_writer_or_a_damaged_one_is_refused(tmp_path):
    file = tmp_path / "a.jsonl"
    Recorder(counting, file, {"seed": 0})("a")
    with pytest.raises(ValueError, match="holds answers of another writer"):
        Recorder(counting, file, {"seed": 1})
    file.write_text('{"prompt": "a"}\n')
    with pytest.raises(ValueError, match="line 1 is no"):
        RecordedWriter(file)
    with pytest.raises(ValueError, match="no record at"):
        RecordedWriter(tmp_path / "none")


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"temperature": -1.0}, {"timeout": 0.0}])
def test_what_no_model_can_do_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        Writing(**wrong)

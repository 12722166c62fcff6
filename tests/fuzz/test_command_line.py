"""Random words on the command line: whatever they are, an exit code and a sentence."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptune.commands import COMMANDS, main
from adaptune.networks.network import Network

# torch warns of more --workers than the machine has cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

PATIENCE = 60
"""Seconds after which a command hangs."""

DAMAGED_CONFIGS = {
    "cut.yaml": b"method: [daft",
    "words.yaml": b"just words",
    "list.yaml": b"- method\n- daft",
    "empty.yaml": b"",
    "null.yaml": b"method: null\ndata: null\nout: null",
    "kinds.yaml": b"method: [ft, lp]\ndata: {a: 1}\nout: 3",
    "numbers.yaml": b"lr: fast\nepochs: -1\nseed: 1.5\nbatch_size: .nan",
    "unknown.yaml": b"method: tnt\ncolour: red",
    "binary.yaml": bytes(range(256)),
    "python.yaml": b"data: !!python/object/apply:os.getcwd []",
    "deep.yaml": b"data: " + b"[" * 600,
    "deep closed.yaml": b"data: " + b"[" * 600 + b"]" * 600,
    "itself.yaml": b"config: itself.yaml\ndata: nowhere\nout: out",
    "keys.yaml": b"1: 2\n? [a, b]\n: 3\nnull: 4",
    "loop.yaml": b"data: &a [*a]\nout: out",
    "twice.yaml": b"data: a\ndata: b\nlr: 1\nlr: 2",
    "date.yaml": b"data: 2020-01-01\nout: 2020-01-01 10:00:00\nood: {a: b}\nclasses: cat",
    "fits.yaml": b"method: lp\ndata: nowhere\nout: out\nlr: 0.1",
}

DAMAGED_TABLES = {
    "empty.csv": b"",
    "header.csv": b"path,label\n",
    "nowhere.csv": b"path,label\nnowhere.png,cat\nnowhere.png,dog\n",
    "quotes.csv": b'path,label\n"a.png,cat\n',
    "binary.csv": bytes(range(256)),
    "columns.csv": b"a,b,c\n1,2\n",
    "table.parquet": b"PAR1 and no more",
}

DAMAGED_JSON = {
    "cut": '{"format": 1',
    "list": "[]",
    "nothing": "{}",
    "null": "null",
    "future": '{"format": 99}',
    "kinds": '{"format": "one", "origin": 3}',
    "origin": '{"format": 1, "origin": {"kind": "moon", "name": "x", "head": "y"}, "classes": []}',
}

SITUATIONS = ("nowhere", "notes.txt", "nothing", "broken", "half")

NUMBERS = ("0", "1", "-1", "7", "0.5", "nan", "inf", "1e999", "1e-999", "9" * 40, "0x10")

SHAPES = (
    "",
    " ",
    "-",
    "--",
    "=",
    "a=b",
    "id=x",
    "=x",
    "x=",
    "[",
    "[1,2]",
    "{a: 1}",
    "null",
    "true",
)

WRONG = (
    "--colour",
    "-x",
    "--ep",
    "--=",
    "--out.x",
    "--ood+",
    "--help=1",
    "---",
    "--lr--",
    "--\xff",
)

PLAUSIBLE = {
    "--device": ("cuda", "auto", "cpu"),
    "--method": ("ft", "lp", "lp-ft", "daft"),
    "--backbone": ("test_efficientnet", "torchvision/resnet18", "resnet18", "efficientnet-lite0"),
    "--weights": ("none", "net saved/network.safetensors"),
    "--methods": ("ft", "ft,lp"),
    "--domains": ("own", "leave-one-out", "photo,sketch"),
    "--pooling": ("exact", "batch"),
    "--precision": ("bf16-mixed", "16-mixed"),
    "--select": ("snd", "id-validation"),
    "--data": ("sketch=broken", "sketch=header.csv"),
    "--storage": ("studies.log", "sqlite:///studies.db", "redis://nowhere"),
}

UNCHECKED = {"--devices"}
"""What would bring up other processes."""

NAMES = ("ft", "lp", "daft", "lp-ft", "tnt", "ft.lr=1", "ft.lr=x", "lr=1", "own", "auto", "cuda")

TEXT = st.text(st.characters(exclude_characters="/\\.\0"), max_size=8)
"""Words of any alphabet, halves of characters too, that lead to no file outside the home."""


class Started(BaseException):
    """What must not happen: a training."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder full of damaged things, as the working folder; no network, training or process."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as monkey:
        monkey.chdir(folder)
        monkey.setenv("HF_HUB_OFFLINE", "1")
        monkey.setattr(socket.socket, "connect", _refuse)
        monkey.setattr(os, "fork", _refuse)
        monkey.setattr(
            subprocess.Popen, "__init__", _refuse
        )  # of --devices, with these words again
        monkey.setattr(torch.Tensor, "backward", _start)
        monkey.setattr("adaptune.commands.demo.build_demo", lambda *_, **__: _demo(folder))
        monkey.setattr("adaptune.commands.demo.build_tests", lambda *_, **__: {})
        _damage(folder)
        yield folder


def _refuse(*_: object, **__: object) -> NoReturn:
    raise OSError("refused by the test")


def _start(*_: object, **__: object) -> NoReturn:
    raise Started


def _demo(folder: Path) -> dict[str, Path]:
    return {name: folder / "nothing" for name in ("twemoji", "openmoji")}


def _damage(home: Path) -> None:
    """Write the things that the words may name."""
    for name, content in (DAMAGED_CONFIGS | DAMAGED_TABLES).items():
        (home / name).write_bytes(content)
    (home / "notes.txt").write_text("no data")
    (home / "nothing").mkdir()
    for image, content in {"cat/a.png": b"", "cat/b.jpg": b"junk", "dog/c.png": b"\x89PNG"}.items():
        (home / "broken" / image).parent.mkdir(parents=True, exist_ok=True)
        (home / "broken" / image).write_bytes(content)
    (home / "half" / "cat").mkdir(parents=True)
    for name, text in DAMAGED_JSON.items():
        for kind in ("network", "results"):
            run = home / f"{kind} {name}"
            run.mkdir()
            (run / f"{kind}.json").write_text(text)
            (run / "config.yaml").write_text("data: [")
    net = Network.from_timm("test_efficientnet", ["cat", "dog"])
    for name in ("saved", *DAMAGED_CONFIGS):
        net.save(home / f"net {name}")
        (home / f"net {name}" / "config.yaml").write_bytes(DAMAGED_CONFIGS.get(name, b""))


DATA = [*SITUATIONS, *DAMAGED_TABLES]

RUNS = [f"network {name}" for name in DAMAGED_JSON] + [
    f"net {name}" for name in ("saved", "saved", "saved", *DAMAGED_CONFIGS)
]

RESULTS = [f"results {name}" for name in DAMAGED_JSON]

PLACES = (
    dict.fromkeys(("fit", "search", "compare", "convert", "doctor"), DATA)
    | dict.fromkeys(("evaluate", "predict", "choose"), RUNS)
    | {"report": RESULTS}
)

OUT = {"fit", "search", "compare", "predict", "convert", "demo"}

THINGS = st.sampled_from([*DATA, *RUNS, *RESULTS, *DAMAGED_CONFIGS])

VALUES = st.one_of(
    THINGS,
    st.sampled_from(NUMBERS),
    st.sampled_from(SHAPES),
    st.sampled_from(NAMES),
    THINGS.map("sketch={}".format),
    TEXT,
)


def options(command: str, known: dict[str, list[str]] = {}) -> list[str]:  # noqa: B006
    """Read from its help what a command can be told."""
    if command not in known:
        out = io.StringIO()
        with redirect_stdout(out):
            main([command, "--help"])
        found = set(re.findall(r"--[a-z][a-z-]+", out.getvalue()))
        known[command] = sorted(found - UNCHECKED if command == "fit" else found)
    return known[command]


@st.composite
def words(draw) -> list[str]:
    """Draw a command line that is right more often than not, so that it gets somewhere."""
    command = draw(st.sampled_from([*COMMANDS] * 6 + ["", "-h", "--version", "fti", "\udcff"]))
    said = [command]
    if command in PLACES and draw(st.integers(0, 9)):
        said.append(draw(st.sampled_from(PLACES[command])))
    if command == "choose" and draw(st.integers(0, 9)):
        said += ["--images", draw(st.sampled_from(SITUATIONS))]
    if command == "predict":
        said += draw(st.lists(st.sampled_from(SITUATIONS), min_size=1, max_size=2))
    if command in OUT and draw(st.integers(0, 9)):
        said += ["--out", draw(st.sampled_from(("out", "out", "notes.txt", "\udcff", "nothing")))]
    own = st.sampled_from(options(command) if command in COMMANDS else WRONG)
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2, 3)))):
        kind = draw(st.sampled_from((*["option"] * 8, "several", "config", "config", "stray")))
        if kind == "option":
            option = draw(own)
            likely = st.sampled_from(PLAUSIBLE.get(option, NUMBERS))
            said.append(f"{option}={draw(likely if draw(st.booleans()) else VALUES)}")
        elif kind == "several":
            said += [draw(own), *draw(st.lists(VALUES, max_size=2))]
        elif kind == "config":
            said += ["--config", draw(st.sampled_from([*DAMAGED_CONFIGS, "nowhere", "nothing"]))]
        else:
            said.append(draw(st.one_of(VALUES, st.sampled_from(WRONG), TEXT)))
    return said


@contextmanager
def patience():
    """Do not wait for ever."""

    def hang(*_: object) -> None:
        raise Started(f"no end after {PATIENCE} seconds")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tell(line: list[str]) -> tuple[object, str]:
    """Run a command line as a terminal would; give the exit code and what stderr shows."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    error = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with redirect_stdout(out), redirect_stderr(error), patience(), patch.dict(os.environ):
        code = main(line)
    error.flush()
    return code, error.buffer.getvalue().decode()


def check(line: list[str]) -> None:
    code, error = tell([word for word in line if word != "--debug"])
    assert code in (0, 1, 2)
    assert bool(error) or code == 0, "a failure says why"
    assert "This is a bug" not in error


calm = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.no_cover
@settings(calm, max_examples=300)
@given(line=words())
def test_any_words_end_in_an_exit_code_and_a_sentence(home, line):
    check(line)


@pytest.mark.slow
@pytest.mark.no_cover
@settings(calm, max_examples=2_000)
@given(line=words())
def test_many_more_words_end_in_an_exit_code_and_a_sentence(home, line):
    check(line)


# What the random words found, and what nobody found yet


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["fit", "--config", "kinds.yaml"], "kinds.yaml should name one method"),
        (["fit", "--config", "deep.yaml"], "deep.yaml could not be read as YAML"),
        (["fit", "--config", "binary.yaml"], "binary.yaml could not be read as YAML"),
        (["compare", "--config", "binary.yaml"], "binary.yaml could not be read as YAML"),
        (["compare", "--config", "date.yaml"], "--config names, cannot be read"),
        (["compare", "nowhere", "--out", "out", "--ep", "3"], "--ep"),
        (["compare", "nowhere", "--out", "notes.txt"], "notes.txt cannot be made (File exists)"),
        (["search", "nowhere", "--out", "notes.txt"], "notes.txt cannot be made (File exists)"),
        (["convert", "nowhere", "--out", "nothing"], "nothing is a folder: name a file"),
        (["evaluate", "net kinds.yaml"], "config.yaml gives {'a': 1} for data"),
        (["evaluate", "net loop.yaml"], "for data, which no run does"),
        (["evaluate", "net words.yaml"], "config.yaml holds no settings"),
        (["evaluate", "net deep.yaml"], "config.yaml could not be read as YAML"),
        (["report", "results nothing"], "holds results that are damaged or of another version"),
        (["report", "results cut"], "holds results that are damaged or of another version"),
    ],
)
def test_what_once_was_a_traceback_or_a_riddle_says_what_is_wrong(home, line, says):
    code, error = tell(line)
    assert code in (1, 2)
    assert says in error


def test_a_run_of_an_earlier_version_is_measured_by_the_settings_that_it_knew(home, photos):
    net = Network.from_timm("test_efficientnet", ["dots", "rings", "stripes"])
    net.save(home / "earlier")
    (home / "earlier" / "config.yaml").write_text(f"data: {photos}\nval_share: 0.5\n")
    code, error = tell(["evaluate", "earlier", "--device", "cpu"])
    assert code == 0, error
    assert "accuracy in percent" in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is such a device here")
@pytest.mark.parametrize("line", [["evaluate", "net saved"], ["predict", "net saved", "broken"]])
def test_a_device_that_is_not_there_is_named(home, line):
    code, error = tell([*line, "--device", "cuda"])
    assert code == 1
    assert "torch finds nothing here for --device cuda" in error


def failing(monkeypatch, error: Exception) -> tuple[object, str]:
    def run(_: object) -> NoReturn:
        raise error

    monkeypatch.setattr("adaptune.commands.methods.run", run)
    return tell(["methods"])


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (KeyError("lr"), "KeyError: 'lr'. This is a bug in adaptune: run again with --debug and"),
        (RuntimeError("size"), "RuntimeError: size. This is a bug in adaptune: run again with"),
        (MemoryError(), "there is not enough memory: give a smaller --batch-size or --image-size"),
        (
            torch.OutOfMemoryError("12 GiB"),
            "there is not enough memory: give a smaller --batch-size",
        ),
        (ImportError("no libjpeg"), "no libjpeg: a package is missing or broken"),
        (ValueError("no folder at x"), "no folder at x"),
        (OSError(), "OSError"),
    ],
)
def test_an_error_that_no_one_foresaw_is_one_sentence_with_what_to_do(monkeypatch, error, says):
    code, said = failing(monkeypatch, error)
    assert code == 1
    assert said.startswith(f"adaptune methods: {says}")
    assert said.count("\n") == 1


def test_debug_shows_where_an_error_came_from_that_no_one_foresaw(monkeypatch):
    failing(monkeypatch, KeyError("lr"))
    with pytest.raises(KeyError):
        main(["methods", "--debug"])

"""What many tests share: two tiny domains on disk, and one run that was finished on them."""

import io
import json
import os
import sys
from functools import cache
from html import escape
from pathlib import Path

# On tensors this small, threads that wait for each other take ten times as long as one alone; this
# has to be known before they are imported, and to the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from lightning_fabric import fabric
from machine import machine
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from adaptune.commands import main
from adaptune.engine import warmup

torch.set_num_threads(1)

HERE = Path(__file__)
PATTERNS = ("dots", "rings", "stripes")
EACH = 20


def draw(pattern: int, shift: float, rng: np.random.Generator) -> Image.Image:
    """Draw 16 x 16 pixels: a pattern and a tint for the class, a colour shift for the domain."""
    y, x = np.mgrid[:16, :16]
    shapes = ((x // 4 + y // 4) % 2, ((x - 8) ** 2 + (y - 8) ** 2) // 16 % 2, x // 3 % 2)
    pixels = shapes[pattern][..., None] * 120.0 + 20 + rng.normal(0, 12, (16, 16, 3))
    pixels[..., pattern] += 80
    pixels += shift * np.array([-1, 0, 1])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_domain(folder: Path, *, shift: float = 0.0, each: int = EACH) -> Path:
    """Write a folder of three class folders, the same stems whatever the shift."""
    rng = np.random.default_rng(0)
    for pattern, name in enumerate(PATTERNS):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            draw(pattern, shift, rng).save(folder / name / f"{name}-{number:02}.png")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Run a test marked ``alone`` while no other one runs, in any process."""
    alone = item.get_closest_marker("alone") is not None
    with machine(HERE, HERE.with_name("machine.py"), alone=alone):
        return (yield)


def _untraced(*args, draw=Figure.savefig, **options):
    """Do not let coverage follow Matplotlib, none of which it counts: it takes half the time."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        return draw(*args, **options)
    finally:
        sys.settrace(trace)


def _sketched(figure, file, **options):
    """Write a figure of a page as its words alone; others are drawn."""
    if isinstance(file, io.StringIO):
        words = [escape(one.get_text()) for one in figure.findobj(Text)]
        file.write(f"<svg>{''.join(f'<text>{word}</text>' for word in words if word)}</svg>")
    else:
        _untraced(figure, file, **options)


@pytest.fixture(autouse=True, scope="session")
def _figures_sketched():
    """Leave out what takes most of a page's time, and what few tests look at."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Figure, "savefig", _sketched)
        yield


@pytest.fixture(scope="module")
def drawn():
    """Draw the figures of pages whole, for tests of what may come into them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Figure, "savefig", _untraced)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_layout_by_luck():
    """Passes this short take long on a busy machine alone, which must not choose the layout.

    For the whole session, so that it holds for runs that tests share, too.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(warmup, "BRIEF", 10.0)
        yield


@pytest.fixture(autouse=True, scope="session")
def _packages_asked_once():
    """Every Fabric asks all packages that are installed for callbacks of theirs; once is enough."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fabric, "_load_external_callbacks", cache(fabric._load_external_callbacks))
        yield


@pytest.fixture(scope="session")
def two_domains(tmp_path_factory) -> Path:
    """A folder with ``photo`` and ``sketch``: to read, not to write into."""
    folder = tmp_path_factory.mktemp("domains")
    draw_domain(folder / "photo")
    draw_domain(folder / "sketch", shift=60.0)
    return folder


@pytest.fixture(scope="session")
def photos(two_domains) -> Path:
    return two_domains / "photo"


@pytest.fixture(scope="session")
def sketches(two_domains) -> Path:
    return two_domains / "sketch"


@pytest.fixture
def own_photos(tmp_path) -> Path:
    """Photos that a test may change."""
    return draw_domain(tmp_path / "photo")


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Options that make a command quick: a small network with random weights."""
    network = ["--backbone=test_efficientnet", "--weights=none", "--image-size=32", "--crop=1"]
    return [*network, "--batch-size=16"]


@pytest.fixture(scope="session")
def fit_words(photos, sketches, tiny) -> list[str]:
    """The words that made ``finished``, all but ``--out``."""
    return ["fit", str(photos), "--ood", f"sketch={sketches}", *tiny, "--epochs", "2"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory, fit_words) -> Path:
    """The folder of a finished DAFT run on photos, tested on sketches: to read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main([*fit_words, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def finished_results(finished) -> dict:
    return json.loads((finished / "results.json").read_text())


@pytest.fixture
def at_home(tmp_path, monkeypatch) -> Path:
    """A working folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def told(capsys, monkeypatch):
    """Run a command: give its exit code, stdout, and stderr in one line."""
    monkeypatch.setenv("COLUMNS", "1000")  # where rich breaks a line it may break a path

    def tell(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, error = capsys.readouterr()
        return code, out, " ".join(error.split())

    return tell

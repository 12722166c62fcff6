"""The shape of the code, checked."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from adaptune.methods import METHODS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "adaptune"

# Who may import whom: a file may import from its own layer and from those before it.
LAYERS = [
    ["types", "durable", "signals", "limits"],
    ["ops", "select"],
    ["task", "rejection", "head", "saved", "faults", "checkpoint", "rules", "split"],
    ["architectures"],
    ["hugging_face"],
    ["network"],
    ["backbone", "data", "method", "catalog"],
    ["descent", "run", "batches"],
    ["loop", "streams", "rehearsal", "methods", "summary", "standings"],
    ["terminal", "report", "judge", "training", "resume"],
    ["course"],
    ["experiment", "search"],
    ["grid"],
    ["comparison"],
    ["commands"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adaptune."):
            found.add(node.module.split(".")[1])
    return found


def layer(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = [file for file in SOURCE.rglob("*.py") if file.name != "__main__.py"]
INNER = [f for f in FILES if f != SOURCE / "__init__.py"]


@pytest.mark.parametrize("file", INNER, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_run_one_way(file):
    own = RANK[layer(file)]
    above = {name for name in imports(file) if RANK[name] > own}
    assert not above, f"{file.name} imports {above} from above"


def test_the_loop_never_imports_methods():
    for name in ("loop", "streams", "descent", "run"):
        assert "methods" not in imports(SOURCE / f"{name}.py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_files_are_short(file):
    text = file.read_text()
    limit = 120 if file.parent.name == "methods" else 300
    assert len(text.splitlines()) <= limit


def test_every_public_name_is_documented():
    import adaptune

    for name in adaptune.__all__:
        assert getattr(adaptune, name).__doc__, name


@pytest.mark.parametrize("file", ["loop", "descent", "rules", "streams", "run", "batches"])
def test_the_engine_knows_no_method(file):
    text = (SOURCE / f"{file}.py").read_text()
    tree = list(ast.walk(ast.parse(text)))
    names = {one.id for one in tree if isinstance(one, ast.Name)}
    names |= {one.name for one in tree if isinstance(one, ast.alias)}
    words = {one.value for one in tree if isinstance(one, ast.Constant)}
    assert not names & {method.__name__ for method in METHODS.values()}
    assert not words & set(METHODS)
    assert not re.search(r"isinstance\(\s*method", text)

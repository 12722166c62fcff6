"""The shape of the code, checked."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from adaptune.methods import METHODS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "adaptune"

# Who may import whom: a room may import from its own layer and from those before it.
LAYERS = [
    ["types", "catalog", "runtime", "results"],
    ["metrics", "batchnorm", "ops"],
    ["tasks", "networks"],
    ["data", "engine"],
    ["methods", "selection", "report", "integrations", "writers"],
    ["runs"],
    ["studies", "serving"],
    ["commands"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def modules(file: Path) -> set[str]:
    """List the modules of this package that a file imports, with dots."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adaptune."):
            inner = node.module.removeprefix("adaptune.")
            found |= {inner, *(f"{inner}.{one.name}" for one in node.names)}
        elif isinstance(node, ast.ImportFrom) and node.module == "adaptune":
            found |= {one.name for one in node.names}
    return found


def rooms(file: Path) -> set[str]:
    return {name.split(".")[0] for name in modules(file)}


def room(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = [file for file in SOURCE.rglob("*.py") if file.name != "__main__.py"]
INNER = [f for f in FILES if f != SOURCE / "__init__.py"]
ENGINE = sorted((SOURCE / "engine").glob("*.py"))


def name_of(file: Path) -> str:
    return str(file.relative_to(SOURCE))


@pytest.mark.parametrize("file", INNER, ids=name_of)
def test_imports_run_one_way(file):
    above = {name for name in rooms(file) if RANK[name] > RANK[room(file)]}
    assert not above, f"{file.name} imports {above} from above"


def test_no_rooms_import_each_other_in_circles():
    arrows: dict[str, set[str]] = {}
    for file in INNER:
        arrows.setdefault(room(file), set()).update(rooms(file) - {room(file)})
    assert len(list(TopologicalSorter(arrows).static_order())) == len(RANK)


def code_lines(file: Path) -> int:
    """Count the lines of a file without those of its docstrings."""
    text = file.read_text()
    count = len(text.splitlines())
    for node in ast.walk(ast.parse(text)):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            said = node.body[0]
            count -= (said.end_lineno or said.lineno) - said.lineno + 1
    return count


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_are_short(file):
    assert len(file.read_text().splitlines()) <= 300
    if file.parent.parent.name == "methods":
        assert code_lines(file) <= 100


def test_methods_lie_in_the_folder_of_their_setting():
    for name, method in METHODS.items():
        folder = method.__module__.split(".")[2]
        assert folder == method.setting.replace("-", "_"), name


def test_every_public_name_is_documented():
    import adaptune

    for name in adaptune.__all__:
        assert getattr(adaptune, name).__doc__, name


@pytest.mark.parametrize("file", ENGINE, ids=name_of)
def test_the_engine_knows_no_method(file):
    tree = list(ast.walk(ast.parse(file.read_text())))
    names = {one.id for one in tree if isinstance(one, ast.Name)}
    names |= {one.name for one in tree if isinstance(one, ast.alias)}
    words = {one.value for one in tree if isinstance(one, ast.Constant)}
    assert not names & {method.__name__ for method in METHODS.values()}
    assert not words & set(METHODS)
    assert not re.search(r"isinstance\(\s*method", file.read_text())


@pytest.mark.parametrize("file", ENGINE, ids=name_of)
def test_the_engine_knows_no_concrete_task_input_or_label(file):
    concrete = re.compile(
        r"tasks\.(?!task\b)\w+|data\.(inputs|labels|readers)\b|metrics\.(?!(tally|sample)\b)\w+"
    )
    assert not [name for name in modules(file) if concrete.match(name)]

"""What the methods say of themselves, read from their source, without importing any or torch."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One method: ``summary`` is its docstring's first line, ``options`` hold the defaults.

    ``setting`` says what data it asks for, ``paper`` is what its docstring gives as the source.
    """

    name: str
    setting: str
    summary: str
    paper: str
    options: dict[str, Any]


def catalog() -> list[Entry]:
    """Read every listed method, in the order of the list.

    Raises:
        ValueError: If a class does not say what is read here, or not as a literal.

    >>> [one.name for one in catalog()][0], catalog()[0].options
    ('ft', {'lr': 0.03, 'batchnorm': 'train'})
    """
    methods = _assigned(_tree("methods.__init__").body)["METHODS"]
    if not isinstance(methods, ast.Dict):
        raise ValueError("METHODS must be written out as a dictionary: the list is read from there")
    pairs = zip(filter(None, methods.keys), map(ast.unparse, methods.values), strict=True)
    places = homes()
    return [_entry(ast.literal_eval(name), kind, places[kind]) for name, kind in pairs]


def homes() -> dict[str, str]:
    """Say in which module of this package each method's class is, by the list's imports.

    >>> homes()["DANN"]
    'methods.dann'
    """
    return {
        one.name: line.module.removeprefix("adaptune.")
        for line in _tree("methods.__init__").body
        if isinstance(line, ast.ImportFrom) and (line.module or "").startswith("adaptune.methods.")
        for one in line.names
        if line.module
    }


def _entry(name: str, kind: str, module: str) -> Entry:
    """Read one class."""
    [found] = [x for x in _tree(module).body if isinstance(x, ast.ClassDef) and x.name == kind]
    said = ast.get_docstring(found) or ""
    source = re.search(r"Source: (.+?)\.(?: |$)", " ".join(said.split()))
    setting = _assigned(found.body).get("setting")
    starts = [x for x in found.body if isinstance(x, ast.FunctionDef) and x.name == "__init__"]
    if not (source and setting and starts):
        raise ValueError(
            f"{kind} in {module} must have 'Source: ...' in its docstring, a setting and an "
            "__init__ of its own: the list of methods is read from there"
        )
    own = starts[0].args
    options = {
        option.arg: ast.literal_eval(default)
        for option, default in zip(own.kwonlyargs, own.kw_defaults, strict=True)
        if default is not None
    }
    return Entry(name, ast.literal_eval(setting), said.splitlines()[0], source.group(1), options)


def _assigned(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """Give the annotated names of a body that have values."""
    lines = [line for line in body if isinstance(line, ast.AnnAssign)]
    return {ast.unparse(line.target): line.value for line in lines if line.value}


def _tree(module: str) -> ast.Module:
    """Parse a module of this package."""
    file = files("adaptune").joinpath(module.replace(".", "/") + ".py")
    return ast.parse(file.read_text(encoding="utf-8"))

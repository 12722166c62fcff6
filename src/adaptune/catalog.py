"""What methods say of themselves, and on what they work, read from their source without torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One method: ``summary`` is its docstring's first line, ``options`` hold the defaults.

    ``setting`` says what data it asks for, ``paper`` is what its docstring gives as the source;
    ``meanings`` say what each option is. ``task`` is the kind of task that it works on, and
    ``tasks`` are the listed ones of that kind.
    """

    name: str
    setting: str
    summary: str
    paper: str
    options: dict[str, Any]
    meanings: dict[str, str]
    task: str
    tasks: tuple[str, ...]

    @property
    def works_on(self) -> str:
        """Say in words what it works on.

        >>> [one.works_on for one in catalog() if one.name in ("ft", "tent", "glc")]
        ['any task', 'classification', 'labelling']
        """
        return "any task" if self.task == "Task" else self.task.lower()


def catalog() -> list[Entry]:
    """Read every listed method, in the order of the list.

    Raises:
        ValueError: If a class does not say what is read here, or not as a literal.

    >>> [one.name for one in catalog()][0], catalog()[0].options
    ('ft', {'lr': 0.03, 'batchnorm': 'train'})
    """
    places = homes()
    return [_entry(name, kind, places[kind]) for name, kind in _listed("methods", "METHODS")]


def tasks() -> dict[str, tuple[str, ...]]:
    """Name the class of every listed task, and those that it inherits from.

    >>> tasks()["classification"]
    ('Classification', 'Labelling', 'Task')
    """
    places = homes("tasks")
    return {name: tuple(_kinds(kind, places[kind])) for name, kind in _listed("tasks", "TASKS")}


def homes(room: str = "methods") -> dict[str, str]:
    """Say in which module of this package each class of a list is, by the list's imports.

    >>> homes()["DANN"]
    'methods.unsupervised.dann'
    """
    return _imports(f"{room}.__init__", room)


def _listed(room: str, name: str) -> list[tuple[str, str]]:
    """Read a list: names, and the classes of these names."""
    found = _assigned(_tree(f"{room}.__init__").body)[name]
    if not isinstance(found, ast.Dict):
        raise ValueError(f"{name} must be written out as a dictionary: the list is read from there")
    pairs = zip(filter(None, found.keys), found.values, strict=True)
    return [(ast.literal_eval(key), ast.unparse(value)) for key, value in pairs]


def _imports(module: str, room: str) -> dict[str, str]:
    """Say which names a module imports from modules of a room."""
    return {
        one.name: line.module.removeprefix("adaptune.")
        for line in _tree(module).body
        if isinstance(line, ast.ImportFrom) and (line.module or "").startswith(f"adaptune.{room}.")
        for one in line.names
        if line.module
    }


def _kinds(kind: str, module: str) -> Iterator[str]:
    """Name a class of tasks and those of them that it inherits from."""
    places = _imports(module, "tasks")
    yield kind
    for base in map(ast.unparse, _class(kind, module).bases):
        if base in places or any(_classes(base, module)):
            yield from _kinds(base, places.get(base, module))


def _classes(name: str, module: str) -> list[ast.ClassDef]:
    return [x for x in _tree(module).body if isinstance(x, ast.ClassDef) and x.name == name]


def _class(name: str, module: str) -> ast.ClassDef:
    [found] = _classes(name, module)
    return found


def _entry(name: str, kind: str, module: str) -> Entry:
    """Read one class of a method."""
    found = _class(kind, module)
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
    hints = {one.arg: ast.unparse(one.annotation) for one in own.args if one.annotation}
    task = hints.get("task", "Task")
    return Entry(
        name,
        ast.literal_eval(setting),
        said.splitlines()[0],
        source.group(1),
        options,
        argument_meanings(said),
        task,
        tuple(one for one, kinds in tasks().items() if task in kinds),
    )


def argument_meanings(docstring: str) -> dict[str, str]:
    """Read what a docstring says of each argument, below ``Args:``.

    >>> lines = ["It.", "", "Args:", "    lr: How fast, in", "        steps.", "    k: How many."]
    >>> argument_meanings(chr(10).join(lines))
    {'lr': 'How fast, in steps.', 'k': 'How many.'}
    """
    found: dict[str, str] = {}
    for line in docstring.partition("\nArgs:\n")[2].splitlines():
        name, colon, said = line.strip().partition(": ")
        if colon and line[:5].strip() and not line[:4].strip():
            found[last := name] = said
        elif line.startswith(" ") and found:
            found[last] += f" {line.strip()}"
    return found


def _assigned(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """Give the annotated names of a body that have values."""
    lines = [line for line in body if isinstance(line, ast.AnnAssign)]
    return {ast.unparse(line.target): line.value for line in lines if line.value}


@cache
def _tree(module: str) -> ast.Module:
    """Parse a module of this package."""
    file = files("adaptune").joinpath(module.replace(".", "/") + ".py")
    return ast.parse(file.read_text(encoding="utf-8"))

"""The parser of every command: names stay words whatever they look like, numbers are in range."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentParser, Namespace, set_loader

from adaptune.engine.method import Method, hyperparameters, refuse_options
from adaptune.runtime.limits import check_range
from adaptune.tasks.task import Task

Record = TypeVar("Record")

NUMBER = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)\Z")
"""Numbers that people write and YAML 1.1 does not know, such as 1e-3."""

NAMES = {
    *("data", "from", "teacher", "out", "weights", "ood", "source", "target", "domain", "domains"),
    *("classes", "methods", "untuned", "set", "over", "study", "storage", "labels", "label_table"),
    "words",
}
"""Settings that hold names and places: 1e3, yes and 2020-01-01 are words there."""


class Reader(yaml.SafeLoader):
    """Reads YAML, with numbers as people write them."""


Reader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+0123456789"))


def load_yaml(text: str) -> Any:
    """Read YAML; what stands for names stays as it is written.

    >>> load_yaml("{lr: 1e-3, domain: 1e3, classes: [yes, 0x10, null]}")
    {'lr': 0.001, 'domain': '1e3', 'classes': ['yes', '0x10', 'null']}
    """
    node = yaml.compose(text, Loader=Reader)
    if node is None:
        return None
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in NAMES:
                _keep(value)
    reader = Reader("")
    try:
        return reader.construct_document(node)
    finally:
        reader.dispose()


def _keep(node: yaml.Node) -> None:
    """Let plain values be words; one that is null by itself is no name."""
    words = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for one in words:
        nothing = one is node and one.tag.endswith(":null")
        if isinstance(one, yaml.ScalarNode) and one.tag.startswith("tag:yaml.org") and not nothing:
            one.tag = "tag:yaml.org,2002:str"


set_loader("adaptune", load_yaml, exceptions=(yaml.YAMLError,))


class Parser(ArgumentParser):
    """A parser whose options have dashes where the signatures have underscores.

    What records and methods refuse, it refuses as soon as the words are read.
    """

    def __init__(self, **settings: Any) -> None:
        self.kinds: list[tuple[type, Mapping[str, Any]]] = []
        self.bounds: dict[str, tuple[float, float]] = {}
        super().__init__(allow_abbrev=False, parser_mode="adaptune", **settings)

    def parse_args(self, *args: Any, **settings: Any) -> Namespace:  # type: ignore[override]
        """Parse arguments, as argparse does.

        Raises:
            ValueError: If a number is out of range.
        """
        try:
            given = super().parse_args(*args, **settings)
        except (RuntimeError, UnicodeError) as error:  # what the parser stumbles over itself
            self.error(f"a value, or a file that --config names, cannot be read: {error}")
        for name, (low, high) in self.bounds.items():
            check_range(name, given[name.removeprefix("--").replace("-", "_")], low, high)
        for kind, fixed in self.kinds:
            if issubclass(kind, Method | Task):
                own = {name: given[name] for name in hyperparameters(kind) if name in given}
                refuse_options(kind, own)
            else:
                record_of(kind, given, **fixed)
        return given

    def add_argument(
        self, *names: str, between: tuple[float, float] | None = None, **settings: Any
    ) -> Any:
        """Add an argument, as argparse does; a number that is not ``between`` two is refused."""
        dashed = [name.replace("_", "-") if name.startswith("--") else name for name in names]
        if between is not None:
            self.bounds[dashed[0]] = between
        return super().add_argument(*dashed, **settings)

    def add_class_arguments(
        self, kind: type, *args: Any, fixed: Mapping[str, Any] | None = None, **settings: Any
    ) -> Any:
        """Add what a record, method or task is made of; ``fixed`` are what no option gives."""
        self.kinds.append((kind, fixed or {}))
        return super().add_class_arguments(kind, *args, **settings)


def record_of(kind: type[Record], given: Namespace, **more: Any) -> Record:
    """Build a dataclass from the arguments that carry the names of its fields."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    known = {name: given[name] for name in names if name in given}
    return kind(**(known | more))

"""The parser of all commands: options read from signatures, and numbers that are in range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from jsonargparse import ArgumentParser, Namespace

from adaptune.limits import within
from adaptune.method import hyperparameters, refuse_options

Record = TypeVar("Record")


class Parser(ArgumentParser):
    """A parser whose options have dashes where the signatures have underscores.

    What records and methods refuse, it refuses as soon as the words are read.
    """

    def __init__(self, **settings: Any) -> None:
        self.kinds: list[tuple[type, Mapping[str, Any]]] = []
        self.bounds: dict[str, tuple[float, float]] = {}
        super().__init__(allow_abbrev=False, **settings)

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
            within(name, given[name.removeprefix("--").replace("-", "_")], low, high)
        for kind, fixed in self.kinds:
            if is_dataclass(kind):
                record(kind, given, **fixed)
            else:
                own = {name: given[name] for name in hyperparameters(kind) if name in given}
                refuse_options(kind, own)
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
        """Add what a record or a method is made of; ``fixed`` are fields that no option gives."""
        self.kinds.append((kind, fixed or {}))
        return super().add_class_arguments(kind, *args, **settings)


def record(kind: type[Record], given: Namespace, **more: Any) -> Record:
    """Build a dataclass from the arguments that carry the names of its fields."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    known = {name: given[name] for name in names if name in given}
    return kind(**(known | more))

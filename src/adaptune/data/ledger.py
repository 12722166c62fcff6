"""What passes over the data leave behind: what could not be read, whose labels were queried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from adaptune.data.loading import Key, Loading, RowSource, Stacked, load_groups
from adaptune.data.sample import Unreadable
from adaptune.runtime.processes import gather_objects


@dataclass
class Ledger:
    """Files that could not be read, by path, and rows of the target whose labels were given."""

    problems: dict[str, str] = field(default_factory=dict)
    queried: set[int] = field(default_factory=set)

    def note(self, broken: Iterable[Unreadable], *, strict: bool) -> None:
        """Note what could not be read.

        Raises:
            ValueError: If that ``stops``, or nothing may be left out.
        """
        for one in broken:
            if one.stops:
                raise ValueError(f"{one.path} cannot be used: {one.reason}")
            if strict:
                raise ValueError(f"{one.path} could not be read: {one.reason}")
            self.problems[one.path] = one.reason

    def load(
        self,
        rows: RowSource,
        groups: Sequence[list[Key]],
        loading: Loading,
        label: str,
        *,
        filled: bool = False,
    ) -> Iterator[Stacked | None]:
        """Read rows group by group: what could be read of each, None if that is nothing."""
        for stack, broken in load_groups(rows, groups, loading, label, filled=filled):
            self.note(broken, strict=loading.strict)
            yield stack

    def gathered_problems(self) -> dict[str, str]:
        """Give what all processes could not read, by path; all must ask, and all are told."""
        return {path: why for own in gather_objects(self.problems) for path, why in own.items()}

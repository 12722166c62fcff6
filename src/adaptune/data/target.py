"""What is adapted to: images of a domain whose labels nobody may see."""

from __future__ import annotations

from dataclasses import dataclass, field

from adaptune.data.loading import EmptyRows, RowSource


@dataclass(frozen=True)
class Target:
    """Images of a domain whose labels nobody may see: as they are, and varied for training."""

    name: str = ""
    rows: RowSource = field(default_factory=EmptyRows)
    augmented: RowSource = field(default_factory=EmptyRows)

    def __len__(self) -> int:
        return len(self.rows)

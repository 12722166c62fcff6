"""Training batches of one side read by their plan, each process its part of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adaptune.data.ledger import Ledger
from adaptune.data.loading import Key, Loading, RowSource, Stacked, stack_samples
from adaptune.data.missing import refuse_unreadable
from adaptune.data.order import BatchPlan, share_of_process
from adaptune.data.sample import Sample, Unreadable
from adaptune.runtime.processes import rank_and_world


@dataclass(frozen=True)
class BatchReader:
    """Reads ``rows`` by a ``plan``; ``label`` is what people are told that they are."""

    rows: RowSource
    plan: BatchPlan
    label: str
    loading: Loading
    ledger: Ledger

    def read(self, start: int) -> Iterator[Stacked]:
        """Give this process's part of every batch, from number ``start`` on.

        Raises:
            ValueError: If nothing is readable, or a batch has fewer rows than there are processes.
        """
        groups = share_of_process(self.plan.groups[start:], *rank_and_world())
        return self._stacks(groups, start)

    def _stacks(self, groups: list[list[Key]], start: int) -> Iterator[Stacked]:
        stacks = self.ledger.load(self.rows, groups, self.loading, self.label)
        for number, stack in enumerate(stacks):
            yield stack or self._instead(len(groups[number]), start + number)

    def _instead(self, wanted: int, number: int) -> Stacked:
        """Read the images that come after a batch of which nothing could be read."""
        spare = self.plan.spare
        after = (number + 1) * len(self.plan.groups[0]) + rank_and_world()[0]
        found: list[Sample] = []
        for at in range(len(spare)):
            item = self.rows[spare[(after + at) % len(spare)]]
            if isinstance(item, Unreadable):
                self.ledger.note([item], strict=self.loading.strict)
            else:
                found.append(item)
            if len(found) == wanted:
                break
        stack, _ = stack_samples(found)
        if stack is None:
            refuse_unreadable(self.rows, self.label)
            raise ValueError(f"none of the {self.label} images that come next could be read")
        return stack

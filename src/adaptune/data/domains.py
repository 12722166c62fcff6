"""The data of a run: domains to learn from, others to test on, all served in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, zip_longest
from pathlib import Path

import torch

from adaptune.data.annotators import Annotator, NoAnnotator
from adaptune.data.dataset_rows import DatasetRows
from adaptune.data.inputs.image import (
    Augment,
    ImageFiles,
    Sample,
    Transform,
    Unreadable,
    transform_for,
)
from adaptune.data.loading import (
    EmptyRows,
    Key,
    Loading,
    MultiView,
    RowSource,
    Stacked,
    Track,
    group_keys,
    load_groups,
    quietly,
    shuffled_keys,
    stack_samples,
)
from adaptune.data.missing import refuse_unreadable
from adaptune.data.order import BatchPlan, BatchShare, batch_plan, batch_shares, share_of_process
from adaptune.data.sides import NO_LABELS, labeled_side, unlabeled_side
from adaptune.data.target import Target
from adaptune.networks.network import Preprocess
from adaptune.runtime.processes import broadcast_from_first, gather_objects, rank_and_world
from adaptune.types import Batch, Labeled, Needs, Split, Unlabeled, empty_unlabeled

__all__ = ["DomainData", "Loading", "RowSource", "Track", "quietly"]

TARGET = -2
"""What sets the target's order and augmentation apart from those of labelled domains."""


@dataclass
class DomainData:
    """Sets of images under one list of classes: train, val and test, and one test set a domain.

    Build one with `open_domains` or `from_datasets`. Several labelled domains lie one after the
    other in each set; ``parts`` says how many rows of a split each has, and is empty where there is
    one. ``problems`` fills up with files that could not be read, by path, as passes over the data
    meet them, ``asked`` with rows of the target whose labels ``answers`` gave. Where several
    processes run, every pass gives each its share, so all of them must make it.
    """

    classes: tuple[str, ...]
    sets: dict[Split, RowSource]
    ood: dict[str, RowSource]
    augmented: RowSource
    loading: Loading
    notes: tuple[str, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    parts: Mapping[Split, tuple[int, ...]] = field(default_factory=dict)
    target: Target = field(default_factory=Target)
    answers: Annotator = field(default_factory=NoAnnotator)
    asked: set[int] = field(default_factory=set)

    @property
    def domains(self) -> int:
        """How many labelled domains are learnt from, now or by the network that is started from."""
        return max(1, len(self.parts.get("train", ())))

    def steps(self, needs: Needs) -> int:
        """Count the batches of an epoch: as many as the longest of the domains at hand fills."""
        labeled, target = self._shares(needs)
        return max(share.steps for share in (*labeled, *target))

    def batches(self, needs: Needs, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Give one epoch of full, shuffled, augmented training batches, from number ``start`` on.

        Each side that is needed has ``batch_size`` rows, the labelled one in equal parts from every
        domain. An epoch ends when the longest domain was seen once; the others begin again. The
        order depends on seed and epoch alone, an image's augmentation on both and its row. Rows
        that do not fill a batch wait for another epoch, so that no batch norm ever sees a batch of
        one; where one domain is all there is and smaller than a batch, it is one.

        Of w processes, process r gets the rows r, r + w, ... of every batch. Files that cannot be
        read are left out; where that is all that a process would get of a side, it gets the images
        that come next in the epoch, so that every process takes every step.

        Raises:
            ValueError: If a batch has fewer rows than there are processes or labelled domains, or
                nothing is readable.
        """
        labeled, target = self._shares(needs)
        steps, alone = self.steps(needs), len(labeled) + len(target) == 1

        def read(rows: RowSource, shares: list[BatchShare], label: str) -> Iterator[Stacked]:
            order = batch_plan(shares, steps, self.loading.seed, epoch, alone=alone)
            return self._read(rows, order, start, label)

        seen = MultiView(self.target.augmented, 1 + needs.views)
        return self._batches(
            read(self.augmented, labeled, "training") if labeled else iter(()),
            read(seen, target, "target") if target else iter(()),
        )

    def scan(self, split: Split, *, shuffled: bool = False) -> Iterable[Labeled]:
        """Give every row of a split once, in order or shuffled by the seed; none if there is none.

        Of w processes, process r gets the whole batches r, r + w, ..., which may be none.
        ``index`` tells where a row belongs.
        """
        rows, ends = self.sets.get(split, EmptyRows()), self._ends(split)
        if not shuffled:
            return self._scan(rows, split, 0, ends)
        keys = shuffled_keys(len(rows), self.loading.seed, -1)
        return (
            labeled_side(stack, 0, ends) for stack in self._pass(rows, keys, f"reading {split}")
        )

    def unlabeled(self) -> Iterator[Unlabeled]:
        """Give every image of the target once, in order, without augmentation; shared as a scan."""
        keys = [(row, 0) for row in range(len(self.target))]
        for stack in self._pass(MultiView(self.target.rows, 1), keys, "reading target"):
            yield unlabeled_side(stack, self.domains)

    def ask(self, index: torch.Tensor) -> torch.Tensor:
        """Give labels of images of the target, as whoever answers tells the first process."""
        rows = index.tolist()
        labels = broadcast_from_first(lambda: self.answers(rows, self.target.rows, self.classes))
        self.asked.update(rows)
        return torch.tensor(labels, dtype=torch.int64)

    def sample(self, split: Split, number: int) -> Iterable[Labeled]:
        """Give at most ``number`` rows of a split, spread evenly over it, shared out as a scan."""
        rows = self.sets.get(split, EmptyRows())
        every = max(1.0, len(rows) / number)
        keys = [(int(at * every), 0) for at in range(min(number, len(rows)))]
        for stack in self._pass(rows, keys, f"reading {split}"):
            yield labeled_side(stack, 0, self._ends(split))

    def tests(self) -> dict[str, Iterable[Labeled]]:
        """Give the test sets by name: the training domains' own as ``id``, then the others.

        Domains are numbered: labelled ones first, the target next, then all others.
        """
        own = {"id": self.scan("test")} if "test" in self.sets else {}
        others = sorted(self.ood, key=lambda name: name != self.target.name)
        hidden = bool(len(self.target)) and self.target.name not in self.ood
        number = {name: at for at, name in enumerate(others, start=self.domains + hidden)}
        return own | {name: self._scan(one, name, number[name]) for name, one in self.ood.items()}

    def with_input(self, preprocess: Preprocess, augment: Augment = "none") -> DomainData:
        """Give the same data as the inputs of a network; data sets without files stay as they are.

        Args:
            preprocess: What the network wants, its ``preprocess``.
            augment: How training images are varied.
        """
        look, varied = transform_for(preprocess), transform_for(preprocess, augment)
        return replace(
            self,
            sets={split: _through(look, rows) for split, rows in self.sets.items()},
            ood={name: _through(look, rows) for name, rows in self.ood.items()},
            augmented=_through(varied, self.augmented),
            target=replace(
                self.target,
                rows=_through(look, self.target.rows),
                augmented=_through(varied, self.target.augmented),
            ),
        )

    def seeded(self, seed: int) -> DomainData:
        """Give the same data in the order, and with the augmentation, of another seed."""
        return replace(self, loading=replace(self.loading, seed=seed))

    def tracked(self, track: Track) -> DomainData:
        """Give the same data with another way of showing progress."""
        return replace(self, loading=replace(self.loading, track=track))

    def without_tests(self) -> DomainData:
        """Give the same data without any test set: what a search may see."""
        return replace(self.without_own_test(), ood={})

    def without_own_test(self) -> DomainData:
        """Give the same data without the training domain's own test set."""
        return replace(self, sets={k: rows for k, rows in self.sets.items() if k != "test"})

    def paths(self, name: str) -> list[Path]:
        """Give the files of a test set, row by row; none for data sets without files."""
        chosen = self.sets["test"] if name == "id" else self.ood[name]
        return chosen.paths if isinstance(chosen, ImageFiles) else []

    def file(self, domain: int, row: int) -> str:
        """Name the file of a training image by its domain and row; "" where there is none."""
        rows = self.augmented if domain < self.domains else self.target.rows
        return str(rows.paths[row]) if isinstance(rows, ImageFiles) and row < len(rows) else ""

    def gathered_problems(self) -> dict[str, str]:
        """Give what all processes could not read, by path; all must ask, and all are told."""
        return {path: why for own in gather_objects(self.problems) for path, why in own.items()}

    def _shares(self, needs: Needs) -> tuple[list[BatchShare], list[BatchShare]]:
        """Say what each side of a batch takes from each domain."""
        size = self.loading.batch_size
        counts = self.parts.get("train", (len(self.augmented),))
        target = [BatchShare(0, len(self.target), size, (TARGET,))]
        return (
            batch_shares(counts, size) if needs.labeled else [],
            target if needs.unlabeled else [],
        )

    def _ends(self, split: Split) -> list[int]:
        """Say where each labelled domain of a split ends, but the last."""
        return list(accumulate(self.parts.get(split, ())))[:-1]

    def _scan(
        self, rows: RowSource, label: str, domain: int, ends: Sequence[int] = ()
    ) -> Iterator[Labeled]:
        keys = [(row, 0) for row in range(len(rows))]
        stacks = self._pass(rows, keys, f"reading {label}")
        return (labeled_side(stack, domain, ends) for stack in stacks)

    def _pass(self, rows: RowSource, keys: list[Key], label: str) -> Iterator[Stacked]:
        rank, world = rank_and_world()
        groups = group_keys(keys, self.loading.batch_size)[rank::world]
        readable = not groups
        for stack in self._load(rows, groups, label):
            if stack is not None:
                readable = True
                yield stack
        if not readable:
            refuse_unreadable(rows, label)

    def _batches(self, labeled: Iterable[Stacked], target: Iterable[Stacked]) -> Iterator[Batch]:
        """Put the two sides together; one that is not needed has no stacks."""
        for one, other in zip_longest(labeled, target):
            yield Batch(
                NO_LABELS if one is None else labeled_side(one, 0, self._ends("train")),
                empty_unlabeled() if other is None else unlabeled_side(other, self.domains),
            )

    def _read(self, rows: RowSource, order: BatchPlan, start: int, label: str) -> Iterator[Stacked]:
        """Read this process's part of every batch of one side, from number ``start`` on."""
        return self._whole(
            rows, order, share_of_process(order.groups[start:], *rank_and_world()), start, label
        )

    def _whole(
        self, rows: RowSource, order: BatchPlan, groups: list[list[Key]], start: int, label: str
    ) -> Iterator[Stacked]:
        for number, stack in enumerate(self._load(rows, groups, label)):
            yield stack or self._instead(rows, order, len(groups[number]), start + number, label)

    def _instead(
        self, rows: RowSource, order: BatchPlan, wanted: int, number: int, label: str
    ) -> Stacked:
        """Read the images that come after a batch of which nothing could be read."""
        after = (number + 1) * len(order.groups[0]) + rank_and_world()[0]
        found: list[Sample] = []
        for at in range(len(order.spare)):
            item = rows[order.spare[(after + at) % len(order.spare)]]
            if isinstance(item, Unreadable):
                self._note([item])
            else:
                found.append(item)
            if len(found) == wanted:
                break
        stack, _ = stack_samples(found)
        if stack is None:
            refuse_unreadable(rows, label)
            raise ValueError(f"none of the {label} images that come next could be read")
        return stack

    def _load(
        self, rows: RowSource, groups: list[list[Key]], label: str
    ) -> Iterator[Stacked | None]:
        for stack, broken in load_groups(rows, groups, self.loading, label):
            self._note(broken)
            yield stack

    def _note(self, broken: Sequence[Unreadable]) -> None:
        for one in broken:
            if one.stops:
                raise ValueError(f"{one.path} cannot be used: {one.reason}")
            if self.loading.strict:
                raise ValueError(f"{one.path} could not be read: {one.reason}")
            self.problems[one.path] = one.reason


def _through(look: Transform, rows: RowSource) -> RowSource:
    return rows.through(look) if isinstance(rows, ImageFiles | DatasetRows) else rows

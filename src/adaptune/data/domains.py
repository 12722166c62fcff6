"""The data of a run: domains to learn from, others to test on, all served in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import torch

from adaptune.data.annotators import Annotator, NoAnnotator
from adaptune.data.batch_reader import BatchReader
from adaptune.data.dataset_rows import DatasetRows
from adaptune.data.file_rows import FileRows
from adaptune.data.inputs import Augment, Input, input_of
from adaptune.data.labels.texts import TextLabels
from adaptune.data.ledger import Ledger
from adaptune.data.loading import Loading, MultiView, RowSource, Stacked, Track, quietly
from adaptune.data.order import BatchShare, batch_plan, batch_shares
from adaptune.data.sides import NO_LABELS, labeled_side, unlabeled_side
from adaptune.data.split_reader import SplitReader, domain_ends
from adaptune.data.target import Target
from adaptune.networks.inputs import Look, TextInput
from adaptune.ops.windows import WHOLE, Tiles
from adaptune.runtime.processes import broadcast_from_first
from adaptune.tasks.task import LabelKind
from adaptune.types import Batch, Labeled, Needs, Split, Unlabeled, empty_unlabeled

__all__ = ["DomainData", "Loading", "RowSource", "Track", "quietly"]

TARGET = -2
"""What sets the target's order and augmentation apart from those of labelled domains."""


@dataclass
class DomainData:
    """Sets of examples under labels of one kind: train, val and test, and one test set a domain.

    Build one with `open_domains` or `from_datasets`. Several labelled domains lie one after the
    other in each set; ``parts`` says how many rows of a split each has, and is empty where there is
    one. ``classes`` are the names of what is predicted: of classes, or of values. The ``ledger``
    fills up as passes over the data meet files that cannot be read, and as ``answers`` gives labels
    of the target. Where several processes run, every pass gives each its share, so all of them must
    make it.
    """

    classes: tuple[str, ...]
    sets: dict[Split, RowSource]
    ood: dict[str, RowSource]
    augmented: RowSource
    loading: Loading
    notes: tuple[str, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)
    labels: LabelKind = "class"
    parts: Mapping[Split, tuple[int, ...]] = field(default_factory=dict)
    target: Target = field(default_factory=Target)
    answers: Annotator = field(default_factory=NoAnnotator)
    tiles: Tiles = WHOLE

    @property
    def problems(self) -> dict[str, str]:
        """What could not be read, by path, and why."""
        return self.ledger.problems

    @property
    def queried(self) -> set[int]:
        """The rows of the target whose labels were given."""
        return self.ledger.queried

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
            plan = batch_plan(shares, steps, self.loading.seed, epoch, alone=alone)
            return BatchReader(rows, plan, label, self.loading, self.ledger).read(start)

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
        return self._reader.scan(split, shuffled=shuffled)

    def unlabeled(self, *, shuffled: bool = False) -> Iterator[Unlabeled]:
        """Give every example of the target once, not augmented; in order and shared as a scan."""
        return self._reader.unlabeled(self.target.rows, self.domains, shuffled=shuffled)

    def query_labels(self, index: torch.Tensor) -> torch.Tensor:
        """Give labels of images of the target, as whoever answers tells the first process."""
        rows = index.tolist()
        labels = broadcast_from_first(lambda: self.answers(rows, self.target.rows, self.classes))
        self.ledger.queried.update(rows)
        return torch.tensor(labels, dtype=torch.int64)

    def sample(self, split: Split, number: int) -> Iterable[Labeled]:
        """Give at most ``number`` rows of a split, spread evenly over it, shared out as a scan."""
        return self._reader.sample(split, number)

    def tests(self) -> dict[str, Iterable[Labeled]]:
        """Give the test sets by name: the training domains' own as ``id``, then the others.

        Domains are numbered: labelled ones first, the target next, then all others.
        """
        others = sorted(self.ood, key=lambda name: name != self.target.name)
        hidden = bool(len(self.target)) and self.target.name not in self.ood
        number = {name: at for at, name in enumerate(others, start=self.domains + hidden)}
        read, alone = self._reader.test, bool(self.tiles.side)
        ends = domain_ends(self.parts, "test")
        own: dict[str, Iterable[Labeled]] = {}
        if "test" in self.sets:
            own["id"] = read(self.sets["test"], "test", 0, ends=ends, alone=alone)
        return own | {
            name: read(rows, name, number[name], alone=alone) for name, rows in self.ood.items()
        }

    def with_input(
        self,
        preprocess: Look,
        augment: Augment = "none",
        tiles: Tiles = WHOLE,
        texts: TextInput | None = None,
    ) -> DomainData:
        """Give the same data as the inputs of a network; data sets without files stay as they are.

        Masks of test sets stay of their own size; others are scaled as their images are.

        Args:
            preprocess: What the network wants, its ``preprocess``.
            augment: How training images are varied.
            tiles: How images of test sets are looked at, where every place has an answer.
            texts: How labels that are texts are read, the network's `texts_look`.
        """
        data = self if texts is None else self._under(TextLabels(texts))
        return replace(data, tiles=tiles).through(
            input_of(preprocess),
            input_of(preprocess, augment),
            input_of(preprocess, tiles=tiles),
        )

    def through(
        self, reader: Input, varied: Input | None = None, tested: Input | None = None
    ) -> DomainData:
        """Give the same data as an input reads them.

        Training examples are read as ``varied`` does, those of test sets as ``tested`` does.
        """
        varied, tested = varied or reader, tested or reader
        return replace(
            self,
            sets={
                split: _through(tested if split == "test" else reader, rows)
                for split, rows in self.sets.items()
            },
            ood={name: _through(tested, rows) for name, rows in self.ood.items()},
            augmented=_through(varied, self.augmented),
            target=replace(
                self.target,
                rows=_through(reader, self.target.rows),
                augmented=_through(varied, self.target.augmented),
            ),
        )

    def _under(self, meaning: TextLabels) -> DomainData:
        """Give the same data, labels that are texts read in another way."""
        return replace(
            self,
            sets={split: _read_under(meaning, rows) for split, rows in self.sets.items()},
            ood={name: _read_under(meaning, rows) for name, rows in self.ood.items()},
            augmented=_read_under(meaning, self.augmented),
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
        return chosen.paths if isinstance(chosen, FileRows) else []

    def subjects(self) -> dict[str, list[str]]:
        """Say what the files of each test set show, row by row; none for data sets without files.

        Two of the same stem, in one set or in several, show the same.
        """
        return {
            name: [example.subject for example in rows.examples]
            for name, rows in (("id", self.sets.get("test")), *self.ood.items())
            if isinstance(rows, FileRows)
        }

    def file(self, domain: int, row: int) -> str:
        """Name the file of a training image by its domain and row; "" where there is none."""
        rows = self.augmented if domain < self.domains else self.target.rows
        return str(rows.paths[row]) if isinstance(rows, FileRows) and row < len(rows) else ""

    @property
    def _reader(self) -> SplitReader:
        return SplitReader(self.sets, self.parts, self.loading, self.ledger)

    @property
    def _classes(self) -> Sequence[int]:
        """The classes of the training images, where they are balanced."""
        rows = self.augmented
        if not self.loading.balanced or not len(rows):
            return ()
        if self.labels != "class" or not isinstance(rows, FileRows | DatasetRows):
            raise ValueError(
                "--balanced needs images of one class each: labels here are of another kind; leave "
                "it out"
            )
        return rows.labels

    def _shares(self, needs: Needs) -> tuple[list[BatchShare], list[BatchShare]]:
        """Say what each side of a batch takes from each domain."""
        size = self.loading.batch_size
        counts = self.parts.get("train", (len(self.augmented),))
        target = [BatchShare(0, len(self.target), size, (TARGET,))]
        return (
            batch_shares(counts, size, self._classes) if needs.labeled else [],
            target if needs.unlabeled else [],
        )

    def _batches(self, labeled: Iterable[Stacked], target: Iterable[Stacked]) -> Iterator[Batch]:
        """Put the two sides together; one that is not needed has no stacks."""
        ends = domain_ends(self.parts, "train")
        for one, other in zip_longest(labeled, target):
            yield Batch(
                NO_LABELS if one is None else labeled_side(one, 0, ends),
                empty_unlabeled() if other is None else unlabeled_side(other, self.domains),
            )


def _read_under(meaning: TextLabels, rows: RowSource) -> RowSource:
    if isinstance(rows, FileRows | DatasetRows) and isinstance(rows.meaning, TextLabels):
        return rows.under(meaning)
    return rows


def _through(reader: Input, rows: RowSource) -> RowSource:
    return rows.through(reader) if isinstance(rows, FileRows | DatasetRows) else rows

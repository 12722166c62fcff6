"""The data of a run: one domain to train on, others to test on, all served in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader

from adaptune.data.images import Augment, ImageFiles, Sample, Unreadable, transform_for
from adaptune.data.listing import Listing, Shares, split_by_subject
from adaptune.data.sources import kept_to, listed, read_source, tests_of
from adaptune.network import Preprocess
from adaptune.types import Batch, Labeled, Needs, Split

Item = TypeVar("Item")
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]


class Serves(Protocol):
    """Rows that are asked for by number and by the seed of what is random about them."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable: ...


def quietly(items: Iterable[Item], label: str, total: int) -> Iterable[Item]:
    """Pass items on without showing any progress."""
    del label, total
    return items


@dataclass(frozen=True)
class Loading:
    """How batches are made.

    Args:
        batch_size: Images in a training batch.
        workers: Processes that read images beside the one that trains.
        seed: What decides the order of images and their augmentation.
        strict: Make a file that cannot be read an error; otherwise it is named and left out.
        track: What wraps every pass over data, for those who show progress.
    """

    batch_size: int = 64
    workers: int = 0
    seed: int = 0
    strict: bool = False
    track: Track = quietly

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 0:
            raise ValueError(
                f"a batch needs at least one image and workers cannot be fewer than none: got a "
                f"batch size of {self.batch_size} and {self.workers} workers"
            )


@dataclass
class ImageDomains:
    """Sets of images under one list of classes: train, val and test, and one test set a domain.

    Build one with `open_domains` or `from_datasets`. ``problems`` fills up with files that could
    not be read, by path, as passes over the data meet them.
    """

    classes: tuple[str, ...]
    sets: dict[Split, Serves]
    ood: dict[str, Serves]
    augmented: Serves
    loading: Loading
    notes: tuple[str, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)

    def steps(self, needs: Needs) -> int:
        """Count the batches of an epoch."""
        del needs
        return max(1, len(self.augmented) // self.loading.batch_size)

    def batches(self, needs: Needs, epoch: int) -> Iterator[Batch]:
        """Give one epoch of full, shuffled, augmented training batches.

        The order depends on seed and epoch alone. Rows that do not fill a batch wait for another
        epoch, so that no batch norm ever sees a batch of one; a set smaller than a batch is one.
        """
        size, seed = self.loading.batch_size, self.loading.seed
        generator = torch.Generator().manual_seed(_seed(seed, epoch, -1))
        order = torch.randperm(len(self.augmented), generator=generator).tolist()
        keys = [(row, _seed(seed, epoch, row)) for row in order[: self.steps(needs) * size]]
        for rows in self._load(self.augmented, keys, "training", 0):
            yield Batch(rows)

    def scan(self, split: Split) -> Iterable[Labeled]:
        """Give every row of a split once, in order, without augmentation."""
        return self._scan(self.sets[split], split, 0)

    def sample(self, split: Split, number: int) -> Iterable[Labeled]:
        """Give at most ``number`` rows of a split, spread evenly over it, without augmentation."""
        rows = self.sets[split]
        every = max(1.0, len(rows) / number)
        keys = [(int(at * every), 0) for at in range(min(number, len(rows)))]
        return self._load(rows, keys, f"reading {split}", 0)

    def tests(self) -> dict[str, Iterable[Labeled]]:
        """Give the test sets by name: the training domain's own as ``id``, then the others."""
        sets: dict[str, Iterable[Labeled]] = {}
        if "test" in self.sets:
            sets["id"] = self.scan("test")
        for domain, name in enumerate(self.ood, start=1):
            sets[name] = self._scan(self.ood[name], name, domain)
        return sets

    def seen_through(self, preprocess: Preprocess, augment: Augment = "none") -> ImageDomains:
        """Give the same data as the inputs of a network; data sets without files stay as they are.

        Args:
            preprocess: What the network wants, its ``preprocess``.
            augment: How training images are varied.
        """
        look = transform_for(preprocess)
        return replace(
            self,
            sets={split: _through(look, rows) for split, rows in self.sets.items()},
            ood={name: _through(look, rows) for name, rows in self.ood.items()},
            augmented=_through(transform_for(preprocess, augment), self.augmented),
        )

    def seeded(self, seed: int) -> ImageDomains:
        """Give the same data in the order, and with the augmentation, of another seed."""
        return replace(self, loading=replace(self.loading, seed=seed))

    def tracked(self, track: Track) -> ImageDomains:
        """Give the same data with another way of showing progress."""
        return replace(self, loading=replace(self.loading, track=track))

    def without_tests(self) -> ImageDomains:
        """Give the same data without any test set: what a search may see."""
        return replace(self.without_own_test(), ood={})

    def without_own_test(self) -> ImageDomains:
        """Give the same data without the training domain's own test set."""
        return replace(self, sets={k: rows for k, rows in self.sets.items() if k != "test"})

    def paths(self, name: str) -> list[Path]:
        """Give the files of a test set, row by row; none for data sets without files."""
        chosen = self.sets["test"] if name == "id" else self.ood[name]
        return chosen.paths if isinstance(chosen, ImageFiles) else []

    def _scan(self, rows: Serves, label: str, domain: int) -> Iterator[Labeled]:
        keys = [(row, 0) for row in range(len(rows))]
        return self._load(rows, keys, f"reading {label}", domain)

    def _load(
        self,
        rows: Serves,
        keys: Sequence[tuple[int, int]],
        label: str,
        domain: int,
    ) -> Iterator[Labeled]:
        size = self.loading.batch_size
        groups = [list(keys[at : at + size]) for at in range(0, len(keys), size)]
        loader: DataLoader[Any] = DataLoader(
            rows,  # type: ignore[arg-type]
            batch_sampler=groups,
            num_workers=self.loading.workers,
            collate_fn=_sorted_out,
        )
        for samples, broken in self.loading.track(loader, label, len(groups)):
            self._note(broken)
            if samples is not None:
                x, y, index = samples
                yield Labeled(x=x, y=y, index=index, domain=torch.full_like(y, domain))

    def _note(self, broken: Sequence[Unreadable]) -> None:
        for one in broken:
            if self.loading.strict:
                raise ValueError(f"{one.path} could not be read: {one.reason}")
            self.problems[one.path] = one.reason


def open_domains(
    source: Path | str,
    ood: Mapping[str, Path] | None = None,
    *,
    shares: Shares | None = None,
    loading: Loading | None = None,
    classes: Sequence[str] | None = None,
    domain: str | None = None,
) -> ImageDomains:
    """Open a folder or manifest to train on, and others to test on; no image is read yet.

    Images come preprocessed as for ImageNet; `ImageDomains.seen_through` gives them as a network
    wants them.

    Args:
        source: A folder of class folders, with or without train, val and test below, or a CSV or
            Parquet manifest; one domain of a manifest is trained on, the others are tested.
        ood: Further folders or manifests by name, whose classes map by name.
        shares: How much is kept for validation and testing where the source has no splits.
        loading: How batches are made.
        classes: The names of the classes; by default those of the source. Images of others are
            left out.
        domain: The domain of a manifest to train on; by default its first.

    Raises:
        ValueError: If a source is missing or empty, nothing is left to train on, two test sets
            have one name, or no image of one maps.
    """
    own, *others = listed(Path(source), ood or {}, domain)
    return domains_of(own, others, shares=shares, loading=loading, classes=classes)


def domains_of(
    own: Listing,
    others: Sequence[Listing],
    *,
    shares: Shares | None = None,
    loading: Loading | None = None,
    classes: Sequence[str] | None = None,
) -> ImageDomains:
    """Train on one listing and test on others; arguments and errors as of `open_domains`."""
    classes = tuple(classes or own.classes)
    shares = shares or Shares()
    listing, notes = kept_to(classes, split_by_subject(own, shares))
    look = transform_for(Preprocess())
    sets: dict[Split, Serves] = {}
    for split in ("train", "val", "test"):
        sets[split] = ImageFiles(listing.of(split), classes, look)
    have = {example.label for example in listing.of("train")}
    lacking = [name for name in classes if name not in have]
    if lacking:
        notes.append(f"classes without a training image keep their row: {', '.join(lacking)}")
    trained = listing.of("train") + listing.of("val") if shares.ood_images == "unseen" else ()
    found, said = tests_of(classes, others, trained)
    tested: dict[str, Serves] = {n: ImageFiles(e, classes, look) for n, e in found.items()}
    notes += said
    return ImageDomains(classes, sets, tested, sets["train"], loading or Loading(), tuple(notes))


def other_domains(
    sources: Mapping[str, Path], *, classes: Sequence[str], loading: Loading | None = None
) -> ImageDomains:
    """Open folders or manifests to test on, where nothing is known of the training data.

    Raises:
        ValueError: As `open_domains`.
    """
    others = [one for name, path in sources.items() for one in read_source(Path(path), name)]
    found, notes = tests_of(classes, others, ())
    look = transform_for(Preprocess())
    tested: dict[str, Serves] = {n: ImageFiles(e, classes, look) for n, e in found.items()}
    nothing = ImageFiles((), classes, look)
    return ImageDomains(tuple(classes), {}, tested, nothing, loading or Loading(), tuple(notes))


def _through(look: Callable[[Any], torch.Tensor], rows: Serves) -> Serves:
    return rows.through(look) if isinstance(rows, ImageFiles) else rows


def _sorted_out(
    items: Sequence[Sample | Unreadable],
) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None, list[Unreadable]]:
    """Stack what could be read; list what could not."""
    broken = [item for item in items if isinstance(item, Unreadable)]
    good = [item for item in items if not isinstance(item, Unreadable)]
    if not good:
        return None, broken
    x, y, row = zip(*good, strict=True)
    return (torch.stack(x), torch.tensor(y), torch.tensor(row)), broken


def _seed(*parts: int) -> int:
    """Mix numbers into one seed, so that neighbours share nothing."""
    mixed = 0
    for part in parts:
        mixed = (mixed ^ (part + 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed ^= mixed >> 31
    return mixed % 2**63

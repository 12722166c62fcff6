"""Domains opened as the data of a run: split, kept to their labels, no example read yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adaptune.data.annotators import Annotator, NoAnnotator, oracle_of
from adaptune.data.domains import DomainData
from adaptune.data.file_rows import FileRows
from adaptune.data.inputs import input_of
from adaptune.data.labels import LabelReader, Labels, NoLabels, labels_of
from adaptune.data.labels.classes import classes_of
from adaptune.data.labels.mask_table import MaskTable, read_mask_table
from adaptune.data.labels.masks import counted_table
from adaptune.data.labels.tags import TagLabels
from adaptune.data.listers import listing_reader
from adaptune.data.listing import Example, Listing, Shares, few_shots, split_by_subject
from adaptune.data.loading import EmptyRows, Loading, RowSource
from adaptune.data.names import refuse_taken
from adaptune.data.readers.pairs import PairSource
from adaptune.data.readers.texts import TextSource
from adaptune.data.sources import Found, find_domains
from adaptune.data.target import Target
from adaptune.networks.inputs import Look, Preprocess, TextInput, TokenInput
from adaptune.tasks.task import LabelKind
from adaptune.types import Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def open_domains(
    source: Path | str,
    ood: Mapping[str, Path] | None = None,
    *,
    sources: Sequence[str] = (),
    target: Path | str = "",
    shares: Shares | None = None,
    loading: Loading | None = None,
    labels: LabelKind = "class",
    masks: Mapping[str, Path] | None = None,
    table: Path | str | None = None,
    classes: Sequence[str] | None = None,
    domain: str | None = None,
    texts: TextSource | PairSource | None = None,
    open_set: bool = False,
    oracle: bool = False,
) -> DomainData:
    """Open what to learn from, and what to test on; no image is read yet.

    Images come preprocessed as for ImageNet; `DomainData.with_input` gives them as a network
    wants them, `DomainData.through` gives files of any kind as an input of your own reads them.

    Args:
        source: A folder of class folders, with or without train, val and test below, or a CSV or
            Parquet manifest; one domain of a manifest is trained on, the others are tested.
        ood: Further folders or manifests by name, whose classes map by name.
        sources: Further labelled domains to train on: NAME=DIR, or a domain of ``source``.
        target: What to adapt to without its labels: a folder of class folders, a folder of images,
            a manifest, NAME=DIR, or a domain of ``source``. Labels that it has test alone.
        shares: How much is kept for validation and testing where a source has no splits.
        loading: How batches are made.
        labels: What labels are: names of classes, masks beside images ("mask"), tags of words
            ("tags", of what a `TagSource` lists), numbers ("value"), or partners of images or
            texts ("text").
        masks: Where the masks of each domain lie, by its name, those of ``source`` under "". A
            folder of images has all its scenes below it, no class folders; a manifest names masks
            in a column ``mask``.
        table: A file that says which value of a mask is which class; see `read_mask_table`.
        classes: The names of the classes; by default those of the source. Images of others are
            left out. Of values, their name; of masks, in the order of their indices.
        domain: The domain of a manifest to train on; by default its first.
        texts: Where examples are texts, what lists them, and where they have partners, what lists
            the pairs; by default they are images.
        open_set: Test on images of other classes too, in the target and other domains: their label
            is the number of classes.
        oracle: Whether labels that a method asks for are the target's own.

    Raises:
        ValueError: If a source is missing or empty, nothing is left to train on, two test sets
            have one name, no image of one maps, the classes are none for an open set, or an oracle
            lacks a label.
    """
    return domains_of(
        find_domains(
            source,
            ood,
            sources,
            target,
            first=domain,
            read=listing_reader(labels, masks, Path(source).stem, texts),
        ),
        shares=shares,
        loading=loading,
        labels=labels,
        table=table,
        classes=classes,
        open_set=open_set,
        oracle=oracle,
    )


def other_domains(
    sources: Mapping[str, Path],
    *,
    classes: Sequence[str],
    target: Path | str = "",
    loading: Loading | None = None,
    labels: LabelKind = "class",
    masks: Mapping[str, Path] | None = None,
    table: Path | str | None = None,
    texts: TextSource | PairSource | None = None,
    open_set: bool = False,
    oracle: bool = False,
) -> DomainData:
    """Open a target and folders or manifests to test on, where there are no training data.

    Raises:
        ValueError: As `open_domains`.
    """
    return domains_of(
        find_domains(None, sources, target=target, read=listing_reader(labels, masks, texts=texts)),
        loading=loading,
        labels=labels,
        table=table,
        classes=classes,
        open_set=open_set,
        oracle=oracle,
    )


def domains_of(
    found: Found,
    *,
    shares: Shares | None = None,
    loading: Loading | None = None,
    labels: LabelKind = "class",
    table: Path | str | None = None,
    classes: Sequence[str] | None = None,
    open_set: bool = False,
    oracle: bool = False,
) -> DomainData:
    """Split what was found and keep it to its labels; else as `open_domains`."""
    shares, loading = shares or Shares(), loading or Loading()
    if shares.shots is not None:
        _refuse_shots(labels)
    meaning = _meaning(labels, found.own, classes, table, open_set=open_set)
    kept, notes = _kept(meaning, [split_by_subject(one, shares) for one in found.trained])
    hidden = _unseen(shares, kept)
    tests, said = _tested(meaning, found, hidden)
    if shares.shots is not None:
        kept = [few_shots(one, shares.shots, shares.shots_seed) for one in kept]
        notes += [one.notes[-1] for one in kept]
    several = len(kept) > 1
    sets: dict[Split, RowSource] = {
        split: _files([e for one in kept for e in one.of(split)], meaning, loading)
        for split in SPLITS
        if kept
    }
    bare = [replace(one, label="", label_part=None) for one in found.target.examples]
    target = _files(bare, NoLabels(), loading)
    return DomainData(
        meaning.names,
        sets,
        {name: _files(examples, meaning, loading) for name, examples in tests.items()},
        sets.get("train", EmptyRows()),
        loading,
        (*notes, *said),
        labels=labels,
        parts={split: tuple(len(one.of(split)) for one in kept) for split in SPLITS if several},
        target=Target(found.target.name, target, target),
        answers=_answers(labels, meaning, found.target) if oracle else NoAnnotator(),
    )


def _refuse_shots(labels: LabelKind) -> None:
    """Refuse a few images of each class where an image has no class.

    Raises:
        ValueError: If that is so.
    """
    if labels != "class":
        raise ValueError(
            f"--shots counts images of a class, and labels are {labels}s: leave it out, or put "
            "the few images into a folder of their own"
        )


def _meaning(
    kind: LabelKind,
    own: Listing,
    classes: Sequence[str] | None,
    file: Path | str | None,
    *,
    open_set: bool,
) -> Labels:
    """Give what reads labels, by the names that were asked for or those that there are."""
    table: MaskTable | None = None
    names: Sequence[str] = classes or (own.classes if kind in ("class", "tags") else ())
    if kind == "mask" and file is not None:
        table = read_mask_table(Path(file))
        names = classes or table.names
    elif kind == "mask" and not classes:
        names = counted_table([one for one in own.examples if one.label]).names
    return labels_of(kind, classes_of(names), open_set=open_set, table=table)


def _kept(labels: Labels, split: Sequence[Listing]) -> tuple[list[Listing], list[str]]:
    """Keep what is trained on; say what is not, and what is odd about the rest."""
    kept: list[Listing] = []
    notes: list[str] = []
    for number, listing in enumerate(split):
        one, said = labels.kept(listing, further=number > 0)
        kept.append(one)
        notes += said
    if kept:
        notes += labels.remarks([example for one in kept for example in one.of("train")])
    if len(kept) > 1:
        counted = (f"{one.name} ({len(one.of('train'))})" for one in kept)
        notes.append(f"domains to train on, with their training images: {', '.join(counted)}")
    return kept, notes


def _unseen(shares: Shares, kept: Sequence[Listing]) -> list[Example]:
    """Give the examples whose subjects are not to be tested."""
    if shares.ood_images == "all":
        return []
    return [e for one in kept for e in (*one.of("train"), *one.of("val"))]


def _tested(
    labels: Labels, found: Found, trained: Sequence[Example]
) -> tuple[dict[str, tuple[Example, ...]], list[str]]:
    """Say what is tested of the target and of other domains, by name, and what is not.

    Raises:
        ValueError: If two sets have one name, or nothing of a domain besides the target is tested.
    """
    tested, notes = _target_tests(labels, found.target, trained)
    for other in found.others:
        refuse_taken([other.name], {*tested, found.target.name} - {""})
        examples, said = labels.tested(other, trained)
        notes += [*other.notes, *said]
        if not examples:
            raise ValueError(labels.mismatch(other))
        tested[other.name] = examples
    return tested, notes


def _target_tests(
    labels: Labels, target: Listing, trained: Sequence[Example]
) -> tuple[dict[str, tuple[Example, ...]], list[str]]:
    """Say what is tested of the target; it may be nothing."""
    if not target.examples:
        return {}, []
    refuse_taken([target.name])
    if not target.classes:
        return {}, [*target.notes, f"{target.name}: has no labels, so it is adapted to, not tested"]
    examples, said = labels.tested(target, trained)
    notes = [*target.notes, *said]
    if not examples:
        return {}, [*notes, f"{target.name}: none of its images can be tested"]
    return {target.name: examples}, notes


def _answers(kind: LabelKind, labels: Labels, target: Listing) -> Annotator:
    """Give an oracle of the target's labels.

    Raises:
        ValueError: If labels are no classes, or the target lacks some.
    """
    if kind != "class":
        raise ValueError(f"--oracle answers with classes, and labels are {kind}s: leave it out")
    return oracle_of(labels.names, target)


def _files(examples: Sequence[Example], labels: LabelReader, loading: Loading) -> FileRows:
    look: Look = Preprocess()
    if any(one.text is not None for one in examples):
        look = TokenInput() if isinstance(labels, TagLabels) else TextInput()
    return FileRows(examples, input_of(look), labels, loading.cache)

"""Folders and manifests opened as the data of a run: listed, split, mapped, no image read yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adaptune.data.annotators import oracle_of
from adaptune.data.domains import DomainData
from adaptune.data.inputs.image import ImageFiles, transform_for
from adaptune.data.listing import Example, Listing, Shares, split_by_subject
from adaptune.data.loading import EmptyRows, Loading, RowSource
from adaptune.data.names import normal_name
from adaptune.data.sources import (
    classes_of,
    differing_little,
    further_domains,
    keep_classes,
    list_domains,
    read_source,
    read_target,
    spell_as,
    target_tests,
    tests_of,
)
from adaptune.data.target import Target
from adaptune.networks.network import Preprocess
from adaptune.types import UNKNOWN, Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")
NO_TARGET = Listing("", (), ())


def open_domains(
    source: Path | str,
    ood: Mapping[str, Path] | None = None,
    *,
    sources: Sequence[str] = (),
    target: Path | str = "",
    shares: Shares | None = None,
    loading: Loading | None = None,
    classes: Sequence[str] | None = None,
    domain: str | None = None,
    open_set: bool = False,
    oracle: bool = False,
) -> DomainData:
    """Open what to learn from, and what to test on; no image is read yet.

    Images come preprocessed as for ImageNet; `ImageDomains.with_input` gives them as a network
    wants them.

    Args:
        source: A folder of class folders, with or without train, val and test below, or a CSV or
            Parquet manifest; one domain of a manifest is trained on, the others are tested.
        ood: Further folders or manifests by name, whose classes map by name.
        sources: Further labelled domains to train on: NAME=DIR, or a domain of ``source``.
        target: What to adapt to without its labels: a folder of class folders, a folder of images,
            a manifest, NAME=DIR, or a domain of ``source``. Labels that it has test alone.
        shares: How much is kept for validation and testing where a source has no splits.
        loading: How batches are made.
        classes: The names of the classes; by default those of the source. Images of others are
            left out.
        domain: The domain of a manifest to train on; by default its first.
        open_set: Test on images of other classes too, in the target and other domains: their label
            is the number of classes.
        oracle: Whether labels that a method asks for are the target's own.

    Raises:
        ValueError: If a source is missing or empty, nothing is left to train on, two test sets
            have one name, no image of one maps, the classes are none for an open set, or an oracle
            lacks a label.
    """
    own, *others = list_domains(Path(source), {}, domain)
    more = further_domains(sources, others)
    goal = NO_TARGET
    if target:
        named = [one for one in others if one.name == normal_name(str(target))]
        goal = named[0] if named else read_target(str(target))
    twice = [one.name for one in more if one.name in (own.name, goal.name) or more.count(one) > 1]
    if twice:
        raise ValueError(f"two domains are called {twice[0]!r}: give every one a name of its own")
    others = [one for one in others if one not in (goal, *more)]
    for name, path in (ood or {}).items():
        others += read_source(Path(path), name)
    return domains_of(
        own,
        others,
        more=more,
        target=goal,
        shares=shares,
        loading=loading,
        classes=classes,
        open_set=open_set,
        oracle=oracle,
    )


def domains_of(
    own: Listing,
    others: Sequence[Listing],
    *,
    more: Sequence[Listing] = (),
    target: Listing = NO_TARGET,
    shares: Shares | None = None,
    loading: Loading | None = None,
    classes: Sequence[str] | None = None,
    open_set: bool = False,
    oracle: bool = False,
) -> DomainData:
    """Train on one listing and ``more``, test on others; else as `open_domains`."""
    classes = classes_of(classes or own.classes)
    shares, loading = shares or Shares(), loading or Loading()
    split = [split_by_subject(one, shares) for one in (own, *(spell_as(classes, m) for m in more))]
    kept, said = zip(*(keep_classes(classes, one) for one in split), strict=True)
    notes = [*(note for own_notes in said for note in own_notes), *differing_little(classes)]
    sets: dict[Split, RowSource] = {}
    parts: dict[Split, tuple[int, ...]] = {}
    for name in SPLITS:
        sets[name] = _files([e for one in kept for e in one.of(name)], classes, loading)
        if more:
            parts[name] = tuple(len(one.of(name)) for one in kept)
    have = {example.label for one in kept for example in one.of("train")}
    lacking = [name for name in classes if name not in have]
    if lacking:
        notes.append(f"classes without a training image keep their row: {', '.join(lacking)}")
    if more:
        counted = (f"{one.name} ({len(one.of('train'))})" for one in kept)
        notes.append(f"domains to train on, with their training images: {', '.join(counted)}")
    unseen = shares.ood_images == "unseen"
    trained = [e for one in kept for e in (*one.of("train"), *one.of("val")) if unseen]
    data = DomainData(classes, sets, {}, sets["train"], loading, tuple(notes), parts=parts)
    return _with_others(data, target, others, trained, open_set=open_set, oracle=oracle)


def other_domains(
    sources: Mapping[str, Path],
    *,
    classes: Sequence[str],
    target: Path | str = "",
    loading: Loading | None = None,
    open_set: bool = False,
    oracle: bool = False,
) -> DomainData:
    """Open a target and folders or manifests to test on, where there are no training data.

    Raises:
        ValueError: As `open_domains`.
    """
    others = [one for name, path in sources.items() for one in read_source(Path(path), name)]
    data = DomainData(classes_of(classes), {}, {}, EmptyRows(), loading or Loading())
    goal = read_target(str(target)) if target else NO_TARGET
    return _with_others(data, goal, others, (), open_set=open_set, oracle=oracle)


def _with_others(
    data: DomainData,
    target: Listing,
    others: Sequence[Listing],
    trained: Sequence[Example],
    *,
    open_set: bool,
    oracle: bool,
) -> DomainData:
    """Add the target and the other test sets.

    The target's labels are left behind but in its test set, and in the oracle where there is one.
    """
    if open_set:
        _refuse_closed(data.classes)
    tested, notes = target_tests(data.classes, target, trained, open_set=open_set)
    taken = {target.name} - {""}
    found, said = tests_of(data.classes, others, trained, taken, open_set=open_set)
    hidden = _files([replace(one, label="") for one in target.examples], ("",), data.loading)
    labels = (*data.classes, UNKNOWN) if open_set else data.classes
    return replace(
        data,
        ood={
            name: _files(examples, labels, data.loading)
            for name, examples in (tested | found).items()
        },
        notes=(*data.notes, *notes, *said),
        target=Target(target.name, hidden, hidden),
        answers=oracle_of(data.classes, target) if oracle else data.answers,
    )


def _refuse_closed(classes: Sequence[str]) -> None:
    """Say why nothing can be unknown beside these classes.

    Raises:
        ValueError: If that is so.
    """
    if UNKNOWN in classes:
        raise ValueError(
            f"a class is called {UNKNOWN!r}, and so are images of no class in an open set: rename "
            "it, or choose others with --classes"
        )
    if len(classes) < 2:
        raise ValueError(
            f"an open set needs two classes to be unsure between, and there is {', '.join(classes)}"
            ": give more, or leave out --open-set"
        )


def _files(examples: Sequence[Example], classes: Sequence[str], loading: Loading) -> ImageFiles:
    return ImageFiles(examples, classes, transform_for(Preprocess()), loading.cache)

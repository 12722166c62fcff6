"""Emoji vendors in pairs, one labelled and one not, with no emoji on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adaptune.data.domains import DomainData
from adaptune.data.listing import Listing, Shares, split_by_subject
from adaptune.data.loading import EmptyRows, Loading
from adaptune.data.opening import domains_of
from adaptune.data.readers.folder import read_folder
from adaptune.data.sources import Found
from benchmarks.sources.emoji import vendors

SHARES = Shares(val_share=0.1, test_share=0.5)
"""A source trains on the emoji of two fifths; a target has those that are its sources' tests."""


def listings(data: Path | None, work: Path) -> dict[str, Listing]:
    """List the emoji of every vendor; ``data`` and ``work`` as for the source ``emoji``."""
    return {name: read_folder(folder, name) for name, folder in vendors(data, work).items()}


def pair(
    known: Mapping[str, Listing],
    sources: Sequence[str],
    target: str,
    *,
    classes: Sequence[str],
    adapts: bool,
    others: Sequence[str] = (),
    begun: bool = False,
    few: int = 0,
    seed: int = 0,
    loading: Loading,
) -> DomainData:
    """Give labelled sources and a target that is tested, all of it.

    Labels that a method asks for are given, where all classes are learnt.

    Args:
        known: The vendors' emoji.
        sources: The vendors whose emoji are labelled.
        target: The vendor whose emoji are tested.
        classes: The classes that are learnt.
        adapts: Whether the target's images are there to be adapted to, without labels.
        others: Classes of the target beside those, of which its tests have images too.
        begun: Whether a finished network is started from; of the sources only the test is left.
        few: How many emoji of each class of the target are labelled, in place of all sources; none
            of them is tested.
        seed: What draws these.
        loading: How batches are made.
    """
    first, *more = (known[name] for name in sources)
    if few:
        first, more = replace(known[target], name=f"{target} (few)"), []
    half = split_by_subject(known[target], SHARES).of("test")
    there = tuple(replace(e, split=None) for e in half if e.label in (*classes, *others))
    goal = Listing(target, there, tuple(dict.fromkeys(e.label for e in there)))
    found = Found(first, tuple(more))
    data = domains_of(
        replace(found, target=goal) if adapts else replace(found, others=(goal,)),
        shares=replace(SHARES, shots=few or None, shots_seed=seed),
        loading=loading,
        classes=classes,
        oracle=adapts and not others,
        open_set=bool(others),
    )
    if not begun:
        return data
    return replace(data, sets={"test": data.sets["test"]}, augmented=EmptyRows(), parts={})

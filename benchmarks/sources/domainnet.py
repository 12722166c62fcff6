"""DomainNet, 40 classes in four domains: sketch, real, painting and clipart.

The classes, in ``domainnet40.txt``, are the 40 common ones that Tan, Peng and Saenko (2020) chose
and Kumar et al. (2022) and Ha, Jeong and Lee (2024) use; all of their images are taken, by
DomainNet's own lists of training and test images. A tenth of the training images is kept to choose
rates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from adaptune.data.domains import DomainData, Loading
from adaptune.data.listing import Example, Listing, Shares
from adaptune.data.opening import domains_of
from adaptune.data.sources import Found
from benchmarks.sources.rows import given

DOMAINS = ("sketch", "real", "painting", "clipart")
CLASSES = tuple(Path(__file__).with_name("domainnet40.txt").read_text().split())
SHARES = Shares(val_share=0.1, test_share=0.0, ood_images="all")
LAYOUT = (
    "DOMAIN/CLASS/*.jpg and the lists DOMAIN_train.txt and DOMAIN_test.txt for the domains "
    f"{', '.join(DOMAINS)}"
)


def open_source(data: Path | None, work: Path) -> dict[str, Callable[[Loading], DomainData]]:
    """Give each domain as ID domain in turn; of the others, the test images are OOD.

    Raises:
        ValueError: If the data or a list is missing.
    """
    del work
    lists = [f"{name}_{part}.txt" for name in DOMAINS for part in ("train", "test")]
    folder = given(data, LAYOUT, *lists, *DOMAINS)
    return {name: partial(_opened, folder, name) for name in DOMAINS}


def _opened(folder: Path, name: str, loading: Loading) -> DomainData:
    own = [*_examples(folder, name, "train"), *_examples(folder, name, "test")]
    others = [
        Listing(other, tuple(_examples(folder, other, "test")), CLASSES)
        for other in DOMAINS
        if other != name
    ]
    return domains_of(
        Found(Listing(name, tuple(own), CLASSES), others=tuple(others)),
        shares=SHARES,
        loading=loading,
    )


def _examples(folder: Path, domain: str, split: Literal["train", "test"]) -> list[Example]:
    """Read a list of lines such as ``sketch/apple/sketch_009_000093.jpg 2``.

    Classes go by the name of the folder: the numbers count all of DomainNet's classes.
    """
    examples = []
    for line in (folder / f"{domain}_{split}.txt").read_text().splitlines():
        path = PurePosixPath(line.rpartition(" ")[0])
        if path.parent.name in CLASSES:
            examples.append(Example(folder / path, path.parent.name, split))
    return examples

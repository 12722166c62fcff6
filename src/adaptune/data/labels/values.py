"""Values as labels: a number an example, of a table's label column; or several of a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adaptune.data.listing import Example, Listing, unseen
from adaptune.data.names import first_few, printable
from adaptune.data.sample import shown


class ValueLabels:
    """Labels that are numbers, float32 (V,) a row: of a file one, of a data set as many as it has.

    >>> from pathlib import Path
    >>> ValueLabels().read(Example(Path("1.npy"), "0.5"))
    tensor([0.5000])
    """

    made = ""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names) or ("value",)

    def read(self, example: Example) -> Tensor:
        """Give the number of an example, (1,)."""
        return torch.tensor([number(example.label)], dtype=torch.float32)

    def told(self, example: Example) -> list[float]:
        """Give the number of an example, in a list."""
        values: list[float] = self.read(example).tolist()
        return values

    def given(self, value: Any) -> Tensor:
        """Give numbers as float32: one as (1,), a row of several as it is.

        Raises:
            ValueError: If they are no numbers, or not finite.

        >>> ValueLabels().given(2), ValueLabels().given([1.0, 2.0])
        (tensor([2.]), tensor([1., 2.]))
        """
        try:
            y = torch.as_tensor(value).to(torch.float32)
        except (TypeError, ValueError, RuntimeError):
            y = torch.tensor(math.nan)
        if not y.isfinite().all():
            raise ValueError(
                f"its label is {shown(value)} and should be a finite number, or a row of them: "
                "mend it, or leave the row out"
            )
        return y if y.dim() else y.unsqueeze(0)

    def kept(self, listing: Listing, *, further: bool = False) -> tuple[Listing, list[str]]:
        """Keep all examples: what is no number is an error.

        Raises:
            ValueError: If a label is no number, or no training example is there.
        """
        del further
        _refuse_words(listing)
        listing.need_training()
        return replace(listing, classes=self.names), list(listing.notes)

    def remarks(self, trained: Sequence[Example]) -> list[str]:
        """Say nothing: values are neither few nor spelled in several ways."""
        del trained
        return []

    def tested(
        self, listing: Listing, trained: Sequence[Example]
    ) -> tuple[tuple[Example, ...], list[str]]:
        """Test all examples but those whose subject was trained on.

        Raises:
            ValueError: If a label is no number.
        """
        _refuse_words(listing)
        return unseen(listing.name, listing.to_test(), trained)

    def mismatch(self, listing: Listing) -> str:
        """Say why nothing of a domain could be tested."""
        return f"no example of {listing.name} can be tested: all its files are in the training data"


def number(word: str) -> float:
    """Read a number that float32 can hold.

    Raises:
        ValueError: If it is none.

    >>> number("-1.5e3")
    -1500.0
    """
    value = float(word) if "_" not in word else math.nan
    if not torch.tensor(value, dtype=torch.float32).isfinite():
        raise ValueError(f"{word!r} is no finite number")
    return value


def _refuse_words(listing: Listing) -> None:
    """Refuse labels that are no numbers, each named by its row's file."""
    wrong: list[str] = []
    for example in listing.examples:
        try:
            number(example.label)
        except ValueError:
            wrong.append(f"{printable(example.path)} has {example.label!r}")
    if wrong:
        raise ValueError(
            f"the labels of {listing.name} should be finite numbers such as 1.5, and "
            f"{first_few(wrong)}: mend the label column"
        )

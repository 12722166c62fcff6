"""Texts as labels: the partner of each example, as ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from adaptune.data.inputs.text import TextIds
from adaptune.data.listing import Example, Listing, unseen
from adaptune.networks.inputs import TextInput


class TextLabels:
    """Labels that are texts, as ids int64 (L,): what a network reads of partners is its ``look``.

    >>> from pathlib import Path
    >>> TextLabels(look=TextInput(8)).read(Example(Path("1.png"), "a cat")).shape
    torch.Size([8])
    """

    made = ""

    def __init__(self, names: Sequence[str] = (), look: TextInput | None = None) -> None:
        self.names = tuple(names) or ("text",)
        self.ids = TextIds(look or TextInput())

    def read(self, example: Example) -> Tensor:
        """Give the ids of an example's partner."""
        return self.ids.given(example.label)

    def told(self, example: Example) -> str:
        """Give the partner as it is."""
        return example.label

    def given(self, value: Any) -> Tensor:
        """Give the ids of a text in memory, or ids as they are."""
        return self.ids.given(value)

    def kept(self, listing: Listing, *, further: bool = False) -> tuple[Listing, list[str]]:
        """Keep all examples.

        Raises:
            ValueError: If no training example is left.
        """
        del further
        listing.need_training()
        return listing, list(listing.notes)

    def remarks(self, trained: Sequence[Example]) -> list[str]:
        """Say nothing."""
        del trained
        return []

    def tested(
        self, listing: Listing, trained: Sequence[Example]
    ) -> tuple[tuple[Example, ...], list[str]]:
        """Test what another domain has, but what was trained on."""
        return unseen(listing.name, listing.to_test(), trained)

    def mismatch(self, listing: Listing) -> str:
        """Say why nothing of a domain could be tested."""
        return f"no pair of {listing.name} can be tested: all of them are in the training data"

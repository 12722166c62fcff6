"""Texts as labels: the partner of each example, as ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
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
    names: tuple[str, ...] = ("text",)

    def __init__(self, look: TextInput | None = None) -> None:
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
        """Keep all examples that have a partner.

        Raises:
            ValueError: If no training example is left.
        """
        del further
        kept, said = with_partners(listing)
        kept.need_training()
        return kept, [*listing.notes, *said]

    def remarks(self, trained: Sequence[Example]) -> list[str]:
        """Say how many partners stand at several examples."""
        again = sum(count > 1 for count in Counter(one.label for one in trained).values())
        if not again:
            return []
        return [
            f"{again} partners stand at several training images: each is right for all of these, "
            "and counted once among what may be found"
        ]

    def tested(
        self, listing: Listing, trained: Sequence[Example]
    ) -> tuple[tuple[Example, ...], list[str]]:
        """Test what another domain has, but what was trained on or has no partner."""
        kept, said = with_partners(listing)
        tested, more = unseen(listing.name, kept.to_test(), trained)
        return tested, [*said, *more]

    def mismatch(self, listing: Listing) -> str:
        """Say why nothing of a domain could be tested."""
        return (
            f"no pair of {listing.name} can be tested: its images have no partners, or all of them "
            "are in the training data"
        )


def with_partners(listing: Listing) -> tuple[Listing, list[str]]:
    """Leave out examples whose partner is empty; say how many these are.

    >>> from pathlib import Path
    >>> pairs = tuple(Example(Path(f"{n}.png"), said) for n, said in enumerate(["a cat", " "]))
    >>> with_partners(Listing("photos", pairs, ()))[1]
    ['photos: 1 images have no partner and are left out']
    """
    kept = tuple(one for one in listing.examples if one.label.strip())
    lost = len(listing.examples) - len(kept)
    said = [f"{listing.name}: {lost} images have no partner and are left out"] if lost else []
    return replace(listing, examples=kept), said

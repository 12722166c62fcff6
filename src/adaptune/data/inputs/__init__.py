"""How an example becomes what a network reads."""

from __future__ import annotations

from typing import Any, Protocol, assert_never

from torch import Tensor

from adaptune.data.inputs.image import Augment as Augment
from adaptune.data.inputs.image import ImageInput
from adaptune.data.inputs.scene import SceneInput
from adaptune.data.inputs.text import TextIds
from adaptune.data.inputs.tokens import TokenIds
from adaptune.data.listing import Example
from adaptune.networks.inputs import Look, Preprocess, TextInput, TokenInput, WholeImage
from adaptune.ops.windows import Tiles


class Input(Protocol):
    """Makes inputs of examples: first what is the same at every visit, then the rest.

    ``made`` says what ``fixed`` gives, for the cache, which keeps uint8 (3, H, W); it is "" where
    that is not to be kept.
    """

    made: str

    def fixed(self, example: Example) -> Tensor:
        """Read an example.

        Raises:
            OSError: If it cannot be read; the message says why and what to do.
        """
        ...

    def varied(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Make the input of what was read, perhaps by torch's random numbers.

        The label goes along, for those whose places move as the input's do.
        """
        ...

    def given(self, value: Any) -> Tensor:
        """Make the input of what a data set has in memory.

        Raises:
            OSError: If it cannot be read.
            WrongItemError: If it is of no kind that could be.
        """
        ...


def input_of(record: Look, augment: Augment = "none", *, tiles: Tiles | None = None) -> Input:
    """Give what reads for a network, by its record of what it reads.

    With ``tiles``, which say how an image is looked at, masks stay of their own size.
    """
    match record:
        case TokenInput():
            return TokenIds(record)
        case TextInput():
            return TextIds(record)
        case WholeImage():
            return SceneInput(record, augment, tiles=tiles)
        case Preprocess():
            return ImageInput(record, augment)
        case _:
            assert_never(record)

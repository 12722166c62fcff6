"""Masks as labels: an image a scene that has a class at every place, or none that counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from adaptune.data.files import kinds_of
from adaptune.data.inputs.image import bytes_of, explaining, opened_image, size_of
from adaptune.data.inputs.pixels import stored_as
from adaptune.data.labels.mask_table import IGNORE, MOST_CLASSES, STRAY, MaskTable
from adaptune.data.listing import Example, Listing, Part, unseen
from adaptune.data.names import printable
from adaptune.data.readers.scenes import missing_masks
from adaptune.data.sample import UnreadableError, shown

INDEXED = ("P", "L", "1", "I", "I;16", "I;16B", "I;16L")
"""Pillow's words for pixels that are single numbers."""

SPREAD = {"L;2": 85, "L;4": 17}
"""By what Pillow multiplies values of fewer than 8 bits, so that they fill these."""


class MaskLabels:
    """Labels that are masks, uint8 (H, W): the number of a class, `IGNORE`, or `STRAY` for others.

    An example's label is the path of its mask: a PNG, or another image without losses, of indices,
    of a palette, whose indices count, or of colours that the ``table`` knows. What this made of a
    file is named by ``made`` in a cache.
    """

    def __init__(self, table: MaskTable) -> None:
        self.table, self.names = table, table.names
        said = (len(table.names), sorted(table.indices.items()), sorted(table.colors.items()))
        self.made = f"mask {blake2b(repr(said).encode(), digest_size=8).hexdigest()}"
        if len(self.names) > MOST_CLASSES:
            raise ValueError(
                f"masks have at most {MOST_CLASSES} classes, and there are {len(self.names)}"
            )

    def told(self, example: Example) -> str:
        """Name an example's mask."""
        return Path(example.label).name

    def read(self, example: Example) -> Tensor:
        """Read an example's mask.

        Raises:
            OSError: If it cannot be read, or is not of the image's size.
        """
        file, part = Path(example.label), example.label_part
        try:
            with explaining(part.file if part else file, part):
                y = self._numbers(file, part)
        except OSError as error:
            raise UnreadableError(f"its mask {printable(file)}: {error}") from error
        height, width = size_of(example.path, example.part)
        if y.shape != (height, width):
            raise UnreadableError(
                f"its mask {printable(file)} is {y.shape[1]} x {y.shape[0]} pixels and the image "
                f"{width} x {height}: make them one size"
            )
        return torch.from_numpy(y)

    def _numbers(self, file: Path, part: Part | None = None) -> NDArray[np.uint8]:
        source = file if part is None else BytesIO(bytes_of(file, part))
        with opened_image(source, kinds_of(file.name)) as opened:
            if opened.format == "JPEG":
                raise UnreadableError("JPEG changes the values of a mask: save it as PNG")
            if opened.mode in INDEXED and not (opened.mode == "P" and self.table.colors):
                spread = SPREAD.get(stored_as(opened), 1)
                values = np.asarray(opened)
                if values.dtype != np.uint8:
                    values = values.astype(np.int64)
                return self.table.numbers(values // spread if spread > 1 else values)
            if self.table.colors:
                return self.table.numbers_of_colors(np.asarray(opened.convert("RGB")))
            raise UnreadableError(
                f"it has colours ({opened.mode}) and nothing says which is which class: give a "
                "table name,r,g,b (--label-table)"
            )

    def given(self, value: Any) -> Tensor:
        """Give the mask that a data set has in memory: whole numbers (H, W), or such an image.

        Raises:
            ValueError: If it is none.
        """
        if isinstance(value, Image.Image):
            value = np.array(value)
        try:
            y = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            y = torch.empty(0)
        y = y[0] if y.dim() == 3 and len(y) == 1 else y
        if y.dim() != 2 or y.is_floating_point() or y.is_complex():
            raise ValueError(
                f"its label is {shown(value)} and should be a mask of whole numbers "
                "(height, width): decode it first"
            )
        return torch.from_numpy(self.table.numbers(y.cpu().numpy().astype(np.int64)))

    def kept(self, listing: Listing, *, further: bool = False) -> tuple[Listing, list[str]]:
        """Keep the scenes that have a mask.

        Raises:
            ValueError: If no training example is left.
        """
        del further
        notes = [*listing.notes, *missing_masks(listing)]
        kept = replace(listing, examples=_masked(listing.examples), classes=self.names)
        if listing.examples and not kept.examples:
            raise ValueError(
                f"no image of {listing.name} has a mask: give the folder of masks with --labels, "
                "whose files have the names of the images"
            )
        kept.need_training()
        return kept, notes

    def remarks(self, trained: Sequence[Example]) -> list[str]:
        """Say nothing: masks are not read yet."""
        del trained
        return []

    def tested(
        self, listing: Listing, trained: Sequence[Example]
    ) -> tuple[tuple[Example, ...], list[str]]:
        """Test all scenes that have a mask but those whose subject was trained on."""
        asked = listing.to_test()
        kept, notes = unseen(listing.name, _masked(asked), trained)
        return kept, [*missing_masks(replace(listing, examples=asked)), *notes]

    def mismatch(self, listing: Listing) -> str:
        """Say why nothing of a domain could be tested."""
        return (
            f"no image of {listing.name} can be tested: none has a mask (--labels "
            f"{listing.name}=DIR), or all its files are in the training data"
        )


def _masked(examples: Iterable[Example]) -> tuple[Example, ...]:
    return tuple(one for one in examples if one.label)


def counted_table(examples: Sequence[Example]) -> MaskTable:
    """Name the classes of masks of indices by these, from 0 to the highest that there is.

    Raises:
        ValueError: If there is no mask of indices, or one has an index that no class can have.

    >>> counted_table([])
    Traceback (most recent call last):
    ValueError: none of 0 masks could be read to count the classes: give --label-table, or --classes
    """
    highest, every = -1, MaskLabels(MaskTable(tuple(map(str, range(MOST_CLASSES)))))
    for example in examples:
        try:
            y = every.read(example)
        except OSError:
            continue  # whoever reads it for good says so
        if (y == STRAY).any():
            raise ValueError(
                f"the mask {printable(example.label)} has values above {MOST_CLASSES - 1}, so they "
                "are not the numbers of classes: say which are, with --label-table"
            )
        asked = y[y != IGNORE]
        highest = max(highest, int(asked.max()) if len(asked) else -1)
    if highest < 0:
        raise ValueError(
            f"none of {len(examples)} masks could be read to count the classes: give "
            "--label-table, or --classes"
        )
    return MaskTable(tuple(map(str, range(highest + 1))))

"""Any torch data set as rows: what its items hold, and which labels are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from adaptune.data.inputs.image import Sample, Transform, Unreadable, seeded
from adaptune.data.inputs.pixels import pixels_of, stored_as
from adaptune.types import UNKNOWN

IMAGES = ("image", "img", "pixel_values")
LABELS = ("label", "labels")
"""What the fields of an item that is a dict are called."""

LONGEST = 60
"""Characters of a wrong value that a sentence shows."""


class LabelError(Exception):
    """An item that is not what it should be; no run goes on without it."""


class DatasetRows(Dataset[Sample | Unreadable]):
    """A torch data set, seen as rows that are asked for by row and seed.

    Items are pairs (image, label) or dicts of both. PIL images and 8-bit values go through
    ``transform``, other tensors are inputs already.

    Args:
        data: The data set.
        classes: What labels are the numbers, or the names, of.
        transform: From 8-bit images to inputs.
        name: What the set is called where something is wrong with it.
        labeled: Whether labels are looked at; otherwise every label is -1.
    """

    def __init__(
        self,
        data: Dataset[Any],
        classes: Sequence[str],
        transform: Transform,
        *,
        name: str,
        labeled: bool = True,
    ) -> None:
        self.data, self.classes, self.transform = data, tuple(classes), transform
        self.name, self.labeled = name, labeled

    def through(self, transform: Transform) -> DatasetRows:
        """Give the same rows under another transform."""
        other = copy(self)
        other.transform = transform
        return other

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable:
        row, seed = key
        with seeded(seed):
            try:
                item = self.data[row]
                image, said = self._parts(item)
                x = as_input(image, self.transform)
            except (OSError, ValueError, SyntaxError) as error:
                reason = str(error) or "the data set could not give it and did not say why"
                return Unreadable(f"row {row}", reason)
            except LabelError as error:
                return Unreadable(f"row {row} of {self.name}", str(error), stops=True)
        try:
            return x, class_number(said, self.classes) if self.labeled else -1, row
        except ValueError as error:
            return Unreadable(f"row {row} of {self.name}", str(error), stops=True)

    def _parts(self, item: Any) -> tuple[Any, Any]:
        """Find the image and the label of an item; a set without labels has images alone."""
        if isinstance(item, Mapping):
            image = _field(item, IMAGES)
            return image, _field(item, LABELS) if self.labeled else None
        if isinstance(item, tuple | list) and len(item) > self.labeled:
            return item[0], item[1] if self.labeled else None
        if self.labeled:
            raise LabelError(
                f"it is {_shown(item)} and should be a pair (image, label), or a dict with "
                f"{' or '.join(IMAGES)} and {' or '.join(LABELS)}: wrap the data set in one that "
                "gives such items"
            )
        return item, None


def _field(item: Mapping[str, Any], names: Sequence[str]) -> Any:
    found = [name for name in names if name in item]
    if len(found) != 1:
        raise LabelError(
            f"it has the fields {', '.join(map(str, item))}, and should have one of "
            f"{', '.join(names)}: rename a column, or wrap the data set"
        )
    return item[found[0]]


def as_input(image: Any, transform: Transform) -> Tensor:
    """Make an input of what a data set gives.

    A PIL image, an 8-bit tensor (H, W), (1, H, W) or (3, H, W) and an 8-bit array (H, W) or
    (H, W, 3) go through ``transform``; other numbers are inputs already.

    Raises:
        Wrong: If it is none of these.
        OSError: If the image cannot be decoded.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3):
        image = torch.from_numpy(image.copy())
        image = image.permute(2, 0, 1) if image.dim() == 3 else image
    if isinstance(image, Image.Image):
        return transform(pixels_of(image, stored_as(image)))
    try:
        x = torch.as_tensor(image)
    except (TypeError, ValueError, RuntimeError):
        raise LabelError(
            f"its image is {_shown(image)} and should be a PIL image or a tensor: decode it first"
        ) from None
    if x.dtype != torch.uint8:
        return x
    pixels = x.unsqueeze(0) if x.dim() == 2 else x
    if pixels.dim() != 3 or len(pixels) not in (1, 3):
        raise LabelError(
            f"its image is an 8-bit tensor {tuple(x.shape)} and should be (3, height, width) or "
            "(1, height, width): move its channels to the front"
        )
    return transform(pixels.expand(3, -1, -1))


def class_number(said: Any, classes: Sequence[str]) -> int:
    """Read a label: the number of a class, its name, or a row of zeros with a one in its place.

    In classes that end with `UNKNOWN`, numbers go up to that.

    Raises:
        ValueError: If it is none of these.

    >>> class_number(1.0, "ab"), class_number("b", "ab"), class_number([0, 1], "ab")
    (1, 1, 1)
    """
    if isinstance(said, str) and said in classes:
        return classes.index(said)
    try:
        values = [float(value) for value in torch.as_tensor(said).flatten()]
    except (TypeError, ValueError, RuntimeError):
        values = []
    if len(values) == len(classes) > 1 and sorted(values) == [0.0] * (len(values) - 1) + [1.0]:
        return values.index(1.0)
    if len(values) == 1 and values[0].is_integer() and 0 <= values[0] < len(classes):
        return int(values[0])
    known = [name for name in classes if name != UNKNOWN]
    raise ValueError(
        f"its label is {_shown(said)}, and those of {len(known)} classes are the numbers from 0 to "
        f"{len(known) - 1} or their names: number the classes so, and leave out what is of none"
    )


def _shown(value: object) -> str:
    """Write a value in few characters, with its type unless that is plain."""
    text = repr(value).replace("\n", " ")
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return text if isinstance(value, int | float | str | type(None)) else f"{text} ({_kind(value)})"


def _kind(value: object) -> str:
    return type(value).__name__

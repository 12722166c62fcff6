"""Images as tensors: decoding, transforms, and what is wrong with files that are broken."""

from __future__ import annotations

import errno
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from adaptune.data.files import KINDS, kinds_of
from adaptune.data.inputs.pixels import pixels_of, stored_as, without_large_texts
from adaptune.data.listing import Example, Part
from adaptune.data.objects import read_part
from adaptune.data.sample import UnreadableError, WrongItemError, shown
from adaptune.networks.network import Preprocess

Augment = Literal["none", "flip", "crop"]

PIXELS = 100_000_000
"""Pixels from which an image is refused before it is decoded: it could fill the memory."""

RATIO = 100
"""How many times as long as wide an image may be: resizing goes by the shorter side."""

TURNED = (5, 6, 7, 8)
"""EXIF orientations under which height is width."""

MISSING = "there is no such file: put it back, or take it out of the data"
BACKSLASHES = (
    "there is no such file, and its path has backslashes, which divide no folders on this system: "
    "write it with /"
)
SPECIAL = "it is a folder, a pipe or a device, not a file: put an image in its place"
EMPTY = "the file is empty: copy it again, or delete it"
FOREIGN = (
    f"it is none of the images that are read ({', '.join(KINDS)}), or begins damaged: replace it"
)
DAMAGED = "it begins as an image but cannot be decoded, being cut off or damaged: copy it again"
LARGE = f"it has {PIXELS // 10**6} million pixels or more, which could fill the memory: shrink it"
NARROW = f"one side is more than {RATIO} times the other: cut it into parts"


def read_image(path: Path, part: Part | None = None) -> Tensor:
    """Decode a file, or part of one, into uint8 (3, H, W): upright, white where transparent.

    Integers of more than 8 bits are taken as 16 bits wide. The contents decide which of the
    common kinds a file is, not its name; of an animation the first frame is taken.

    Raises:
        OSError: If the file is missing, empty, damaged, of another kind, too large to be safe, or
            its pixels have no known range; the message says which and what to do.
    """
    with explaining(part.file if part else path, part):
        return _read(path, part)


@contextmanager
def explaining(file: Path, part: Part | None = None) -> Iterator[None]:
    """Say in plain words why a file, or part of one, cannot be read, and what to do.

    Raises:
        OSError: If that is so.
    """
    try:
        size = part.size if part and part.version else _size(file, part)
        if not size:
            raise UnreadableError(EMPTY)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders warn of oddities that change no pixel
            yield
    except UnreadableError:
        raise
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        raise UnreadableError(_reason(error, file)) from error


def _size(file: Path, part: Part | None) -> int:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError(SPECIAL)
    return part.size if part else status.st_size


def _read(path: Path, part: Part | None) -> Tensor:
    """Decode a file, without its texts where Pillow refuses these for their length."""
    kinds = kinds_of(part.member if part else path.name)
    try:
        return _decoded(path if part is None else BytesIO(bytes_of(path, part)), kinds)
    except ValueError:
        raw = bytes_of(path, part)
        lighter = without_large_texts(raw)
        if lighter == raw:
            raise
        return _decoded(BytesIO(lighter), kinds)


def bytes_of(path: Path, part: Part | None) -> bytes:
    """Read a file, or part of one."""
    if part is None:
        return path.read_bytes()
    if part.version:
        return read_part(part)
    with part.file.open("rb") as opened:
        opened.seek(part.offset)
        return opened.read(part.size)


def _decoded(source: Path | BytesIO, kinds: tuple[str, ...]) -> Tensor:
    with opened_image(source, kinds) as opened:
        return pixels_of(opened, stored_as(opened))


@contextmanager
def opened_image(source: Path | BytesIO, kinds: tuple[str, ...]) -> Iterator[Image.Image]:
    """Open an image without decoding it.

    Raises:
        OSError: If it is of another kind, or of a size that is not safe to decode.
    """
    with Image.open(source, formats=kinds) as opened:
        short, long = sorted(opened.size)
        if not short:
            raise UnreadableError(DAMAGED)
        if short * long >= PIXELS:
            raise UnreadableError(LARGE)
        if long > RATIO * short:
            raise UnreadableError(NARROW)
        yield opened


def size_of(path: Path, part: Part | None = None) -> tuple[int, int]:
    """Give height and width of an image as it is read, upright, without decoding it.

    Raises:
        OSError: If it cannot be opened.
    """
    file = part.file if part else path
    source = path if part is None else BytesIO(bytes_of(path, part))
    with explaining(file, part), opened_image(source, kinds_of(path.name)) as opened:
        width, height = opened.size
        try:
            turned = opened.getexif().get(ExifTags.Base.Orientation, 1) in TURNED
        except Exception:  # damaged EXIF turns nothing
            turned = False
    return (width, height) if turned else (height, width)


def _reason(error: Exception, path: Path) -> str:
    """Say in plain words why a file was not read, and what to do."""
    if isinstance(error, UnidentifiedImageError):
        return FOREIGN
    if isinstance(error, Image.DecompressionBombError):
        return LARGE
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return BACKSLASHES if "\\" in path.name else MISSING
    # Where offsets are damaged, decoders ask for places that no file has; disks are well then.
    if isinstance(error, OSError) and error.strerror and error.errno != errno.EINVAL:
        return f"the system could not read it ({error.strerror}): check the disk and your rights"
    return DAMAGED


@dataclass(frozen=True)
class Transform:
    """From a decoded image to an input: first what is the same at every visit, then the rest.

    ``fixed`` makes uint8 of uint8 and is described by ``made``; ``varied`` may draw random numbers.
    """

    fixed: Callable[[Any], Tensor]
    varied: Callable[[Any], Tensor]
    made: str

    def __call__(self, image: Tensor) -> Tensor:
        """Make an input of a decoded image."""
        return self.varied(self.fixed(image))


def transform_for(preprocess: Preprocess, augment: Augment = "none") -> Transform:
    """Make the transform from uint8 images to inputs.

    ``none`` resizes the shorter side and takes the centre; ``flip`` adds a horizontal flip;
    ``crop`` takes a random part of at least 60% of the area instead, and flips.
    """
    mode = InterpolationMode(preprocess.interpolation)
    size = preprocess.size
    short = round(size / preprocess.crop)
    fixed: Callable[[Any], Tensor] = nn.Identity()
    varied: list[Any] = []
    if augment == "crop":
        made = "decoded"
        varied.append(v2.RandomResizedCrop(size, (0.6, 1.0), interpolation=mode, antialias=True))
    else:
        made = f"{mode.value} to {short}, centre {size}"
        resize = v2.Resize(short, interpolation=mode, antialias=True)
        fixed = v2.Compose([resize, v2.CenterCrop(size)])
    if augment != "none":
        varied.append(v2.RandomHorizontalFlip())
    varied += [
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(preprocess.mean), list(preprocess.std)),
    ]
    return Transform(fixed, v2.Compose(varied), made)


class ImageInput:
    """Images as a network sees them, of files or of data sets; ``made`` names them in a cache."""

    def __init__(self, look: Preprocess, augment: Augment = "none") -> None:
        self.transform = transform_for(look, augment)
        self.made = self.transform.made

    def fixed(self, example: Example) -> Tensor:
        """Decode an example's file and do what is the same at every visit, uint8 (3, H, W)."""
        return self.transform.fixed(read_image(example.path, example.part))

    def varied(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Do the rest, by torch's random numbers."""
        return self.transform.varied(x), y

    def given(self, value: Any) -> Tensor:
        """Make an input of what a data set has in memory.

        A PIL image, an 8-bit tensor (H, W), (1, H, W) or (3, H, W) and an 8-bit array (H, W) or
        (H, W, 3) are treated as files are; other numbers are inputs already.

        Raises:
            WrongItemError: If it is none of these.
            OSError: If the image cannot be decoded.
        """
        x = pixels_in_memory(value)
        return self.transform(x) if x.dtype == torch.uint8 else x


def pixels_in_memory(value: Any) -> Tensor:
    """Give an image in memory as uint8 (3, H, W), or the input that it is already.

    Raises:
        WrongItemError: If it is neither.
        OSError: If the image cannot be decoded.
    """
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        value = torch.from_numpy(value.copy())
        value = value.permute(2, 0, 1) if value.dim() == 3 else value
    if isinstance(value, Image.Image):
        return pixels_of(value, stored_as(value))
    try:
        x = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise WrongItemError(
            f"its image is {shown(value)} and should be a PIL image or a tensor: decode it first"
        ) from None
    return _pixels(x) if x.dtype == torch.uint8 else x


def _pixels(x: Tensor) -> Tensor:
    """Give an 8-bit tensor three channels."""
    pixels = x.unsqueeze(0) if x.dim() == 2 else x
    if pixels.dim() != 3 or len(pixels) not in (1, 3):
        raise WrongItemError(
            f"its image is an 8-bit tensor {tuple(x.shape)} and should be (3, height, width) or "
            "(1, height, width): move its channels to the front"
        )
    return pixels.expand(3, -1, -1)

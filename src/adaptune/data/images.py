"""Image files as tensors: decoding, transforms, and what to do with files that are broken."""

from __future__ import annotations

import errno
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2

from adaptune.data.cache import Cache, Store, store_of
from adaptune.data.files import KINDS, kinds_of
from adaptune.data.listing import Example, Part
from adaptune.data.names import printable
from adaptune.network import Preprocess

Augment = Literal["none", "flip", "crop"]
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its EXIF orientation."""

PIXELS = 100_000_000
"""Pixels from which an image is refused before it is decoded: it could fill the memory."""

RATIO = 100
"""How many times as long as wide an image may be: resizing goes by the shorter side."""

MISSING = "there is no such file: put it back, or take it out of the data"
SPECIAL = "it is a folder, a pipe or a device, not a file: put an image in its place"
EMPTY = "the file is empty: copy it again, or delete it"
FOREIGN = (
    f"it is none of the images that are read ({', '.join(KINDS)}), or begins damaged: replace it"
)
DAMAGED = "it begins as an image but cannot be decoded, being cut off or damaged: copy it again"
LARGE = f"it has {PIXELS // 10**6} million pixels or more, which could fill the memory: shrink it"
NARROW = f"one side is more than {RATIO} times the other: cut it into parts"
FRACTIONS = "its pixels are fractions, whose range no one knows: save it with 8 bits"


class Refused(OSError):
    """A file that is not read as an image; its message says why and what to do."""


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, and why."""

    path: str
    reason: str


def read_image(path: Path, part: Part | None = None) -> Tensor:
    """Decode a file, or part of one, into uint8 (3, H, W): upright, white where transparent.

    Integers of more than 8 bits are taken as 16 bits wide. The contents decide which of the
    common kinds a file is, not its name; of an animation the first frame is taken.

    Raises:
        OSError: If the file is missing, empty, damaged, of another kind, too large to be safe, or
            its pixels have no known range; the message says which and what to do.
    """
    try:
        status = (part.file if part else path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise Refused(SPECIAL)
        if not (part.size if part else status.st_size):
            raise Refused(EMPTY)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders warn of oddities that change no pixel
            kinds = kinds_of(part.member if part else path.name)
            return _decoded(path if part is None else BytesIO(_bytes(part)), kinds)
    except Refused:
        raise
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        raise Refused(_reason(error)) from error


def _bytes(part: Part) -> bytes:
    with part.file.open("rb") as opened:
        opened.seek(part.offset)
        return opened.read(part.size)


def _decoded(source: Path | BytesIO, kinds: tuple[str, ...]) -> Tensor:
    with Image.open(source, formats=kinds) as opened:
        short, long = sorted(opened.size)
        if not short:
            raise Refused(DAMAGED)
        if short * long >= PIXELS:
            raise Refused(LARGE)
        if long > RATIO * short:
            raise Refused(NARROW)
        opened.load()  # before EXIF is asked: TIFF is turned upright by this, and forgets its EXIF
        image = _upright(_eight_bits(opened), opened)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        pixels: Tensor = v2.functional.pil_to_tensor(image.convert("RGB"))
    return pixels


def _reason(error: Exception) -> str:
    """Say in plain words why a file was not read, and what to do."""
    if isinstance(error, UnidentifiedImageError):
        return FOREIGN
    if isinstance(error, Image.DecompressionBombError):
        return LARGE
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MISSING
    # Where offsets are damaged, decoders ask for places that no file has; disks are well then.
    if isinstance(error, OSError) and error.strerror and error.errno != errno.EINVAL:
        return f"the system could not read it ({error.strerror}): check the disk and your rights"
    return DAMAGED


def _upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """Turn an image as EXIF says; EXIF that is damaged turns nothing."""
    # Not ImageOps.exif_transpose: it writes EXIF again and fails on tags of a wrong type.
    try:
        turn = UPRIGHT.get(opened.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return image
    return image.transpose(turn) if turn is not None else image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Narrow wide integers, which `convert` would clip to white."""
    if image.mode == "F":
        raise Refused(FRACTIONS)
    if not image.mode.startswith("I"):
        return image
    narrow = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    narrow.info.pop("transparency", None)
    return narrow


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


Sample = tuple[Tensor, int, int]
"""An input, its label and its row in the data set."""


class ImageFiles(Dataset[Sample | Unreadable]):
    """Image files under labels. An item is asked for by its row and the seed of its augmentation.

    What is random about an item depends on that seed alone, so it is the same for any number of
    workers. A file that cannot be read gives an `Unreadable`, never an error.
    """

    store: Store = store_of("none")

    def __init__(
        self,
        examples: Sequence[Example],
        classes: Sequence[str],
        transform: Transform,
        cache: Cache = "none",
    ) -> None:
        self.paths = [example.path for example in examples]
        self.parts = {row: one.part for row, one in enumerate(examples) if one.part is not None}
        rows = {name: row for row, name in enumerate(classes)}
        self.labels = [rows[example.label] for example in examples]
        self.transform = transform
        self.store = store_of(cache)

    def through(self, transform: Transform) -> ImageFiles:
        """Give the same files under another transform."""
        other = copy(self)
        other.transform = transform
        return other

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable:
        row, seed = key
        path = self.paths[row]
        part = self.parts.get(row)
        file, offset = (part.file, part.offset) if part else (path, 0)

        def read() -> Tensor:
            return self.transform.fixed(read_image(path, part))

        try:
            image = self.store.found(file, offset, self.transform.made, read)
        except OSError as error:
            return Unreadable(printable(path), str(error))
        with _seeded(seed):
            return self.transform.varied(image), self.labels[row], row


class Rows(Dataset[Sample | Unreadable]):
    """Any torch data set of (x, label) pairs, seen as rows that are asked for by row and seed."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable:
        row, seed = key
        with _seeded(seed):
            try:
                x, label = self.data[row][:2]
            except (OSError, ValueError) as error:
                reason = str(error) or "the data set could not give it and did not say why"
                return Unreadable(f"row {row}", reason)
        return torch.as_tensor(x), int(label), row


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` for a while; the random numbers of the rest, on any device, go on."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield

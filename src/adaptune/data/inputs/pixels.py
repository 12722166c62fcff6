"""Pixels of an opened image as they look: upright, in 8 bits, on white paper."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.transforms import v2

from adaptune.data.sample import UnreadableError

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

FRACTIONS = "its pixels are fractions, whose range no one knows: save it with 8 bits"

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"iCCP", b"iTXt", b"tEXt", b"zTXt")
"""Chunks of a PNG that say something about it and may be packed."""

ROOM = 2**20
"""Bytes of texts that are kept of a PNG that has too many."""


def pixels_of(opened: Image.Image, stored: str = "") -> Tensor:
    """Give the pixels of an image as uint8 (3, H, W): upright, white where transparent.

    Integers of more than 8 bits are taken as 16 bits wide. ``stored`` is how a PNG has its pixels,
    in Pillow's words: a colour that is transparent is given in these.

    Raises:
        Refused: If pixels have no known range.

    >>> pixels_of(Image.new("RGBA", (1, 1), (255, 0, 0, 51))).flatten().tolist()
    [255, 204, 204]
    """
    opened.load()  # before EXIF is asked: TIFF is turned upright by this, and forgets its EXIF
    image = _upright(_eight_bits(_scaled(opened, stored)), opened)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    pixels: Tensor = v2.functional.pil_to_tensor(image.convert("RGB"))
    return pixels


def stored_as(opened: Image.Image) -> str:
    """Say how a PNG that was not read yet has its pixels; "" where it does not matter."""
    said = [tile[3] for tile in getattr(opened, "tile", ()) if isinstance(tile[3], str)]
    return said[0] if said and opened.format == "PNG" else ""


def _scaled(image: Image.Image, stored: str) -> Image.Image:
    """Bring a colour that is transparent to the range of the pixels, as Pillow brought these."""
    key = image.info.get("transparency")
    if stored in ("L;2", "L;4") and isinstance(key, int):
        image.info["transparency"] = key * (85 if stored == "L;2" else 17)
    elif stored == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)
    return image


def _upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """Turn an image as EXIF says; EXIF that is damaged turns nothing."""
    # Not ImageOps.exif_transpose: it writes EXIF again and fails on tags of a wrong type.
    try:
        turn = UPRIGHT.get(opened.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return image
    return image.transpose(turn) if turn is not None else image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Narrow wide integers, which `convert` would clip to white; lay the clear one on white."""
    if image.mode == "F":
        raise UnreadableError(FRACTIONS)
    if not image.mode.startswith("I"):
        return image
    narrow = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    key = narrow.info.pop("transparency", None)
    if isinstance(key, int):  # before narrowing, which makes 257 values one
        narrow.paste(255, mask=Image.fromarray(np.asarray(image) == key))
    return narrow


def without_large_texts(raw: bytes) -> bytes:
    """Give a PNG without the texts, profiles and notes that unpack to more than there is room for.

    Pillow reads no PNG that has such, as its pixels do not need them. What is no PNG stays.

    >>> without_large_texts(b"GIF89a")
    b'GIF89a'
    """
    if not raw.startswith(SIGNATURE):
        return raw
    kept, at, room = [SIGNATURE], len(SIGNATURE), ROOM
    while at + 8 <= len(raw):
        length, name = struct.unpack_from(">I4s", raw, at)
        chunk, at = raw[at : at + length + 12], at + length + 12
        if name in TEXTS:
            size = _unpacked(name, chunk[8:-4])
            if size > room:
                continue
            room -= size
        kept.append(chunk)
    return b"".join(kept)


def _unpacked(name: bytes, content: bytes) -> int:
    """Count the bytes of a text, at most one more than there is room for."""
    _, _, text = content.partition(b"\0")
    if name == b"tEXt" or (name == b"iTXt" and not text.startswith(b"\1")):
        return min(len(content), ROOM + 1)
    packed = text[2:].split(b"\0", 2)[-1] if name == b"iTXt" else text[1:]
    try:
        return len(zlib.decompressobj().decompress(packed, ROOM + 1))
    except zlib.error:
        return ROOM + 1

"""Small files of every kind that is read, and what can happen to their bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from random import Random

import numpy as np
from PIL import Image

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MAGIC = b"\x89PNG\r\n\x1a\n"


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    raw = io.BytesIO()
    image.save(raw, kind, **options)
    return raw.getvalue()


def images() -> dict[str, bytes]:
    """Draw one file of each kind and mode, by the ending that it should have."""
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(18) * 9, np.arange(24) * 4)[..., None] + [0, 20, 40]
    colour = Image.fromarray((smooth + rng.integers(0, 9, smooth.shape)).astype(np.uint8))
    wide = Image.fromarray(smooth[..., 0].astype(np.uint16) * 200)
    clear = colour.convert("RGBA")
    clear.putalpha(colour.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [colour.rotate(90)]}
    flat = colour.convert("P")
    return {
        "png": encoded(colour, "PNG", exif=exif),
        "palette.png": encoded(flat, "PNG", transparency=3),
        "wide.png": encoded(wide, "PNG"),
        "clear.png": encoded(clear, "PNG"),
        "moving.png": encoded(colour, "PNG", **frames),
        "jpg": encoded(colour, "JPEG", exif=exif),
        "progressive.jpg": encoded(colour, "JPEG", progressive=True),
        "cmyk.jpg": encoded(colour.convert("CMYK"), "JPEG"),
        "two.jpg": encoded(colour, "MPO", **frames),
        "gif": encoded(flat, "GIF", transparency=3),
        "moving.gif": encoded(colour, "GIF", **frames),
        "webp": encoded(clear, "WEBP", exif=exif),
        "lossless.webp": encoded(colour, "WEBP", lossless=True),
        "moving.webp": encoded(colour, "WEBP", **frames),
        "bmp": encoded(colour, "BMP"),
        "palette.bmp": encoded(flat, "BMP"),
        "tif": encoded(colour, "TIFF", exif=exif),
        "packed.tif": encoded(wide, "TIFF", compression="tiff_lzw"),
        "cmyk.tif": encoded(colour.convert("CMYK"), "TIFF", compression="tiff_deflate"),
        "fax.tif": encoded(colour.convert("1"), "TIFF", compression="group4"),
        "ppm": encoded(colour, "PPM"),
        "grey.ppm": encoded(colour.convert("L"), "PPM"),
        "plain.ppm": b"P3\n3 2\n255\n" + b" 10 20 30 40 50 60\n" * 3,
    }


def table(rows: int = 20) -> bytes:
    """Write a manifest with quotes, accents and every column."""
    lines = ["path,label,domain,split"]
    for row in range(rows):
        path = f'"photos, old/é-{row}.png"' if row % 3 == 0 else f"photos/{row}.png"
        split = ("train", "val", "test", "")[row % 4]
        lines.append(f"{path},class-{row % 5},domain-{row % 2},{split}")
    return ("\r\n".join(lines) + "\r\n").encode()


def flip(raw: bytearray, rng: Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def cut(raw: bytearray, rng: Random) -> None:
    del raw[rng.randrange(len(raw)) :]


def insert(raw: bytearray, rng: Random) -> None:
    at = rng.randrange(len(raw))
    raw[at:at] = rng.randbytes(rng.choice((1, 2, 4, 100, 3000)))


def drop(raw: bytearray, rng: Random) -> None:
    at = rng.randrange(len(raw))
    del raw[at : at + rng.choice((1, 2, 4, 50))]


def repeat(raw: bytearray, rng: Random) -> None:
    at = rng.randrange(len(raw))
    block = raw[at : at + rng.choice((1, 8, 200))]
    raw[at:at] = block * rng.choice((1, 2, 50))


def blank(raw: bytearray, rng: Random) -> None:
    at = rng.randrange(len(raw))
    many = min(rng.choice((1, 4, 64)), len(raw) - at)
    raw[at : at + many] = bytes([rng.choice((0, 0xFF))]) * many


def field(raw: bytearray, rng: Random) -> None:
    """Write a number such as a size or an offset where headers have theirs."""
    form = rng.choice(("<B", "<H", ">H", "<I", ">I"))
    room = struct.calcsize(form)
    number = rng.choice((*EXTREMES, rng.randrange(2**16))) % 2 ** (8 * room)
    at = rng.randrange(max(1, min(len(raw), 80)))
    raw[at : at + room] = struct.pack(form, number)


CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    flip,
    cut,
    insert,
    drop,
    repeat,
    blank,
    field,
    field,
)


def damaged(raw: bytes, other: bytes, rng: Random) -> bytes:
    """Change bytes in one to three ways; at times go on with the rest of another file."""
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if changed:
            rng.choice(CHANGES)(changed, rng)
    if rng.random() < 0.1:
        changed[rng.randrange(len(changed) + 1) :] = other[rng.randrange(len(other)) :]
    return checked(changed) if rng.random() < 0.7 else bytes(changed)


def checked(raw: bytearray) -> bytes:
    """Write a PNG's check sums again, so that what is damaged gets past them."""
    if not raw.startswith(MAGIC):
        return bytes(raw)
    at = len(MAGIC)
    while at + 12 <= len(raw):
        size = struct.unpack_from(">I", raw, at)[0]
        end = at + 8 + size
        if end + 4 > len(raw):
            break
        struct.pack_into(">I", raw, end, zlib.crc32(raw[at + 4 : end]))
        at = end + 4
    return bytes(raw)

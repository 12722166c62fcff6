"""What people and machines do to image files, and the exact words about each."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adaptune.data.file_rows import FileRows
from adaptune.data.inputs.image import PIXELS, ImageInput, read_image
from adaptune.data.labels.classes import ClassLabels
from adaptune.data.listing import Example
from adaptune.data.sample import Unreadable
from adaptune.networks.network import Preprocess

MISSING = "there is no such file: put it back, or take it out of the data"
SPECIAL = "it is a folder, a pipe or a device, not a file: put an image in its place"
EMPTY = "the file is empty: copy it again, or delete it"
FOREIGN = (
    "it is none of the images that are read (PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM), or begins "
    "damaged: replace it"
)
DAMAGED = "it begins as an image but cannot be decoded, being cut off or damaged: copy it again"
LARGE = "it has 100 million pixels or more, which could fill the memory: shrink it"
NARROW = "one side is more than 100 times the other: cut it into parts"
FRACTIONS = "its pixels are fractions, whose range no one knows: save it with 8 bits"


def picture(size: tuple[int, int] = (32, 24)) -> Image.Image:
    width, height = size
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    raw = io.BytesIO()
    image.save(raw, kind, **options)
    return raw.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Write a PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def gif_header(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"\x2c" + b"\0" * 9 + b"\x02"


BYTES = {
    "empty.png": (b"", EMPTY),
    "text.png": (b"404: not found\n", FOREIGN),
    "page.jpg": (b"<!doctype html><title>Sign in</title>", FOREIGN),
    "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", FOREIGN),
    "program.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", FOREIGN),
    "cut.png": (encoded(picture(), "PNG")[:1000], DAMAGED),
    "cut.jpg": (encoded(picture(), "JPEG")[:500], DAMAGED),
    "cut.gif": (encoded(picture(), "GIF")[:900], DAMAGED),
    "cut.webp": (encoded(picture(), "WEBP")[:200], DAMAGED),
    "cut.bmp": (encoded(picture(), "BMP")[:700], DAMAGED),
    "cut.tif": (encoded(picture(), "TIFF")[-700:], FOREIGN),
    "cut.ppm": (encoded(picture(), "PPM")[:700], DAMAGED),
    "cut early.png": (encoded(picture(), "PNG")[:40], FOREIGN),
    "fractions.tif": (encoded(Image.new("F", (4, 4)), "TIFF"), FRACTIONS),
    "bomb.png": (png_header(10_000, 10_000), LARGE),
    "bomb of bombs.png": (png_header(2**31 - 1, 2**31 - 1), LARGE),
    "bomb.gif": (gif_header(65_535, 65_535), LARGE),
    "bomb.ppm": (b"P6 30000 30000 255\n", LARGE),
    "thread.png": (png_header(1, 101), NARROW),
    "long thread.png": (png_header(100_000, 1), NARROW),
    "just no bomb.png": (png_header(9_999, 1_000), DAMAGED),
}


def only(path: Path) -> FileRows:
    return FileRows([Example(path, "cat")], ImageInput(Preprocess(size=8)), ClassLabels(["cat"]))


@pytest.mark.parametrize("name", BYTES)
def test_a_file_that_is_no_good_image_is_named_with_these_words(tmp_path, name):
    raw, said = BYTES[name]
    (tmp_path / name).write_bytes(raw)
    assert only(tmp_path / name)[0, 0] == Unreadable(str(tmp_path / name), said)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to("gone")


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


LOOP = f"the system could not read it ({os.strerror(errno.ELOOP)}): check the disk and your rights"
THINGS = [
    (lambda path: None, MISSING),
    (a_link_to_nowhere, MISSING),
    (a_folder, SPECIAL),
    (os.mkfifo, SPECIAL),
    (a_link_to_a_device, SPECIAL),
    (a_link_to_itself, LOOP),
]


@pytest.mark.parametrize(("make", "said"), THINGS)
def test_what_is_no_file_is_named_with_these_words_and_never_waited_for(tmp_path, make, said):
    make(tmp_path / "1.png")
    assert only(tmp_path / "1.png")[0, 0].reason == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_what_the_system_refuses_is_named_with_its_reason(tmp_path, monkeypatch, error, said):
    picture().save(tmp_path / "1.png")

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(Image, "open", refuse)
    reason = only(tmp_path / "1.png")[0, 0].reason
    assert reason == f"the system could not read it ({said}): check the disk and your rights"


def test_size_is_looked_at_before_a_pixel_is_decoded(tmp_path, monkeypatch):
    def decoded(*_):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    (tmp_path / "bomb.png").write_bytes(png_header(PIXELS // 100, 100))
    assert only(tmp_path / "bomb.png")[0, 0].reason == LARGE


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tif"])
def test_contents_decide_what_a_file_is_not_its_name(tmp_path, kind, ending):
    flat = Image.new("RGB", (6, 4), (200, 100, 50))
    (tmp_path / f"1.{ending}").write_bytes(encoded(flat, kind))
    pixels = read_image(tmp_path / f"1.{ending}").int()
    expected = torch.tensor([200, 100, 50]).view(3, 1, 1).expand(3, 4, 6)
    torch.testing.assert_close(pixels, expected.int(), atol=6, rtol=0)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 1)])
def test_the_smallest_and_the_narrowest_images_are_read_and_become_inputs(tmp_path, kind, size):
    image = Image.new("RGB", size, (200, 100, 50))
    (tmp_path / "1.png").write_bytes(encoded(image, kind))
    pixels = read_image(tmp_path / "1.png")
    assert pixels.shape == (3, size[1], size[0])
    assert (pixels == torch.tensor([200, 100, 50]).view(3, 1, 1)).all()
    assert only(tmp_path / "1.png")[0, 0][0].shape == (3, 8, 8)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "MPO"])
def test_of_several_frames_the_first_is_taken(tmp_path, kind):
    red, blue = (Image.new("RGB", (6, 4), colour) for colour in ("red", "blue"))
    (tmp_path / "1.png").write_bytes(encoded(red, kind, save_all=True, append_images=[blue]))
    with Image.open(tmp_path / "1.png") as opened:
        assert opened.n_frames == 2
    red, green, blue = read_image(tmp_path / "1.png")[:, 0, 0].tolist()
    assert (red > 250, green < 5, blue < 5) == (True, True, True)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_photo_is_turned_upright_once_whatever_holds_it(tmp_path, kind, packed):
    options = {
        "PNG": {"optimize": packed},
        "WEBP": {"lossless": True},
        "TIFF": {"compression": "tiff_lzw"} if packed else {},
        "JPEG": {"quality": 100, "subsampling": 0, "progressive": packed},
    }[kind]
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are stored as columns
    upright = Image.new("RGB", (6, 4), "white")
    upright.paste("black", (0, 0, 2, 2))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    (tmp_path / "1.jpg").write_bytes(encoded(stored, kind, exif=exif, **options))
    pixels = read_image(tmp_path / "1.jpg")
    expected = torch.from_numpy(np.array(upright)).permute(2, 0, 1)
    torch.testing.assert_close(pixels.int(), expected.int(), atol=40, rtol=0)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0no tags here", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_exif_that_is_damaged_leaves_the_picture_as_it_is(tmp_path, exif):
    picture().save(tmp_path / "1.png", exif=exif)
    assert torch.equal(
        read_image(tmp_path / "1.png"), torch.from_numpy(np.array(picture())).permute(2, 0, 1)
    )


def test_sixteen_bits_of_colour_are_narrowed_to_eight(tmp_path):
    values = np.array([[10, 20, 30], [255, 0, 128]], ">u2") * 257
    (tmp_path / "1.ppm").write_bytes(b"P6 2 1 65535\n" + values.tobytes())
    assert read_image(tmp_path / "1.ppm").view(3, 2).T.tolist() == [[10, 20, 30], [255, 0, 128]]


def chunk(name: bytes, content: bytes) -> bytes:
    """Write a chunk of a PNG."""
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


LONG = b"a" * 3_000_000
PACKED = zlib.compress(LONG)
TEXTS = {
    "packed text": [chunk(b"zTXt", b"workflow\0\0" + PACKED)],
    "packed international text": [chunk(b"iTXt", b"workflow\0\1\0en\0flow\0" + PACKED)],
    "colour profile": [chunk(b"iCCP", b"icc\0\0" + PACKED)],
    "long text": [chunk(b"tEXt", b"workflow\0" + LONG)] * 25,
    "many texts": [chunk(b"zTXt", b"note\0\0" + zlib.compress(LONG[:1_000_000]))] * 70,
}
HEADER = 33
"""Bytes of a PNG before its second chunk."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_are_too_long_are_left_out_and_the_picture_is_read(tmp_path, name, after):
    raw = encoded(picture(), "PNG")
    at = len(raw) - 12 if after and name != "colour profile" else HEADER
    (tmp_path / "1.png").write_bytes(raw[:at] + b"".join(TEXTS[name]) + raw[at:])
    expected = torch.from_numpy(np.array(picture())).permute(2, 0, 1)
    assert torch.equal(read_image(tmp_path / "1.png"), expected)


def test_a_photo_whose_text_is_left_out_is_still_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    raw = encoded(picture().transpose(Image.Transpose.ROTATE_180), "PNG", exif=exif)
    (tmp_path / "1.png").write_bytes(raw[:HEADER] + TEXTS["packed text"][0] + raw[HEADER:])
    expected = torch.from_numpy(np.array(picture())).permute(2, 0, 1)
    assert torch.equal(read_image(tmp_path / "1.png"), expected)


@pytest.mark.parametrize(("size", "said"), [((10_000, 10_000), LARGE), ((99, 1), DAMAGED)])
def test_a_long_text_opens_no_way_for_what_is_refused_otherwise(tmp_path, size, said):
    raw = png_header(*size)
    (tmp_path / "1.png").write_bytes(raw[:HEADER] + TEXTS["packed text"][0] + raw[HEADER:])
    assert only(tmp_path / "1.png")[0, 0].reason == said


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "TIFF", "JPEG"])
def test_long_notes_in_other_kinds_do_no_harm(tmp_path, kind):
    noted = {
        "WEBP": {"exif": b"Exif\0\0" + LONG, "icc_profile": LONG, "xmp": LONG, "lossless": True},
        "GIF": {"comment": LONG},
        "TIFF": {"tiffinfo": {270: "x" * 3_000_000, 34675: LONG, 700: LONG}},
        "JPEG": {"comment": LONG[:65_000], "icc_profile": LONG},
    }[kind]
    plain = {"lossless": True} if kind == "WEBP" else {}
    for name, options in (("noted", noted), ("plain", plain)):
        (tmp_path / name).write_bytes(encoded(picture(), kind, **options))
    assert torch.equal(read_image(tmp_path / "noted"), read_image(tmp_path / "plain"))

"""Every image file gives a tensor or a reason; transforms and augmentation are what they say."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from adaptune.data.dataset_rows import DatasetRows
from adaptune.data.file_rows import FileRows
from adaptune.data.inputs.image import ImageInput, read_image, transform_for
from adaptune.data.labels.classes import ClassLabels
from adaptune.data.listing import Example
from adaptune.data.sample import Unreadable
from adaptune.networks.network import Preprocess


def flat(mode: str, colour, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new(mode, size, colour)


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    image = flat("P", 1)
    image.putpalette([channel for colour in colours for channel in colour])
    return image


def wide(value: int, kind: type) -> Image.Image:
    return Image.fromarray(np.full((4, 6), value, dtype=kind))


FILES = {
    "rgb.png": (flat("RGB", (10, 20, 30)), {}, (10, 20, 30)),
    "half transparent.png": (flat("RGBA", (255, 0, 0, 51)), {}, (255, 204, 204)),
    "transparent black.png": (flat("RGBA", (0, 0, 0, 0)), {}, (255, 255, 255)),
    "transparent.webp": (flat("RGBA", (0, 0, 0, 0)), {"lossless": True}, (255, 255, 255)),
    "grey and alpha.png": (flat("LA", (0, 51)), {}, (204, 204, 204)),
    "palette.png": (palette((0, 0, 0), (9, 8, 7)), {}, (9, 8, 7)),
    "palette, one clear.png": (palette((0, 0, 0), (9, 8, 7)), {"transparency": 1}, (255,) * 3),
    "palette, half clear.png": (
        palette((0, 0, 0), (255, 0, 0)),
        {"transparency": bytes([255, 51])},
        (255, 204, 204),
    ),
    "colour that is clear.png": (
        flat("RGB", (1, 2, 3)),
        {"transparency": (1, 2, 3)},
        (255, 255, 255),
    ),
    "grey.png": (flat("L", 77), {}, (77, 77, 77)),
    "grey.jpg": (flat("L", 77), {}, (77, 77, 77)),
    "black and white.png": (flat("1", 1), {}, (255, 255, 255)),
    "cmyk.jpg": (flat("CMYK", (0, 255, 255, 0)), {}, (255, 0, 0)),
    "cmyk.tif": (flat("CMYK", (255, 0, 0, 0)), {}, (0, 255, 255)),
    "16 bits.png": (wide(100 * 257, np.uint16), {}, (100, 100, 100)),
    "16 bits.tif": (wide(200 * 257, np.uint16), {}, (200, 200, 200)),
    "32 bits.tif": (wide(50 * 257, np.int32), {}, (50, 50, 50)),
    "plain.bmp": (flat("RGB", (10, 20, 30)), {}, (10, 20, 30)),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_pixel_is_read_as_it_looks_on_white_paper(tmp_path, name):
    image, options, colour = FILES[name]
    image.save(tmp_path / name, **options)
    pixels = read_image(tmp_path / name)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 4, 6)
    expected = torch.tensor(colour).view(3, 1, 1).expand(3, 4, 6)
    torch.testing.assert_close(pixels.int(), expected.int(), atol=2, rtol=0)


def png(bits: int, colour: int, row: bytes, clear: bytes = b"", palette: bytes = b"") -> bytes:
    """Write one row of pixels as a PNG that Pillow could not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    width = len(row) * 8 // bits // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    raw = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0))
    raw += chunk(b"PLTE", palette) if palette else b""
    raw += chunk(b"tRNS", clear) if clear else b""
    raw += chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + raw


def words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


CLEAR = {
    "grey, 1 bit": (png(1, 0, b"\xaa", words(1)), [255, 0]),
    "grey, 1 bit, black is clear": (png(1, 0, b"\xaa", words(0)), [255, 255]),
    "grey, 2 bits": (png(2, 0, b"\x6c", words(1)), [255, 170, 255, 0]),
    "grey, 4 bits": (png(4, 0, b"\x3c", words(3)), [255, 204]),
    "grey, 8 bits": (png(8, 0, b"\x64\x65", words(100)), [255, 101]),
    "grey, 16 bits": (png(16, 0, words(25700, 25957), words(25700)), [255, 101]),
    "grey, 16 bits, nearly clear": (png(16, 0, words(25700, 25701), words(25700)), [255, 100]),
    "grey, 16 bits, black is clear": (png(16, 0, words(0, 257), words(0)), [255, 1]),
    "grey and alpha, 8 bits": (png(8, 4, b"\0\x33\x64\xff"), [204, 100]),
    "grey and alpha, 16 bits": (png(16, 4, words(0, 51 * 257, 25700, 65535)), [204, 100]),
    "colour, 8 bits": (png(8, 2, b"\x64" * 3 + b"\x65" * 3, words(*[100] * 3)), [255, 101]),
    "colour, 16 bits": (
        png(16, 2, words(*[25700] * 3, *[25957] * 3), words(*[25700] * 3)),
        [255, 101],
    ),
    "colour and alpha, 16 bits": (png(16, 6, words(*[0] * 3, 13107, *[0] * 4)), [204, 255]),
    "palette, 1 bit": (png(1, 3, b"\xaa", b"\xff\x33", b"\x07" * 3 + b"\0" * 3), [204, 7]),
    "palette, 4 bits": (png(4, 3, b"\x01", b"\0\x33", bytes(6)), [255, 204]),
}


@pytest.mark.parametrize("name", CLEAR)
def test_what_is_clear_is_white_whatever_the_depth(tmp_path, name):
    raw, expected = CLEAR[name]
    (tmp_path / "1.png").write_bytes(raw)
    pixels = read_image(tmp_path / "1.png")
    assert (pixels == pixels[:1]).all(), "grey"
    assert pixels[0, 0, : len(expected)].tolist() == expected


def test_an_animation_is_its_first_frame(tmp_path):
    red, blue = flat("RGB", (255, 0, 0)), flat("RGB", (0, 0, 255))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 2
    assert read_image(tmp_path / "a.gif")[:, 0, 0].tolist() == [255, 0, 0]


STORED = {  # how a camera stores what EXIF then turns upright
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def exif(orientation: int, resolution: bytes) -> bytes:
    """Write EXIF with an orientation and a resolution that is text, which it must not be."""
    tags = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tags += struct.pack("<HHI4s", 0x011A, 2, 4, resolution)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + struct.pack("<I", 0)


@pytest.mark.parametrize("orientation", STORED)
def test_photos_are_turned_upright_even_where_other_exif_is_damaged(tmp_path, orientation):
    upright = Image.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3))
    turn = STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    stored.save(tmp_path / "photo.png", exif=exif(orientation, b"abc\0"))
    expected = torch.from_numpy(np.array(upright)).permute(2, 0, 1)
    assert torch.equal(read_image(tmp_path / "photo.png"), expected)


def encoded(image: Image.Image, kind: str) -> bytes:
    raw = io.BytesIO()
    image.save(raw, kind)
    return raw.getvalue()


def noise(size: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8))


BROKEN = {
    "cut.png": encoded(noise(), "PNG")[:1000],
    "cut.jpg": encoded(noise(), "JPEG")[:500],
    "cut.gif": encoded(noise(), "GIF")[:700],
    "cut.ppm": encoded(noise(), "PPM")[:700],
    "ppm with letters.ppm": b"P3\n2 2\n255\n" + b"x " * 12,
    "empty.png": b"",
    "text.png": b"404: not found\n",
    "page.jpg": b"<html><body>no image here</body></html>",
    "fractions.tif": encoded(wide(1, np.float32), "TIFF"),
}


def only(path) -> FileRows:
    return FileRows([Example(path, "cat")], ImageInput(Preprocess(size=8)), ClassLabels(["cat"]))


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_counted_with_a_reason(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(OSError, match="."):
        read_image(tmp_path / name)
    row = only(tmp_path / name)[0, 0]
    assert isinstance(row, Unreadable)
    assert row.path == str(tmp_path / name)
    assert row.reason


def test_missing_files_and_folders_are_counted_with_a_reason(tmp_path):
    for path in (tmp_path / "gone.png", tmp_path):
        row = only(path)[0, 0]
        assert isinstance(row, Unreadable)
        assert row.reason


def test_a_file_that_would_fill_the_memory_is_counted_with_a_reason(tmp_path, monkeypatch):
    noise().save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    row = only(tmp_path / "bomb.png")[0, 0]
    assert isinstance(row, Unreadable)
    assert "could fill the memory" in row.reason


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (40, 30)])
@pytest.mark.parametrize("augment", ["none", "flip", "crop"])
def test_inputs_are_square_of_the_size_asked_for_whatever_the_image(size, augment):
    width, height = size
    image = torch.full((3, height, width), 7, dtype=torch.uint8)
    look = Preprocess(size=12, crop=0.8)
    made = transform_for(look, augment)(image)
    assert made.shape == (3, 12, 12)
    assert made.dtype == torch.float32


@pytest.mark.parametrize("augment", ["none", "flip", "crop"])
def test_values_are_normalised_by_the_networks_mean_and_deviation(augment):
    look = Preprocess(size=5, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1).expand(3, 9, 7)
    made = transform_for(look, augment)(image)
    expected = torch.tensor([(0 - 0.1) / 0.5, (0.2 - 0.2) / 0.25, (1 - 0.3) / 0.125])
    torch.testing.assert_close(made, expected.view(3, 1, 1).expand(3, 5, 5), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("crop", "share"), [(1.0, 0.25), (0.5, 1.0)])
def test_the_centre_crop_keeps_the_share_of_the_side_that_was_asked_for(crop, share):
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, 16:48, 16:48] = 255
    look = Preprocess(size=32, crop=crop, mean=(0,) * 3, std=(1,) * 3)
    assert transform_for(look)(image).mean().item() == pytest.approx(share, abs=0.01)


def test_interpolation_is_the_networks_own():
    image = torch.from_numpy(np.array(noise())).permute(2, 0, 1)
    linear, cubic = (
        transform_for(Preprocess(size=8, interpolation=kind))(image)
        for kind in ("bilinear", "bicubic")
    )
    assert not torch.allclose(linear, cubic, atol=1e-3)


@pytest.fixture
def augmented(tmp_path) -> FileRows:
    noise().save(tmp_path / "1.png")
    look = ImageInput(Preprocess(size=8), "crop")
    return FileRows([Example(tmp_path / "1.png", "cat")], look, ClassLabels(["cat"]))


def test_augmentation_depends_on_the_seed_alone(augmented):
    torch.manual_seed(1)
    first = augmented[0, 5][0]
    torch.manual_seed(2)
    again = augmented[0, 5][0]
    assert torch.equal(first, again)
    assert len({augmented[0, seed][0].numpy().tobytes() for seed in range(8)}) > 5


def test_augmentation_leaves_all_other_random_numbers_alone(augmented):
    before = torch.random.get_rng_state()
    augmented[0, 5]
    look = ImageInput(Preprocess())
    DatasetRows([(torch.zeros(1), 0)], look, ClassLabels(["cat"]), name="train")[0, 5]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_half_of_the_training_images_are_flipped_and_nothing_else_happens_to_them():
    image = torch.from_numpy(np.array(noise(8))).permute(2, 0, 1)
    look = Preprocess(size=8, crop=1.0)
    plain, flip = transform_for(look)(image), transform_for(look, "flip")
    torch.manual_seed(0)
    flipped = 0
    for _ in range(200):
        made = flip(image)
        mirrored = torch.equal(made, plain.flip(-1))
        assert mirrored or torch.equal(made, plain)
        flipped += mirrored
    assert 70 < flipped < 130


def test_the_same_files_can_be_seen_through_another_transform(augmented):
    other = augmented.through(ImageInput(Preprocess(size=3)))
    assert other[0, 0][0].shape == (3, 3, 3)
    assert augmented[0, 0][0].shape == (3, 8, 8)

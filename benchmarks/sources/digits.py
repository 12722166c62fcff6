"""Handwritten digits that come with scikit-learn: later writers, and what may befall a scan.

scikit-learn's copy is the test part of optdigits: 1,797 digits of 13 people, 8 x 8 pixels of 17
greys, in the order of writing. The labels repeat one text of 130 digits 14 times, with a few digits
missing, so where each form begins is known (`FORMS`); the file does not say who wrote which, and as
14 is one more than 13, somebody filled two. What is trained on are forms 1 to 8; ``later-writers``
are forms 9 to 14: a shift that nobody made up, up to that one person.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as images

from adaptune.data.domains import DomainData, Loading, RowSource
from adaptune.data.listing import Shares
from adaptune.types import Split
from benchmarks.sources.rows import Change, Pictures, Pixels, divided

FORMS = (0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667)
"""The row at which each form begins."""
TRAINED = 8
"""Forms that training, validation and the ID test are drawn from."""
SIDE = 32
SHARES = Shares(val_share=0.15, test_share=0.25)
CLASSES = tuple("0123456789")


def open_source(data: Path | None, work: Path) -> dict[str, Callable[[Loading], DomainData]]:
    """Give ``optdigits``, tested on later writers and on its own test digits, changed."""
    del data, work
    return {"optdigits": opened}


def opened(loading: Loading) -> DomainData:
    """Open the digits, white on black, scaled up to 32 pixels so that they can be bent."""
    pixels, labels = digits()
    parts = divided("optdigits", range(FORMS[TRAINED]), SHARES)
    sets: dict[Split, RowSource] = {
        split: Pictures(pixels, labels, rows) for split, rows in parts.items()
    }
    later = range(FORMS[TRAINED], len(labels))
    ood: dict[str, RowSource] = {"later-writers": Pictures(pixels, labels, later)}
    for name, change in SHIFTS.items():
        ood[name] = Pictures(pixels, labels, parts["test"], change)
    return DomainData(CLASSES, sets, ood, sets["train"], loading)


def digits() -> tuple[Pixels, list[int]]:
    """Read all digits as uint8 (N, 3, 32, 32) in the order of writing, and their labels."""
    read = load_digits()
    grey = torch.from_numpy(read.images).float()[:, None] * (255 / 16)
    large = functional.interpolate(grey, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return _bytes(large).expand(-1, 3, -1, -1).contiguous(), read.target.tolist()


def inverted(picture: Tensor) -> Tensor:
    """Write black on white."""
    return 255 - picture


def swollen(width: int, picture: Tensor) -> Tensor:
    """Make strokes thicker by the largest value ``width`` pixels around, or thinner if negative."""
    sign = 1 if width > 0 else -1
    side = 2 * abs(width) + 1
    return _bytes(sign * functional.max_pool2d(sign * picture.float(), side, 1, abs(width)))


def rotated(degrees: float, picture: Tensor) -> Tensor:
    """Turn by any angle up to ``degrees``, either way."""
    angle = float(torch.empty(()).uniform_(-degrees, degrees))
    turned: Tensor = images.rotate(picture, angle, InterpolationMode.BILINEAR)
    return turned


def moved(pixels: int, picture: Tensor) -> Tensor:
    """Move by up to ``pixels`` along each side; what leaves the picture is lost."""
    right, down = torch.randint(-pixels, pixels + 1, (2,)).tolist()
    there: Tensor = images.affine(picture, 0.0, [right, down], 1.0, [0.0, 0.0])
    return there


def noisy(deviation: float, picture: Tensor) -> Tensor:
    """Add the same noise of normal distribution to all channels."""
    return _bytes(picture + torch.randn(picture.shape[1:]) * (255 * deviation))


def blurred(sigma: float, picture: Tensor) -> Tensor:
    """Blur by a Gaussian."""
    side = 2 * round(3 * sigma) + 1
    soft: Tensor = images.gaussian_blur(picture, [side, side], [sigma, sigma])
    return soft


def _bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


SHIFTS: dict[str, Change] = {
    "inverted": inverted,
    "thick": partial(swollen, 2),
    "thin": partial(swollen, -1),
    "rotated": partial(rotated, 30.0),
    "moved": partial(moved, 6),
    "noisy": partial(noisy, 0.3),
    "blurred": partial(blurred, 2.5),
}

"""An image folder and its own test images under ten kinds of corruption in five severities.

In the manner of Hendrycks and Dietterich (2019), with strengths of our own, so numbers are not
comparable with ImageNet-C or CIFAR-10-C. Every image, also a clean one, is first brought to one
size, so that a severity means the same for all of them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as images

from adaptune.data.demo import build_demo
from adaptune.data.domains import DomainData, Loading, RowSource
from adaptune.data.file_rows import FileRows
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains
from adaptune.types import Split
from benchmarks.sources.rows import Change, Files, Pictures

SIDE = 64
SHARES = Shares(val_share=0.15, test_share=0.25)
SEVERITIES: dict[str, tuple[float, ...]] = {
    "gaussian-noise": (0.04, 0.07, 0.11, 0.16, 0.22),  # deviation
    "shot-noise": (200, 80, 35, 16, 8),  # photons in white
    "impulse-noise": (0.01, 0.03, 0.07, 0.12, 0.2),  # share of values
    "gaussian-blur": (0.6, 1.0, 1.5, 2.2, 3.0),  # pixels of 64
    "motion-blur": (3, 5, 8, 11, 15),  # pixels of 64
    "pixelate": (0.6, 0.45, 0.33, 0.25, 0.18),  # share of the pixels of a side
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added
    "contrast": (0.7, 0.5, 0.35, 0.22, 0.12),  # factor
    "jpeg": (50, 25, 15, 8, 4),  # quality
    "fog": (0.2, 0.35, 0.5, 0.62, 0.74),  # opacity
}


def open_source(
    data: Path | None, work: Path, side: int = SIDE
) -> dict[str, Callable[[Loading], DomainData]]:
    """Give an image folder, tested on its own test images under every corruption.

    Args:
        data: A folder of class folders; without one, Twemoji is drawn.
        work: Where Twemoji is drawn.
        side: The pixels of a side that images are brought to before they are corrupted.
    """
    folder = data if data is not None else build_demo(work / "emoji")["twemoji"]
    return {folder.resolve().name: partial(_opened, folder, side)}


def _opened(folder: Path, side: int, loading: Loading) -> DomainData:
    plain = open_domains(folder, shares=SHARES, loading=loading)
    sets: dict[Split, RowSource] = {}
    for split, rows in plain.sets.items():
        sets[split] = _changed(rows, partial(squared, side))
    ood: dict[str, RowSource] = {}
    for family, amounts in SEVERITIES.items():
        for severity in range(1, len(amounts) + 1):
            change = partial(corrupted, family, severity, side)
            ood[f"{family}-{severity}"] = _changed(plain.sets["test"], change)
    return DomainData(plain.classes, sets, ood, sets["train"], loading, plain.notes)


def _changed(rows: RowSource, change: Change) -> Pictures:
    if not isinstance(rows, FileRows):
        raise TypeError(f"only image files can be corrupted, not {type(rows).__name__}")
    return Pictures(Files(tuple(rows.paths)), rows.labels, change=change)


def squared(side: int, picture: Tensor) -> Tensor:
    """Bring the shorter side to ``side`` pixels and take the middle."""
    resized: Tensor = images.resize(picture, [side], antialias=True)
    middle: Tensor = images.center_crop(resized, [side, side])
    return middle


def corrupted(family: str, severity: int, side: int, picture: Tensor) -> Tensor:
    """Bring a picture, uint8 (3, H, W), to one size and corrupt it, 1 being the mildest."""
    clean = squared(side, picture).float() / 255
    values = CORRUPTIONS[family](clean, SEVERITIES[family][severity - 1])
    return (values * 255).round().clamp(0, 255).to(torch.uint8)


def gaussian_noise(x: Tensor, deviation: float) -> Tensor:
    """Add noise of normal distribution."""
    return x + deviation * torch.randn_like(x)


def shot_noise(x: Tensor, photons: float) -> Tensor:
    """Count photons, of which white sends so many."""
    return torch.poisson(x * photons) / photons


def impulse_noise(x: Tensor, share: float) -> Tensor:
    """Set a share of the values to black or white."""
    chance = torch.rand_like(x)
    return x.masked_fill(chance < share / 2, 0.0).masked_fill(chance > 1 - share / 2, 1.0)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian; ``sigma`` in pixels of a picture of 64."""
    sigma *= x.shape[-1] / 64
    side = 2 * math.ceil(3 * sigma) + 1
    soft: Tensor = images.gaussian_blur(x, [side, side], [sigma, sigma])
    return soft


def motion_blur(x: Tensor, length: float) -> Tensor:
    """Blur along a line of any angle; ``length`` in pixels of a picture of 64."""
    angle = math.pi * float(torch.rand(()))
    kernel = line(length * x.shape[-1] / 64, angle)
    around = kernel.shape[-1] // 2
    padded = functional.pad(x[:, None], [around] * 4, mode="replicate")
    return functional.conv2d(padded, kernel[None, None])[:, 0]


def line(length: float, angle: float) -> Tensor:
    """Draw a line through the middle of an odd square, of sum 1.

    >>> line(1.0, 0.0).tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    half = math.ceil((length - 1) / 2) + 1
    along = torch.linspace(-(length - 1) / 2, (length - 1) / 2, 8 * math.ceil(length) + 1)
    grid = torch.arange(-half, half + 1)
    # Each point of the line gives its weight to the pixels around it, by how near they are.
    across = (1 - (grid - along[:, None] * math.cos(angle)).abs()).clamp(min=0)
    down = (1 - (grid - along[:, None] * math.sin(angle)).abs()).clamp(min=0)
    drawn = torch.einsum("pi,pj->ij", down, across)
    return drawn / drawn.sum()


def pixelate(x: Tensor, share: float) -> Tensor:
    """Keep a share of the pixels of each side, and show them as blocks."""
    side = x.shape[-1]
    small = images.resize(x, [round(side * share)] * 2, antialias=True)
    blocks: Tensor = images.resize(small, [side, side], InterpolationMode.NEAREST)
    return blocks


def brightness(x: Tensor, added: float) -> Tensor:
    """Make everything brighter."""
    return x + added


def contrast(x: Tensor, factor: float) -> Tensor:
    """Draw all values towards their mean."""
    return x.mean() + factor * (x - x.mean())


def jpeg(x: Tensor, quality: float) -> Tensor:
    """Compress as JPEG."""
    # Pillow's, because torchvision's own is deprecated.
    packed = io.BytesIO()
    images.to_pil_image((x * 255).round().to(torch.uint8)).save(
        packed, "JPEG", quality=int(quality)
    )
    with Image.open(packed) as opened:
        unpacked: Tensor = images.pil_to_tensor(opened)
    return unpacked.float() / 255


def fog(x: Tensor, opacity: float) -> Tensor:
    """Lay light grey clouds over everything: smooth noise of four sizes."""
    clouds = torch.zeros(x.shape[1:])
    for octave in range(1, 5):
        grains = torch.rand(1, 1, 2**octave, 2**octave)
        grown = functional.interpolate(grains, x.shape[1:], mode="bicubic", align_corners=False)
        clouds += grown[0, 0] / 2**octave
    clouds = (clouds - clouds.min()) / (clouds.max() - clouds.min())
    return (1 - opacity) * x + opacity * (0.6 + 0.4 * clouds)


CORRUPTIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "gaussian-noise": gaussian_noise,
    "shot-noise": shot_noise,
    "impulse-noise": impulse_noise,
    "gaussian-blur": gaussian_blur,
    "motion-blur": motion_blur,
    "pixelate": pixelate,
    "brightness": brightness,
    "contrast": contrast,
    "jpeg": jpeg,
    "fog": fog,
}


def mean_corruption_error(errors: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """Give the mean corruption error in percent, 100 being as bad as the baseline.

    For each corruption, errors are summed over severities and divided by the baseline's sum; the
    mean over corruptions of these ratios is the result. Source: Benchmarking neural network
    robustness to common corruptions and perturbations (Hendrycks and Dietterich, 2019).

    Args:
        errors: The error of each test set, in any unit, by its name: CORRUPTION-SEVERITY.
        baseline: The errors of what it is compared with, on the same test sets.

    Raises:
        ValueError: If the test sets are not the same, or the baseline makes no error on one of
            the corruptions.

    >>> mean_corruption_error({"fog-1": 10, "fog-2": 20}, {"fog-1": 20, "fog-2": 40})
    50.0
    """
    if set(errors) != set(baseline) or not errors:
        differing = sorted(set(errors) ^ set(baseline))[:5]
        raise ValueError(
            "errors and baseline must be of the same test sets, at least one: they differ in "
            f"{', '.join(differing) or 'nothing, and are empty'}"
        )
    sums: dict[str, tuple[float, float]] = {}
    for name, error in errors.items():
        family = name.rpartition("-")[0]
        own, base = sums.get(family, (0.0, 0.0))
        sums[family] = (own + error, base + baseline[name])
    perfect = [family for family, (_, base) in sums.items() if base == 0]
    if perfect:
        raise ValueError(
            f"the baseline makes no error on {', '.join(perfect)}, so nothing can be compared "
            "with it: take a weaker baseline"
        )
    return 100 * sum(own / base for own, base in sums.values()) / len(sums)

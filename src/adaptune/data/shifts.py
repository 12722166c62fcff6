"""Families of changes to pictures: shifts that are made, to validate where none is at hand.

Families and strengths are those of Crafting Distribution Shifts for Validation and Training in
Single Source Domain Generalization (Efthymiadis et al., 2025), whose code calls a library that is
kept no more. All ten families are there, each with the changes that torchvision and a few lines
make; cartoons, Voronoi cells, fog, snow and rain are drawn in ways of our own. Lengths there are of
images of 227 pixels, here of that share of the image.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as images

from adaptune.data.sample import seeded
from adaptune.ops.edges import canny

Change = Callable[[Tensor], Tensor]
"""Makes of a picture (3, H, W), from 0 to 1, another one, by torch's random numbers."""

SIDE = 227

CELLS = 96
"""Places of a side by which borders of cells are drawn, to be quick."""


def shifted(picture: Tensor, family: str, row: int) -> Tensor:
    """Give a picture (3, H, W), from 0 to 1, as one of a family's changes makes it.

    Which one, and how, is drawn by family and ``row`` alone.

    >>> picture = torch.rand(3, 16, 16)
    >>> one, same = (shifted(picture, "geometric", 5) for _ in range(2))
    >>> torch.equal(one, same), one.shape
    (True, torch.Size([3, 16, 16]))
    """
    changes = FAMILIES[family]
    with seeded(len(FAMILIES) * row + list(FAMILIES).index(family)):
        return changes[int(torch.randint(len(changes), ()))](picture).clamp(0, 1)


def between(low: float, high: float) -> float:
    """Draw a number."""
    return low + (high - low) * float(torch.rand(()))


def either(low: tuple[float, float], high: tuple[float, float]) -> float:
    """Draw a number of one of two ranges."""
    return between(*(low if torch.rand(()) < 0.5 else high))


def pixels(x: Tensor, length: float) -> float:
    """Turn a length in pixels of `SIDE` into those of a picture."""
    return length * min(x.shape[1:]) / SIDE


def odd(x: Tensor, length: float) -> int:
    """Turn a length into an odd number of pixels, 3 at the least and no more than the picture."""
    most = min(x.shape[1:])
    return max(3, min(round(pixels(x, length)) // 2 * 2 + 1, (most - 1) // 2 * 2 + 1))


def cutout(x: Tensor) -> Tensor:
    """Black out five to ten squares of a fifth of the side."""
    side, x = max(1, min(x.shape[1:]) // 5), x.clone()
    for _ in range(int(torch.randint(5, 11, ()))):
        down, right = (int(torch.randint(length, ())) for length in x.shape[1:])
        x[:, down : down + side, right : right + side] = 0
    return x


def dropout(x: Tensor) -> Tensor:
    """Black out a fifth to a half of the pixels."""
    return x * (torch.rand(x.shape[1:]) > between(0.2, 0.5))


def salt_and_pepper(x: Tensor) -> Tensor:
    """Make half of the pixels white or black."""
    return torch.where(torch.rand(x.shape[1:]) < 0.5, torch.rand(x.shape[1:]).round(), x)


def jpeg(x: Tensor) -> Tensor:
    """Compress a picture strongly."""
    packed = io.BytesIO()  # by Pillow, since torchvision will do without
    quality = int(torch.randint(1, 11, ()))
    images.to_pil_image((255 * x).round().byte()).save(packed, "JPEG", quality=quality)
    with Image.open(packed) as opened:
        unpacked: Tensor = images.pil_to_tensor(opened)
    return unpacked / 255


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian, ``sigma`` in pixels of `SIDE`."""
    side, deviations = odd(x, 6 * sigma), [max(pixels(x, sigma), 0.3)] * 2
    across = images.gaussian_blur(x, [side, 1], deviations)
    soft: Tensor = images.gaussian_blur(across, [1, side], deviations)
    return soft


def convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel of a picture with a kernel (k, k)."""
    around = kernel.shape[0] // 2
    padded = F.pad(x.unsqueeze(1), [around] * 4, mode="replicate")
    return F.conv2d(padded, kernel[None, None])[:, 0]


def averaged(x: Tensor) -> Tensor:
    """Blur by a square."""
    side = odd(x, between(9, 15))
    padded = F.pad(x[None], [side // 2] * 4, mode="replicate")
    return F.avg_pool2d(padded, side, stride=1)[0]


def moved(x: Tensor) -> Tensor:
    """Blur along a line of any angle, 15 pixels of `SIDE` long."""
    line = torch.zeros(1, odd(x, 15), odd(x, 15))
    line[:, line.shape[1] // 2] = 1
    line = images.rotate(line, between(0, 180), v2.InterpolationMode.BILINEAR)[0]
    return convolved(x, line / line.sum())


def cartoon(x: Tensor) -> Tensor:
    """Draw a picture in few, strong colours with dark edges."""
    flat: Tensor = images.adjust_saturation((blurred(x, 3) * 6).round() / 6, 2.0)
    return flat * (1 - canny(x[None], sigma=pixels(x, 2), low=0.2, high=0.4)[0])


def sigmoid(x: Tensor) -> Tensor:
    """Draw values apart around the middle."""
    return torch.sigmoid(between(10, 25) * (x - between(0.4, 0.6)))


def logarithm(x: Tensor) -> Tensor:
    """Give values the contrast of a logarithm."""
    return either((0.1, 0.3), (1.8, 2.0)) * torch.log2(1 + x)


def linear(x: Tensor) -> Tensor:
    """Draw values towards the middle, or away from it."""
    return 0.5 + either((0.1, 0.3), (1.8, 2.0)) * (x - 0.5)


def filtered(kernel: list[list[float]]) -> Change:
    """Give what convolves a picture and keeps up to a fifth of it."""
    square = torch.tensor(kernel, dtype=torch.float32)

    def change(x: Tensor) -> Tensor:
        return x.lerp(convolved(x, square), between(0.8, 1.0))

    return change


def drawn_edges(x: Tensor) -> Tensor:
    """Draw the edges of a picture alone, and up to a fifth of it."""
    return x.lerp(canny(x[None], sigma=max(pixels(x, 2), 0.3))[0].expand_as(x), between(0.8, 1.0))


def jigsaw(x: Tensor) -> Tensor:
    """Swap neighbouring ones of ten times ten pieces here and there."""
    grid = torch.arange(100.0).view(1, 1, 10, 10)
    place = F.interpolate(grid, x.shape[1:], mode="nearest").long()[0, 0]
    order = torch.arange(100)
    for at in torch.randperm(99)[:25].tolist():
        order[[at, at + 1]] = order[[at + 1, at]]
    source = order[place]
    down, right = (torch.arange(length) for length in x.shape[1:])
    height, width = (length / 10 for length in x.shape[1:])
    rows = down[:, None] + ((source // 10 - place // 10) * height).round().long()
    columns = right[None] + ((source % 10 - place % 10) * width).round().long()
    return x[:, rows.clamp(0, x.shape[1] - 1), columns.clamp(0, x.shape[2] - 1)]


def affine(x: Tensor, *, angle: float = 0.0, scale: float = 1.0, shear: float = 0.0) -> Tensor:
    """Turn, scale and shear a picture; beyond it is black."""
    way = v2.InterpolationMode.BILINEAR
    turned: Tensor = images.affine(x, angle, [0, 0], scale, [shear, 0.0], way)
    return turned


def translated(x: Tensor) -> Tensor:
    """Move a picture by up to two fifths of its sides."""
    by = [round(between(-0.4, 0.4) * length) for length in x.shape[:0:-1]]
    there: Tensor = images.affine(x, 0.0, by, 1.0, [0.0, 0.0])
    return there


def voronoi(x: Tensor) -> Tensor:
    """Give every place the mean colour of those that are nearest to the same of many points."""
    count = int(torch.randint(100, 501, ()))
    coarse = [min(length, CELLS) for length in x.shape[1:]]
    points = torch.rand(count, 2) * torch.tensor(coarse)
    grid = torch.cartesian_prod(*(torch.arange(length) + 0.5 for length in coarse))
    near = torch.cdist(grid, points).argmin(1).view(1, 1, *coarse).float()
    near = F.interpolate(near, x.shape[1:], mode="nearest").long().flatten()
    total = torch.zeros(count, 3).index_add(0, near, x.flatten(1).T)
    means = total / torch.bincount(near, minlength=count).clamp_min(1)[:, None]
    return means[near].T.reshape(x.shape)


def fog(x: Tensor) -> Tensor:
    """Lay clouds over a picture: smooth noise of four sizes."""
    clouds = torch.zeros(x.shape[1:])
    for octave in range(1, 5):
        grains = torch.rand(1, 1, 2**octave, 2**octave)
        clouds += F.interpolate(grains, x.shape[1:], mode="bicubic")[0, 0] / 2**octave
    clouds = (clouds - clouds.min()) / (clouds.max() - clouds.min() + 1e-6)
    return x.lerp(torch.ones_like(x), (between(0.4, 0.8) * (0.5 + 0.5 * clouds)))


def snow(x: Tensor) -> Tensor:
    """Let white flakes fall."""
    flakes = (torch.rand(1, *x.shape[1:]) < between(0.02, 0.06)).float()
    return torch.maximum(x, (3 * blurred(flakes, 2)).clamp(0, 1))


def rain(x: Tensor) -> Tensor:
    """Let it rain, in grey streaks along one line."""
    drops = (torch.rand(1, *x.shape[1:]) < between(0.01, 0.03)).float()
    return x.lerp(torch.full_like(x, 0.8), (4 * moved(drops)).clamp(0, 0.8))


def sunlit_snow(x: Tensor) -> Tensor:
    """Let what is light turn white."""
    light = images.rgb_to_grayscale(x)
    return torch.where(light > between(0.3, 0.6), x * between(2.5, 4.0), x)


FAMILIES: dict[str, tuple[Change, ...]] = {
    "arithmetic": (
        lambda x: x + either((-0.78, -0.2), (0.2, 0.78)),
        lambda x: x + between(0.2, 0.59) * torch.randn(x.shape),
        lambda x: x * between(2, 4),
        lambda x: x * (2 + 2 * torch.rand(x.shape)),
        cutout,
        dropout,
        salt_and_pepper,
        lambda x: 1 - x,
        lambda x: torch.where(x > between(0.125, 0.5), 1 - x, x),
        jpeg,
    ),
    "artistic": (cartoon,),
    "blur": (lambda x: blurred(x, between(5, 7)), averaged, moved),
    "colour": (
        lambda x: images.adjust_hue(x, between(0.14, 0.5)),
        lambda x: x + either((-0.78, -0.2), (0.2, 0.78)),
        lambda x: x * either((0.1, 0.3), (1.8, 2.0)),
        lambda x: images.adjust_saturation(x, either((0.1, 0.3), (1.8, 2.0))),
        lambda x: images.adjust_saturation(x, between(0.0, 0.2)),
        lambda x: (x * 3).round() / 3,
        lambda x: x * torch.tensor([0.8, 0.9, 1.0]).view(3, 1, 1),
    ),
    "contrast": (
        lambda x: x ** either((0.1, 0.3), (1.8, 2.0)),
        sigmoid,
        logarithm,
        linear,
        lambda x: images.equalize((255 * x).round().byte()) / 255,
    ),
    "convolutional": (
        filtered([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]),
        filtered([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]]),
        filtered([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]),
        filtered([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        filtered([[1, 0, -1], [2, 0, -2], [1, 0, -1]]),
    ),
    "edges": (drawn_edges,),
    "geometric": (
        lambda x: affine(x, scale=either((0.5, 0.75), (1.25, 1.75))),
        translated,
        lambda x: affine(x, angle=either((-45, -15), (15, 45))),
        lambda x: affine(x, shear=either((-25, -15), (15, 25))),
        v2.RandomPerspective(0.4, p=1.0),
        v2.ElasticTransform(alpha=7.0, sigma=0.25),
        jigsaw,
    ),
    "segmentation": (voronoi,),
    "weather": (fog, snow, rain, sunlit_snow),
}
"""The changes of each family, of which one is drawn for a picture."""

"""CIFAR-10, tested on STL-10, CIFAR-10.1 and CIFAR-10-C.

CIFAR-10 and STL-10 are read in their binary versions, and numpy files without objects in them: no
file of yours can run code. As Ha, Jeong and Lee (2024) do, training and all tests have CIFAR-10's
ten classes, and STL-10 comes without its monkeys; ``classes="shared"`` leaves out the frogs too,
which STL-10 lacks. They chose rates on CIFAR-10's test images; here a share of the training images
is kept for that, and the test images only test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from adaptune.data.domains import DomainData, Loading, RowSource
from adaptune.data.listing import Shares
from adaptune.types import Split
from benchmarks.sources.rows import (
    ArrayFile,
    Joined,
    Pictures,
    Pixels,
    Records,
    arrays,
    divided,
    given,
)

Test = Literal["stl10", "cifar10.1", "cifar10-c"]
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
STL_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
AS_IN_CIFAR = {"car": "automobile", "plane": "airplane"}
"""Classes that STL-10 calls by another name."""
CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
SEVERITIES = 5
SHARES = Shares(val_share=0.1, test_share=0.0)
TRAIN = tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6))
TEST = "cifar-10-batches-bin/test_batch.bin"
NEEDED: dict[str, tuple[str, ...]] = {
    "stl10": ("stl10_binary/test_X.bin", "stl10_binary/test_y.bin"),
    "cifar10.1": ("CIFAR-10.1/cifar10.1_v6_data.npy", "CIFAR-10.1/cifar10.1_v6_labels.npy"),
    "cifar10-c": tuple(f"CIFAR-10-C/{name}.npy" for name in (*CORRUPTIONS, "labels")),
}
LAYOUT = (
    "cifar-10-batches-bin/ (the binary version) and, of the tests asked for, stl10_binary/, "
    "CIFAR-10.1/cifar10.1_v6_data.npy and _labels.npy, and CIFAR-10-C/ as their archives hold them"
)


def open_source(
    data: Path | None,
    work: Path,
    tests: Sequence[Test] = ("stl10", "cifar10.1", "cifar10-c"),
    classes: Literal["all", "shared"] = "all",
) -> dict[str, Callable[[Loading], DomainData]]:
    """Give ``cifar10``, tested on the sets that are asked for.

    Args:
        data: The folder that holds the data sets, each in the folder of its archive.
        work: Not used.
        tests: The OOD sets.
        classes: All ten classes of CIFAR-10, or the nine that STL-10 shares.

    Raises:
        ValueError: If a file is missing, or a test is unknown.
    """
    del work
    unknown = [test for test in tests if test not in NEEDED]
    if unknown:
        raise ValueError(f"no test set {', '.join(unknown)}: there are {', '.join(NEEDED)}")
    needed = [path for test in tests for path in NEEDED[test]]
    folder = given(data, LAYOUT, *TRAIN, TEST, *needed)
    kept = tuple(name for name in CLASSES if classes == "all" or name in _shared())
    return {"cifar10": partial(_opened, folder, tuple(tests), kept)}


def _shared() -> set[str]:
    return {AS_IN_CIFAR.get(name, name) for name in STL_CLASSES}


def _opened(
    folder: Path, tests: Sequence[Test], classes: Sequence[str], loading: Loading
) -> DomainData:
    train, labels = _cifar([folder / name for name in TRAIN])
    held, held_labels = _cifar([folder / TEST])
    parts = divided("cifar10", range(len(labels)), SHARES)
    sets: dict[Split, RowSource] = {
        "train": _kept(train, labels, classes, parts["train"]),
        "val": _kept(train, labels, classes, parts["val"]),
        "test": _kept(held, held_labels, classes),
    }
    ood: dict[str, RowSource] = {}
    for test in tests:
        for name, (pixels, names) in OPENERS[test](folder).items():
            ood[name] = _kept(pixels, names, classes)
    return DomainData(tuple(classes), sets, ood, sets["train"], loading)


Named = tuple[Pixels, list[str]]
"""Pictures and the name of each one's class."""


def _kept(
    pixels: Pixels, names: Sequence[str], classes: Sequence[str], rows: Sequence[int] | None = None
) -> Pictures:
    """Keep the rows whose class is one of ``classes``."""
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers.get(name, -1) for name in names]
    asked = range(len(labels)) if rows is None else rows
    return Pictures(pixels, labels, [row for row in asked if labels[row] >= 0])


def _cifar(files: Sequence[Path]) -> Named:
    """Read batches of records: a byte for the label, then 3,072 for the picture."""
    parts = tuple(Records(file, side=32, skip=1) for file in files)
    names: list[str] = []
    for part in parts:
        whole = np.fromfile(part.path, np.uint8, len(part) * part.size)
        names += [CLASSES[label] for label in whole[:: part.size]]
    return Joined(parts), names


def _stl10(folder: Path) -> dict[str, Named]:
    """Read STL-10's test images: 96 x 96, column by column, labels from 1."""
    pixels = Records(folder / "stl10_binary/test_X.bin", side=96, columns=True)
    numbers = np.fromfile(folder / "stl10_binary/test_y.bin", np.uint8)
    names = [STL_CLASSES[number - 1] for number in numbers]
    return {"stl10": _paired(pixels, [AS_IN_CIFAR.get(name, name) for name in names])}


def _cifar10_1(folder: Path) -> dict[str, Named]:
    below = folder / "CIFAR-10.1"
    labels = arrays(below / "cifar10.1_v6_labels.npy")
    path = below / "cifar10.1_v6_data.npy"
    pixels = ArrayFile(path, 0, len(arrays(path)))
    return {"cifar10.1": _paired(pixels, [CLASSES[label] for label in labels])}


def _cifar10_c(folder: Path) -> dict[str, Named]:
    """Read the corrupted test images: five severities one after the other in each file."""
    below = folder / "CIFAR-10-C"
    names = [CLASSES[label] for label in arrays(below / "labels.npy")]
    each = len(names) // SEVERITIES
    found: dict[str, Named] = {}
    for corruption in CORRUPTIONS:
        path = below / f"{corruption}.npy"
        if len(arrays(path)) != len(names):
            raise ValueError(f"{path} holds {len(arrays(path))} images for {len(names)} labels")
        for severity in range(SEVERITIES):
            start, stop = severity * each, (severity + 1) * each
            name = f"{corruption.replace('_', '-')}-{severity + 1}"
            found[name] = ArrayFile(path, start, stop), names[start:stop]
    return found


def _paired(pixels: Records | ArrayFile, names: list[str]) -> Named:
    if len(pixels) != len(names):
        raise ValueError(f"{pixels.path} holds {len(pixels)} images for {len(names)} labels")
    return pixels, names


OPENERS: dict[str, Callable[[Path], dict[str, Named]]] = {
    "stl10": _stl10,
    "cifar10.1": _cifar10_1,
    "cifar10-c": _cifar10_c,
}

"""Which networks of timm and torchvision work: opened, trained, converted, saved, opened again.

python -m benchmarks.backbones writes the table of docs/backbones.md: of every family of timm the
smallest classifier, and every classifier of torchvision. It takes about ten minutes on one core.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.networks.architectures import AUXILIARY, SIDES, takes
from adaptune.networks.backbones import open_backbone
from adaptune.networks.network import Network
from adaptune.networks.split import fill
from adaptune.runtime.inputs import input_to_device

CLASSES = ("cat", "dog", "hen")
SIZES = (64, 96, 128, None)  # the first that a network takes; None is its own
WEIGHTS = 100e6  # above this many, shapes alone are looked at
LARGE = re.compile("large|huge|giant|so400m|150m2|300m|_xl|_l_|_l$|101|152|200|269|_x[23]")
PAGE = Path(__file__).parents[1] / "docs" / "backbones.md"
BEGIN, END = "<!-- backbones -->", "<!-- end -->"
HEAD = ["network", "family", "weights", "images", "batch norms", "works"]


@dataclass(frozen=True)
class Row:
    """What came of one network; ``said`` is empty where it works, else the reason or a note."""

    name: str
    family: str
    weights: int
    size: int
    norms: int
    works: bool
    said: str = ""

    def cells(self) -> list[str]:
        answer = "yes" if self.works else "no"
        million = f"{self.weights / 1e6:.1f} M"
        said = f"{answer}: {self.said}" if self.said else answer
        return [f"`{self.name}`", self.family, million, str(self.size), str(self.norms), said]


def names() -> Iterator[tuple[str, str]]:
    """Give the smallest classifier of every family of timm, and all of torchvision's."""
    for family in sorted(timm.list_modules()):
        if found := smallest(timm.list_models(module=family)):
            yield found, family
    for name in models.list_models(models):
        yield f"torchvision/{name}", "torchvision"


def smallest(known: list[str]) -> str:
    """Find the network of fewest weights; timm's own test networks are made to be that.

    Those that are called large are not counted where others are not, since that takes long.
    """
    tests = [name for name in known if name.startswith("test_")]
    modest = [name for name in known if not LARGE.search(name)]
    counts = {name: weights(name) for name in tests or modest or known}
    return min(counts, key=lambda name: counts[name], default="")


def weights(name: str) -> int:
    """Count the weights of a network of timm, without making any."""
    with torch.device("meta"):
        return sum(one.numel() for one in timm.create_model(name).parameters())


def tried(name: str, family: str) -> Row:
    """Open a network, train a step, convert, save, open it again here and in its own library."""
    torch.manual_seed(0)
    try:
        net = by_shapes(name)
    except ValueError as error:
        return Row(name, family, 0, 0, 0, False, str(error))
    count = sum(one.numel() for one in net.parameters())
    if count > WEIGHTS:
        size = net.preprocess.size
        look_at(net, input_to_device(torch.zeros(2, 3, size, size), net))
        return Row(name, family, count, size, 0, True, "by its shapes; it is too large for here")
    net = opened(name)
    size = net.preprocess.size
    x, labels = torch.randn(4, 3, size, size), torch.tensor([0, 1, 2, 0])
    look_at(net, x)
    train(net, x, labels)
    report = convert_batchnorm(net.body, [x])
    note = saved(net.eval(), name, x[:2])
    return Row(name, family, count, size, report.converted, True, note)


def by_shapes(name: str) -> Network:
    """Open a network without making its weights, where its library can."""
    try:
        with torch.device("meta"):
            return open_backbone(name, CLASSES, weights="none")
    except NotImplementedError:  # torchvision's RegNets compute with numbers as they are built
        return open_backbone(name, CLASSES, weights="none")


def opened(name: str) -> Network:
    """Open a network for the smallest images that it takes."""
    for size in SIZES[:-1]:
        try:
            return open_backbone(name, CLASSES, weights="none", size=size)
        except ValueError:
            continue
    return open_backbone(name, CLASSES, weights="none")


def look_at(net: Network, x: Tensor) -> None:
    """See that the body gives rows of features."""
    with torch.no_grad():
        assert net.eval().body(x).shape == (len(x), net.width)


def train(net: Network, x: Tensor, labels: Tensor) -> None:
    """Take one step, which must move the body."""
    learner = torch.optim.SGD(net.train().parameters(), lr=1e-3)
    nn.functional.cross_entropy(net(x), labels).backward()
    assert any(one.grad is not None and one.grad.abs().sum() > 0 for one in net.body.parameters())
    learner.step()


def saved(net: Network, name: str, x: Tensor) -> str:
    """Save and load a network: the same logits here, and in its library, or a note of that."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        net.save(Path(folder))
        expected = net(x)
        assert torch.equal(Network.load(Path(folder)).eval()(x), expected)
        plain = plainly(name, net.preprocess.size).eval()
        state = load_file(Path(folder) / "network.safetensors")
        if state.keys() - plain.state_dict().keys():
            return "its own class has no bias in its head, the saved one has (see Heads)"
        fill(plain, state)
        if torch.allclose(plain(x), expected, rtol=1e-4, atol=1e-5):
            return ""
    return "its own class, with the saved weights, answers otherwise (see Heads)"


def plainly(name: str, size: int) -> nn.Module:
    """Build a network without adaptune, for as many classes."""
    library, _, rest = name.rpartition("/")
    if library == "torchvision":
        options: dict[str, Any] = {}
        if rest in AUXILIARY:
            options = {"aux_logits": False, "transform_input": True, "init_weights": False}
        for family, argument in SIDES.items():
            if rest.startswith(family):
                options[argument] = size if argument == "image_size" else (size, size)
        return models.get_model(rest, weights=None, num_classes=len(CLASSES), **options)
    plain = timm.create_model(name, num_classes=len(CLASSES))
    if takes(plain, size):
        return plain
    return timm.create_model(name, num_classes=len(CLASSES), img_size=size)


def table(rows: list[Row]) -> str:
    """Write the rows as a table of a page."""
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    rows = []
    for name, family in names():
        rows.append(tried(name, family))
        print(" | ".join(rows[-1].cells()), flush=True)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{after}")


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main()

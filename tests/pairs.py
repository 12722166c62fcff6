"""A toy of pairs: images of a colour, and texts that say it, read by a small tower."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from toy import TwoDomains, network, trained

from adaptune.engine.method import Method, task_kind
from adaptune.networks.inputs import TextInput
from adaptune.networks.joint import Joint
from adaptune.networks.network import Network
from adaptune.networks.tokens import HashedWords
from adaptune.tasks.matching import Matching
from adaptune.types import Batch, Labeled

LOOK = TextInput(8, "", 20)
SPACE = 6
TEXTS = torch.tensor([[3, 9, 0, 0], [4, 9, 10, 0], [5, 11, 0, 0]])
"""What says each colour, as ids."""

TASK = Matching(SPACE)


class Tower(nn.Module):
    """A bag of words below a block of a wide layer and a narrow one, as transformers have."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.bag = HashedWords(LOOK.vocabulary, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, ids: Tensor) -> Tensor:
        read: Tensor = self.bag(ids)
        return read + self.narrow(torch.relu(self.wide(read)))


def matches(method: type[Method]) -> bool:
    """Tell whether a method works on pairs alone, and so on this toy."""
    return task_kind(method) is Matching


def pair_network(seed: int = 0, *, tower: bool = True, known: bool = False) -> Network[Joint]:
    """Give the toy's network with the head of a joint space; without a tower of texts alone.

    Its body knows the toy's colours if it is to be ``known``, as one that stays has to.
    """
    if not tower:
        torch.manual_seed(seed)
        net = Network(Tower(), Joint(5, 5, LOOK), 5, classes=("text",), origin=ORIGIN)
        net.preprocess = LOOK
        return net
    net = trained(seed) if known else network(seed)
    torch.manual_seed(seed + 1)
    head = Joint(net.width, SPACE, LOOK, tower=Tower(), tower_width=5)
    made = Network(net.body, head, net.width, classes=("text",), origin=net.origin)
    made.parts = net.parts
    return made


ORIGIN = network().origin


class Pairs(TwoDomains):
    """The sources of the toy, each image with the text of its colour; scored on the same images.

    The last of several domains has texts of its own, with a further word.
    """

    def __init__(self, *, sources: int = 1, count: int = 96, seed: int = 0, **options: int) -> None:
        super().__init__(sources=sources, count=count, seed=seed, **options)
        self.colours = self.y
        self.target, self.truth = self.x, self.y
        own = TEXTS[self.y].clone()
        own[(self.domain == sources - 1) & (self.domain > 0), 3] = 12
        self.y = own

    def accuracy(self, model: nn.Module) -> float:
        """Score in percent how often an image's own colour is nearest, in eval mode."""
        net = model.net if isinstance(model, Method) else model
        model.eval()
        with torch.no_grad():
            right = (model(self.target) @ net.partners(TEXTS).T).argmax(1) == self.truth
        return 100 * float(right.double().mean())


def distinct(rows: int = 3, *, double: bool = True) -> Batch:
    """Give a batch of as many images, at most 8, whose texts all differ."""
    data = Pairs(count=24)
    y = torch.stack([torch.tensor([3 + row, 12 + row % 3, 0, 0]) for row in range(rows)])
    index = torch.arange(rows)
    x = data.x[:rows].double() if double else data.x[:rows]
    return Batch(Labeled(x, torch.zeros_like(index), index, y=y))


def cosines(net: Network[Joint], batch: Batch) -> Tensor:
    """Give the cosines of a batch's images with its texts, (N, N)."""
    images = net.head.embed(net.body(batch.labeled.x))
    return images @ net.partners(batch.labeled.y).T

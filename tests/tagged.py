"""A toy of tagged texts: every word has one of three tags, of one domain or the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from toy import CLASSES, TwoDomains

from adaptune.networks.architectures import Origin
from adaptune.networks.heads import Readout
from adaptune.networks.inputs import TokenInput
from adaptune.networks.network import Network
from adaptune.networks.tokens import HashedPlaces
from adaptune.ops.spans import UNTAGGED

LENGTH, WORDS, WIDTH = 12, 24, 6


class Normed(nn.Module):
    """Hashed words where they stand, behind a layer norm, (N, 3 ``WIDTH``, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = HashedPlaces(WORDS, WIDTH)
        self.norm = nn.LayerNorm(3 * WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.words(ids).movedim(1, 2))
        return normed.movedim(2, 1)


def token_network(seed: int = 0) -> Network[Readout]:
    """Give a small network of tokens."""
    torch.manual_seed(seed)
    return Network(
        Normed(),
        Readout(3 * WIDTH, len(CLASSES)),
        3 * WIDTH,
        classes=CLASSES,
        origin=Origin("tokens", "toy", "classifier"),
        preprocess=TokenInput(LENGTH, "", WORDS),
    )


class TaggedTexts(TwoDomains):
    """The two domains with a tag at every word: its own, or that of the word before it.

    Words of the source, 1 to 9, have the tag of their number; 10 repeats the tag before. In the
    target words come more or less often. The last word of each text is asked for no tag.
    """

    def __init__(self, *, sources: int = 1, count: int = 96, seed: int = 0) -> None:
        super().__init__(sources=sources, count=count, seed=seed)
        self.x, self.y = drawn(len(self.x), seed=1)
        self.target, self.truth = drawn(len(self.target), seed=2, often=(1, 2, 3))

    def accuracy(self, model: nn.Module) -> float:
        """Score a model in eval mode on the target's words that have a tag, in percent."""
        model.eval()
        with torch.no_grad():
            right = model(self.target).argmax(1) == self.truth
        return 100 * float(right[self.truth != UNTAGGED].double().mean())


def drawn(count: int, seed: int, often: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Draw ids (N, L) of texts of three words or more, and their tags (N, L)."""
    random = torch.Generator().manual_seed(seed)
    words = torch.tensor([*range(1, 11), *often])
    x = words[torch.randint(len(words), (count, LENGTH), generator=random)]
    x[:, 0] = x[:, 0].clamp_max(9)
    y = (x - 1) % len(CLASSES)
    for at in range(1, LENGTH):
        y[:, at] = y[:, at].where(x[:, at] != 10, y[:, at - 1])
    size = torch.randint(3, LENGTH + 1, (count, 1), generator=random)
    place = torch.arange(LENGTH)
    return x.where(place < size, 0), y.where(place < size - 1, UNTAGGED)

"""Networks as others call them: what goes in is what is read, bytes of pixels or ids of a text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from adaptune.networks.inputs import TOKENIZER, Preprocess, TextInput, need_images
from adaptune.networks.network import Network, WholeImage
from adaptune.networks.tokens import trade_padding

HASHES = (
    "1 + CRC-32 modulo (vocabulary - 1) of each word in lower case (letters and digits, or any "
    "other character by itself), and after it of the word before, a blank and the word"
)
"""How ids are made of a text without a tokenizer."""


class Served(nn.Module):
    """A network in eval mode with its normalisation: bytes in, logits out.

    Pixels are RGB (N, 3, H, W) from 0 to 255, of any type; where predictions may be rejected, the
    last logit means none of the classes. Adapters and a standardised head are folded.

    >>> net = Network.from_module(nn.Linear(12, 2), head="", classes=["a", "b"])
    >>> served = Served(net)
    >>> (served.mean.shape, served.training)
    (torch.Size([1, 3, 1, 1]), False)
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.body, self.head = net.plain_body(), net.head.fold()
        look = need_images(net.preprocess)
        for name, values in (("mean", look.mean), ("deviation", look.std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1))
        self.with_unknown = net.with_unknown
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Answer with logits (N, K, ...)."""
        x = (pixels.float() - self.mean) / self.deviation
        return self.with_unknown(self.head(self.body(x)))


class ServedTexts(nn.Module):
    """A network of texts in eval mode: ids in, logits out; see `Served`.

    Ids (N, L), int64, are those of the network's own tokenizer, filled up with its own padding.

    >>> from adaptune.networks.text import text_backbone
    >>> served = ServedTexts(Network.from_architecture(text_backbone("ngrams"), ["a", "b"]))
    >>> served(torch.tensor([[5, 7, 0]])).shape
    torch.Size([1, 2])
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.body, self.head = net.plain_body(), net.head.fold()
        self.pad = net.preprocess.pad if isinstance(net.preprocess, TextInput) else 0
        self.with_unknown = net.with_unknown
        self.eval()

    def forward(self, ids: Tensor) -> Tensor:
        """Answer with logits (N, K)."""
        return self.with_unknown(self.head(self.body(trade_padding(ids, self.pad))))


def served(net: Network) -> Served | ServedTexts:
    """Give a network as others call it."""
    return ServedTexts(net) if isinstance(net.preprocess, TextInput) else Served(net)


def made_input(net: Network, count: int) -> Tensor:
    """Make what a network reads: bytes of noise as floating point, or ids of texts.

    Texts of more rows are longer, and the last is half as long as the first.
    """
    look, random = net.preprocess, torch.Generator().manual_seed(count)
    if isinstance(look, Preprocess):
        return torch.randint(256, (count, 3, look.size, look.size), generator=random).float()
    length = min(look.length, 7 * count)
    ids = torch.randint(look.vocabulary, (count, length), generator=random)
    ids[-1, (length + 1) // 2 :] = look.pad
    return ids


def dynamic_axes(net: Network) -> dict[int, Any]:
    """Say which axes of what a network reads are of any length, as `torch.export` asks."""
    axes = {0: torch.export.Dim("batch")}
    if isinstance(net.preprocess, TextInput):
        axes[1] = torch.export.Dim("length", max=net.preprocess.length)
    return axes


def describe_input(net: Network, *, raw: bool) -> dict[str, Any]:
    """Say what goes in; ``raw`` where nobody normalises pixels inside."""
    look = net.preprocess
    if isinstance(look, TextInput):
        known = f"ids by {TOKENIZER}" if look.tokenizer else HASHES
        return {
            "name": "ids",
            "shape": ["batch", "length"],
            "type": "int64",
            "values": f"{known}; padding is {look.pad}",
            "longest": look.length,
            "pad": look.pad,
            "vocabulary": look.vocabulary,
            "tokenizer": TOKENIZER if look.tokenizer else "",
        }
    size = look.size
    whole = isinstance(look, WholeImage)
    resize = (
        f"the whole image to {size} x {size}"
        if whole
        else f"the shorter side to {round(size / look.crop)}, then the centre {size} x {size}"
    )
    return {
        "name": "pixels",
        "shape": ["batch", 3, size, size],
        "type": "float32",
        "values": "RGB, normalised as below" if raw else "RGB, 0 to 255; normalised inside",
        "resize": f"{resize}, {look.interpolation} with antialiasing",
        "mean": list(look.mean),
        "std": list(look.std),
    }

"""Networks that a method looks at and never trains: teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.inputs import Look, TextInput, need_images
from adaptune.networks.network import Network
from adaptune.networks.retelling import read_again


class Reference(nn.Module):
    """A frozen network that answers to the inputs of another one: logits (N, K, ...).

    ``look`` says how the images of these inputs (N, 3, H, W) were made. The reference sees the same
    draw of an image, the same crop and flip: pixels are found again by undoing that mean and
    deviation, brought to the reference's own size (its own interpolation, smoothed where it makes
    images smaller) and normalised by its own. Where both looks are alike the input is passed on as
    it is. What the other's size has lost of an image is lost to the reference, too, and its own
    crop does not count. Texts, ids (N, L), are written out and read by its own tokenizer
    (`read_again`).

    It is always in eval mode, gives no gradients, and is no part of what it is put into, but for
    moves between devices: not of its parameters, modes or state, and so of no checkpoint.

    >>> net = Network.from_module(nn.Sequential(nn.Linear(2, 3)), head="0", classes=["a", "b"])
    >>> reference = Reference(net, net.preprocess)
    >>> reference(torch.zeros(1, 2)).requires_grad, list(nn.ModuleList([reference]).parameters())
    (False, [])
    """

    net: Network

    def __init__(self, net: Network, look: Look, columns: Sequence[int] = ()) -> None:
        super().__init__()
        object.__setattr__(self, "net", net.eval().requires_grad_(False))
        self.look, self.columns = look, list(columns)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that its logits are of, in their order."""
        own = self.net.classes
        return tuple(own[at] for at in self.columns) if self.columns else own

    def matched(self, classes: Sequence[str]) -> Reference:
        """Give the same network with logits of ``classes`` alone, found by name.

        Raises:
            ValueError: If it does not know one of them.
        """
        if missing := [name for name in classes if name not in self.net.classes]:
            raise ValueError(
                f"the teacher does not know {', '.join(missing)}: it has the classes "
                f"{', '.join(self.net.classes)}; give a run with all that are learnt, or keep to "
                "its own with --classes"
            )
        places = [self.net.classes.index(name) for name in classes]
        whole = places == list(range(len(self.net.classes)))
        return Reference(self.net, self.look, () if whole else places)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits."""
        return self.read(self.features(x))

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Give the features (N, D, ...) that its head reads."""
        return self.net.body(self.seen(x))  # type: ignore[no-any-return]

    @torch.no_grad()
    def read(self, features: Tensor) -> Tensor:
        """Give the logits that its head makes of its features."""
        logits: Tensor = self.net.head(features)
        return logits[:, self.columns] if self.columns else logits

    def seen(self, x: Tensor) -> Tensor:
        """Give inputs as its own preprocessing would have made them of the same pixels.

        Raises:
            ValueError: If its preprocessing is another, and these are neither images nor texts of
                encoders.
        """
        if self.net.preprocess == self.look:
            return x
        if isinstance(self.net.preprocess, TextInput) and isinstance(self.look, TextInput):
            return read_again(x, self.look, self.net.preprocess)
        own, look = need_images(self.net.preprocess), need_images(self.look)
        if (own.size, own.mean, own.std) == (look.size, look.mean, look.std):
            return x
        if x.dim() != 4 or x.shape[1] != len(look.mean):
            raise ValueError(
                f"a teacher of other preprocessing sees images again as it wants them, and these "
                f"inputs are {tuple(x.shape)}: give one with the preprocessing of the network"
            )
        mean, std, middle, wide = (
            x.new_tensor(values).view(-1, 1, 1)
            for values in (look.mean, look.std, own.mean, own.std)
        )
        pixels = x * std + mean
        if own.size != look.size:
            pixels = F.interpolate(
                pixels, (own.size, own.size), mode=own.interpolation, antialias=True
            ).clamp(0, 1)
        return (pixels - middle) / wide

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.net._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

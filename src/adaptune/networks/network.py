"""A network: a body that makes features and a head that reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Self, cast

from safetensors.torch import save
from torch import Tensor, nn
from typing_extensions import TypeVar

from adaptune.batchnorm.layers import hold_batchnorm
from adaptune.networks.architectures import (
    Architecture,
    Origin,
    Preprocess,
    WholeImage,
    timm_architecture,
    torchvision_architecture,
)
from adaptune.networks.dense import timm_features
from adaptune.networks.description import FORMAT, body_again, describe, head_again
from adaptune.networks.heads import Head, Readout
from adaptune.networks.inputs import Look, TextInput, TokenInput, load_look
from adaptune.networks.joint import Joint, Words
from adaptune.networks.layers.lora import fold_adapters
from adaptune.networks.pairs import fill_head, joined_state, parted_state
from adaptune.networks.serialization import read_description, read_tensors
from adaptune.networks.split import Part, fill, layer_of, split
from adaptune.networks.surgery import operate
from adaptune.ops.information import add_unknown_column
from adaptune.runtime.files import write_atomically
from adaptune.types import BatchNormPolicy, Layout

__all__ = ["Look", "Network", "Origin", "Preprocess", "TextInput", "TokenInput", "WholeImage"]

H = TypeVar("H", bound=Head, covariant=True, default=Head)


class Network(nn.Module, Generic[H]):
    """A body that makes features (N, ``width``, ...) and a head that reads them: (N, K, ...).

    Build one with `from_timm`, `from_torchvision` or `from_module`. ``batchnorm`` is the policy
    that its batch norms keep to, whatever calls `train`; ``layout`` that of its images. A
    prediction more uncertain than ``threshold``, a share of the largest entropy, means none of the
    ``classes``; 1 never does. ``neck`` names the parts of the body that begin at random (`sides`).

    >>> import torch
    >>> module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 10))
    >>> net = Network.from_module(module, head="2", classes=["cat", "dog"])
    >>> net.width, net(torch.zeros(1, 4)).shape
    (3, torch.Size([1, 2]))
    """

    body: nn.Module
    head: H

    def __init__(
        self,
        body: nn.Module,
        head: H,
        width: int,
        *,
        classes: Sequence[str],
        origin: Origin,
        preprocess: Look | None = None,
    ) -> None:
        super().__init__()
        self.body, self.head, self.width = body, head, width
        self.classes, self.origin = tuple(classes), origin
        self.preprocess: Look = preprocess or Preprocess()
        self.surgery: list[dict[str, Any]] = []
        self.batchnorm: BatchNormPolicy = "train"
        self.layout: Layout = "auto"
        self.threshold = 1.0
        self.parts: tuple[Part, ...] = (Part(origin.head, 0, width),)
        self.neck: tuple[str, ...] = ()
        self.config: dict[str, Any] = {}
        self.notes: list[str] = []

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        *,
        head: str,
        classes: Sequence[str],
        preprocess: Look | None = None,
        origin: Origin | None = None,
    ) -> Network[Readout]:
        """Split any module at the linear layer named ``head``; a fresh head takes its place.

        ``head`` may also name a sequence that ends with one, or a convolution that keeps the grid.
        The module answers with logits (N, K), or (N, K, h, w) where the head is such a convolution
        and no mean over places follows, or with an object that has them under ``logits``.

        Raises:
            ValueError: If there is no such layer, or if it is not linear.
        """
        name, _ = layer_of(module, head)
        origin = origin or Origin("module", type(module).__name__, name)
        built = Architecture(module, origin, (name,), preprocess or Preprocess())
        return cls.from_architecture(built, classes)

    @classmethod
    def from_architecture(cls, built: Architecture, classes: Sequence[str]) -> Network[Readout]:
        """Split what a library made; a fresh head takes the place of its own.

        Raises:
            ValueError: If its head is not linear.
        """
        pooled = built.origin.kind in ("text", "tokens", "clip")
        parts: tuple[Part, ...] = (Part(built.origin.head, 0, built.width, kernel=int(not pooled)),)
        if built.heads:
            parts = split(built.module, built.heads, built.silent)
        width = max(part.stop for part in parts)
        body = built.module if parts[0].name else nn.Identity()
        net = Network(
            body,
            Readout(width, len(classes)),
            width,
            classes=classes,
            origin=built.origin,
            preprocess=built.preprocess,
        )
        net.parts, net.config, net.notes = parts, dict(built.config), list(built.notes)
        net.neck = built.neck
        return net

    @classmethod
    def from_timm(
        cls,
        name: str,
        classes: Sequence[str],
        *,
        pretrained: bool = False,
        size: int | None = None,
    ) -> Network[Readout]:
        """Build a timm model by name; see `timm_architecture`."""
        built = timm_architecture(name, len(classes), pretrained=pretrained, size=size)
        return cls.from_architecture(built, classes)

    @classmethod
    def from_timm_features(
        cls,
        name: str,
        classes: Sequence[str],
        *,
        stride: int = 8,
        stages: Sequence[int] = (),
        pretrained: bool = False,
        size: int | None = None,
    ) -> Network[Readout]:
        """Build a network of places of stages of a timm model; see `timm_features`."""
        built = timm_features(name, stride=stride, stages=stages, pretrained=pretrained, size=size)
        return cls.from_architecture(built, classes)

    @classmethod
    def from_torchvision(
        cls,
        name: str,
        classes: Sequence[str],
        *,
        pretrained: bool = False,
        size: int | None = None,
    ) -> Network[Readout]:
        """Build a torchvision classification model by name; see `torchvision_architecture`."""
        built = torchvision_architecture(name, pretrained=pretrained, size=size)
        return cls.from_architecture(built, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Predict: logits (N, K, ...)."""
        return self.head(self.body(x))  # type: ignore[no-any-return]

    @property
    def joint(self) -> Joint:
        """The space in which the network meets texts.

        Raises:
            ValueError: If its head knows none.
        """
        head: Head = self.head
        if isinstance(head, Joint | Words):
            return head if isinstance(head, Joint) else head.joint
        raise ValueError(
            f"this needs a network that --task matching trained, and this one's head is a "
            f"{type(head).__name__}: start from another"
        )

    def partners(self, y: Tensor) -> Tensor:
        """Give the embeddings of texts by their ids (N, L), of length 1: (N, E).

        Raises:
            ValueError: As `joint`.
        """
        return self.joint.partners(y, self.body)

    def fresh_head(self) -> Readout:
        """Make another head of as many outputs, random as a new network's is."""
        return Readout(self.width, len(self.head.weight))

    def with_unknown(self, logits: Tensor) -> Tensor:
        """Add what means none of the classes to logits (N, K), as a last column, if any may be."""
        return add_unknown_column(logits, self.threshold) if self.threshold < 1 else logits

    def operate(self, name: str, **arguments: object) -> None:
        """Change the architecture by one of `SURGERIES`; `load` does it again.

        Raises:
            ValueError: If it does not know the name or the arguments, or cannot take the head.
        """
        self.body, head = operate(self.body, self.head, name, **arguments)
        self.head, width = cast(H, head), head.weight.shape[1]
        if width != self.width:
            if len(self.parts) > 1:
                raise ValueError(f"{name} widens a head, and this network has {len(self.parts)}")
            self.width, self.parts = width, (replace(self.parts[0], stop=width),)
        self.surgery.append({"name": name, "arguments": arguments})

    def hold_batchnorm(self, policy: BatchNormPolicy) -> None:
        """Make the body's batch norms keep to ``policy`` from now on, also when loaded again."""
        self.batchnorm = policy
        hold_batchnorm(self, policy)

    def train(self, mode: bool = True) -> Self:
        """Switch modes; under the eval policy batch norms stay, also those put in place since."""
        super().train(mode)
        if self.batchnorm == "eval":
            hold_batchnorm(self, "eval")
        return self

    def plain_body(self) -> nn.Module:
        """Give the body without adapters, which are folded into a copy; itself, where none are."""
        return fold_adapters(self.body)

    def plain_state(self) -> dict[str, Tensor]:
        """Give the state dict of the original architecture, the head folded and under its name.

        It opens in plain timm, torchvision or the caller's module, made for as many classes, unless
        `operate` changed the architecture.
        """
        state = joined_state(self.head.fold(), self.plain_body().state_dict(), self.parts)
        return {key: value.detach().contiguous().cpu() for key, value in state.items()}

    def save(self, folder: Path) -> None:
        """Write ``network.safetensors`` and ``network.json`` into ``folder``, and a tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {key: value.clone() for key, value in self.plain_state().items()}
        write_atomically(folder / "network.safetensors", save(state, metadata={"format": "pt"}))
        text = json.dumps(describe(self, folder), indent=2) + "\n"
        write_atomically(folder / "network.json", text.encode())

    @classmethod
    def load(cls, folder: Path, *, module: nn.Module | None = None) -> Network:
        """Open a saved network; ``module`` is needed where the architecture was the caller's own.

        Raises:
            ValueError: If there is none, one of a newer format, a damaged one, or the caller's own.
        """
        said = read_description(folder / "network.json", FORMAT)
        origin, classes = Origin(**said["origin"]), said["classes"]
        if origin.kind != "module":
            net = cls.from_architecture(body_again(said, folder), classes)
            net.neck = ()
        elif module is not None:
            net = cls.from_module(module, head=origin.head, classes=classes)
        else:
            raise ValueError(
                f"{folder} was made from a module of your own ({origin.name}): pass module=..."
            )
        net.preprocess = load_look(type(net.preprocess), said["preprocess"], folder)
        net.head = cast(Readout, head_again(said, net.width, net.preprocess, folder) or net.head)
        for one in said["surgery"]:
            net.operate(one["name"], **one["arguments"])
        try:
            net.load_plain(read_tensors(folder / "network.safetensors"))
        except RuntimeError as error:
            raise ValueError(
                f"{folder}/network.safetensors does not fit {origin.name} with {len(classes)} "
                "classes: a weight is missing, unknown or of another shape; take the folder from a "
                "copy, or train again"
            ) from error
        net.hold_batchnorm(said["batchnorm"])
        net.threshold = said["threshold"]
        return net

    def load_plain(self, state: dict[str, Tensor]) -> None:
        """Take a state dict of the original architecture, head and all; raises where it differs."""
        head, body = parted_state(self.head, state, self.parts)
        fill_head(self.head, head)
        fill(self.body, body)

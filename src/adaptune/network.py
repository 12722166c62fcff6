"""A network: a body that makes features and a linear head that reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save
from torch import Tensor, nn

from adaptune.durable import write_whole
from adaptune.head import StandardizedLinear, head_of
from adaptune.ops.batchnorm import hold_batchnorm
from adaptune.ops.information import rejecting
from adaptune.ops.surgery import operated
from adaptune.saved import read_description, read_tensors
from adaptune.types import BatchNormPolicy, Layout

FORMAT, CHANGED, PLAIN = 3, 2, 1  # a network is written in the first format that can say what it is
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """How images are made into inputs.

    ``size`` is the side in pixels, ``crop`` the share of the shorter side that the centre crop
    keeps, ``mean`` and ``std`` belong to pixel values in 0 to 1.
    """

    size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop: float = 0.875


@dataclass(frozen=True)
class Origin:
    """Where a network's architecture comes from, so that it can be built again.

    ``kind`` is ``timm``, ``torchvision`` or ``module`` (the caller's own, given again on loading);
    ``head`` is the name of the linear layer that the head stands for.
    """

    kind: Literal["timm", "torchvision", "module"]
    name: str
    head: str


class Network(nn.Module):
    """A body that makes features (N, ``width``) and a linear head that reads them.

    Build one with `from_timm`, `from_torchvision` or `from_module`. ``batchnorm`` is the policy
    that its batch norms keep to, whatever calls `train`; ``layout`` that of its images. A
    prediction more uncertain than ``threshold``, a share of the largest entropy, means none of the
    ``classes``; 1 never does.

    >>> import torch
    >>> module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 10))
    >>> net = Network.from_module(module, head="2", classes=["cat", "dog"])
    >>> net.width, net(torch.zeros(1, 4)).shape
    (3, torch.Size([1, 2]))
    """

    body: nn.Module
    head: nn.Linear | StandardizedLinear

    def __init__(
        self,
        body: nn.Module,
        head: nn.Linear | StandardizedLinear,
        width: int,
        *,
        classes: Sequence[str],
        origin: Origin,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.body, self.head, self.width = body, head, width
        self.classes, self.origin = tuple(classes), origin
        self.preprocess = preprocess or Preprocess()
        self.surgery: list[dict[str, Any]] = []
        self.batchnorm: BatchNormPolicy = "train"
        self.layout: Layout = "auto"
        self.threshold = 1.0

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        *,
        head: str,
        classes: Sequence[str],
        preprocess: Preprocess | None = None,
        origin: Origin | None = None,
    ) -> Network:
        """Split any module at the linear layer named ``head``; a fresh head takes its place.

        Raises:
            ValueError: If there is no such layer, or if it is not linear.
        """
        old = head_of(module, head)
        if head:
            module.set_submodule(head, nn.Identity())
        fresh = nn.Linear(old.in_features, len(classes))
        origin = origin or Origin("module", type(module).__name__, head)
        return cls(
            module, fresh, old.in_features, classes=classes, origin=origin, preprocess=preprocess
        )

    @classmethod
    def from_timm(cls, name: str, classes: Sequence[str], *, pretrained: bool = False) -> Network:
        """Build a timm model by name, with its own preprocessing.

        Args:
            name: A name from ``timm.list_models()``.
            classes: The names of the classes, in the order of the head's rows.
            pretrained: Take timm's weights, from its hub.

        Raises:
            ValueError: If timm does not know the name, or the weights cannot be had.
        """
        import timm

        if not timm.is_model(name):
            near = timm.list_models(f"*{name}*")[:5]
            raise ValueError(
                f"timm has no model named {name!r}; {_perhaps(near)}see timm.list_models()"
            )
        try:
            model = timm.create_model(name, pretrained=pretrained)
        except Exception as error:
            if not pretrained:
                raise
            raise ValueError(
                f"the weights of {name} could not be had from timm's hub ({error}): give a local "
                "file with --weights FILE, or --weights none for random weights"
            ) from error
        settings = timm.data.resolve_data_config(model=model)
        preprocess = Preprocess(
            size=settings["input_size"][-1],
            mean=tuple(settings["mean"]),
            std=tuple(settings["std"]),
            interpolation="bicubic" if settings["interpolation"] == "bicubic" else "bilinear",
            crop=settings["crop_pct"],
        )
        head = model.pretrained_cfg["classifier"]
        head = head if isinstance(head, str) else head[0]
        origin = Origin("timm", name, head)
        return cls.from_module(
            model, head=head, classes=classes, preprocess=preprocess, origin=origin
        )

    @classmethod
    def from_torchvision(
        cls, name: str, classes: Sequence[str], *, pretrained: bool = False
    ) -> Network:
        """Build a torchvision classification model by name.

        Raises:
            ValueError: If torchvision does not know the name, or the weights cannot be had.
        """
        from torchvision import models

        if name not in models.list_models(models):
            near = [known for known in models.list_models(models) if name.lower() in known][:5]
            raise ValueError(f"torchvision has no model named {name!r}; {_perhaps(near)}")
        try:
            model = models.get_model(name, weights="DEFAULT" if pretrained else None)
        except OSError as error:
            raise ValueError(
                f"the weights of {name} could not be had ({error}): give a local file with "
                "--weights FILE, or --weights none for random weights"
            ) from error
        head = [key for key, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
        origin = Origin("torchvision", name, head)
        return cls.from_module(model, head=head, classes=classes, origin=origin)

    def forward(self, x: Tensor) -> Tensor:
        """Predict: logits (N, K)."""
        return self.head(self.body(x))  # type: ignore[no-any-return]

    def answers(self, logits: Tensor) -> Tensor:
        """Add what means none of the classes to logits (N, K), as a last column, if any may be."""
        return rejecting(logits, self.threshold) if self.threshold < 1 else logits

    def operate(self, name: str, **arguments: object) -> None:
        """Change the architecture by one of `SURGERIES`; `load` does it again.

        Raises:
            ValueError: If it does not know the name or the arguments, or the head is not linear.
        """
        if not isinstance(self.head, nn.Linear):
            raise ValueError(f"surgery needs a linear head: it is {type(self.head).__name__}")
        self.body, self.head = operated(self.body, self.head, name, **arguments)
        self.surgery.append({"name": name, "arguments": arguments})

    def hold_batchnorm(self, policy: BatchNormPolicy) -> None:
        """Make the body's batch norms keep to ``policy`` from now on, also when loaded again."""
        self.batchnorm = policy
        hold_batchnorm(self, policy)

    def train(self, mode: bool = True) -> Network:
        """Switch modes; under the eval policy batch norms stay, also those put in place since."""
        super().train(mode)
        if self.batchnorm == "eval":
            hold_batchnorm(self, "eval")
        return self

    def plain_state(self) -> dict[str, Tensor]:
        """Give the state dict of the original architecture, the head folded and under its name.

        It opens in plain timm, torchvision or the caller's module, made for as many classes, unless
        `operate` changed the architecture.
        """
        head = self.head.fold() if isinstance(self.head, StandardizedLinear) else self.head
        state = dict(self.body.state_dict())
        prefix = f"{self.origin.head}." if self.origin.head else ""
        for key, value in head.state_dict().items():
            state[prefix + key] = value
        return {key: value.detach().contiguous().cpu() for key, value in state.items()}

    def save(self, folder: Path) -> None:
        """Write ``network.safetensors`` and ``network.json`` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {key: value.clone() for key, value in self.plain_state().items()}
        write_whole(folder / "network.safetensors", save(state, metadata={"format": "pt"}))
        rejects = self.threshold < 1
        description = {
            "format": FORMAT if rejects else CHANGED if self.surgery else PLAIN,
            "origin": asdict(self.origin),
            "classes": list(self.classes),
            "preprocess": asdict(self.preprocess),
            "batchnorm": self.batchnorm,
            **({"surgery": self.surgery} if self.surgery or rejects else {}),
            **({"threshold": self.threshold} if rejects else {}),
        }
        text = json.dumps(description, indent=2) + "\n"
        write_whole(folder / "network.json", text.encode())

    @classmethod
    def load(cls, folder: Path, *, module: nn.Module | None = None) -> Network:
        """Open a saved network; ``module`` is needed where the architecture was the caller's own.

        Raises:
            ValueError: If the folder holds no network, one of a newer format or a damaged one, or
                one whose architecture only the caller knows.
        """
        said = read_description(folder / "network.json", FORMAT)
        origin, classes = Origin(**said["origin"]), said["classes"]
        if origin.kind == "module":
            if module is None:
                raise ValueError(
                    f"{folder} was made from a module of your own ({origin.name}): pass module=..."
                )
            net = cls.from_module(module, head=origin.head, classes=classes)
        else:
            makers: dict[str, Callable[..., Network]] = {
                "timm": cls.from_timm,
                "torchvision": cls.from_torchvision,
            }
            net = makers[origin.kind](origin.name, classes)
        look: dict[str, Any] = said["preprocess"]
        look = {key: tuple(v) if isinstance(v, list) else v for key, v in look.items()}
        net.preprocess = Preprocess(**look)
        for one in said["surgery"]:
            net.operate(one["name"], **one["arguments"])
        file = folder / "network.safetensors"
        try:
            net.load_plain(read_tensors(file))
        except RuntimeError as error:
            raise ValueError(
                f"{file} does not fit {origin.name} with {len(classes)} classes: a weight is "
                "missing, unknown or of another shape; take the folder from a copy, or train again"
            ) from error
        net.hold_batchnorm(said["batchnorm"])
        net.threshold = said["threshold"]
        return net

    def load_plain(self, state: dict[str, Tensor]) -> None:
        """Take a state dict of the original architecture, head and all; raises where it differs."""
        prefix = f"{self.origin.head}." if self.origin.head else ""
        head = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if prefix:
            self.head.load_state_dict(head)
            state = {key: value for key, value in state.items() if not key.startswith(prefix)}
        self.body.load_state_dict(state)


def _perhaps(names: list[str]) -> str:
    return f"did you mean {', '.join(names)}? " if names else ""

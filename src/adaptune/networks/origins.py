"""Architectures built again from what a saved network says of where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from adaptune.networks.architectures import (
    Architecture,
    Origin,
    timm_architecture,
    torchvision_architecture,
)
from adaptune.networks.clip_parts import clip_body
from adaptune.networks.decoders import has_decoder, smp_architecture, torchvision_decoder
from adaptune.networks.dense import timm_features
from adaptune.networks.hugging_face import transformers_architecture
from adaptune.networks.inputs import Look, TextInput
from adaptune.networks.text import text_architecture


def build_again(
    origin: Origin, config: Mapping[str, Any], look: Look, *, classes: int
) -> Architecture:
    """Build the architecture of a network that was saved, without weights.

    ``config`` says what its name does not, ``look`` what it reads.

    Raises:
        ValueError: If it cannot be built here, or if it is a module that only the caller knows.
    """
    name = origin.name
    if isinstance(look, TextInput):
        return text_architecture(config, look)
    size = look.size
    match origin.kind:
        case "timm":
            return timm_architecture(name, classes, size=size)
        case "timm-features":
            return timm_features(name, stages=config["stages"], size=size)
        case "torchvision" if has_decoder(name):
            return torchvision_decoder(name, size=size)
        case "torchvision":
            return torchvision_architecture(name, size=size)
        case "transformers":
            return transformers_architecture(config, classes)
        case "clip":
            return clip_body(config, look, name)
        case "smp":
            return smp_architecture(name, size=size)
        case "module" | "text" | "tokens":
            raise ValueError(f"{name} is a module of the caller's own, which only they can build")
        case _:
            assert_never(origin.kind)

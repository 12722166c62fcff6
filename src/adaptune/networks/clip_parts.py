"""The models of CLIP and SigLIP that read images and texts, as transformers has them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from adaptune.networks.architectures import Architecture, Origin, Preprocess
from adaptune.networks.hugging_face import LEFT_OUT
from adaptune.networks.inputs import TOKENIZER, TextInput
from adaptune.networks.open_clip_parts import BODY, TOWER, open_body, open_tower
from adaptune.networks.tokens import AskPadded, take_pooled

BODIES = {"clip_vision_model": "CLIPVisionModel", "siglip_vision_model": "SiglipVisionModel"}
TOWERS = {"clip_text_model": "CLIPTextModel", "siglip_text_model": "SiglipTextModel"}
"""The classes of transformers that read images, and texts, by their ``model_type``."""

FILLED = {"siglip_text_model"}
"""Towers that read the last of as many tokens as they take, padding or not."""

HEAD = "classifier"
"""What a head is called among the weights of a saved network that has no space."""


def clip_body(config: Mapping[str, Any], look: Preprocess, name: str) -> Architecture:
    """Build the model that reads images by a saved network's ``config``, without weights.

    Raises:
        ValueError: If transformers is not installed, or does not know it.
    """
    if config.get("model_type") == BODY:
        return open_body(config, look)
    return vision_part(_built(config, BODIES), look, name)


def clip_tower(config: Mapping[str, Any], look: TextInput) -> Architecture:
    """Build the model that reads texts by a saved network's ``config``, without weights.

    Raises:
        ValueError: If transformers is not installed, or does not know it.
    """
    if config.get("model_type") == TOWER:
        return open_tower(config, look)
    return text_part(_built(config, TOWERS), look)


def _built(config: Mapping[str, Any], known: Mapping[str, str]) -> nn.Module:
    need_clip()
    import transformers

    kind = str(config.get("model_type"))
    try:
        settings = {key: one for key, one in config["settings"].items() if key != "model_type"}
        made: nn.Module = getattr(transformers, known[kind])._from_config(
            transformers.AutoConfig.for_model(kind, **settings), dtype=torch.float32
        )
    except Exception as error:  # a damaged configuration makes it raise anything
        raise refused(kind, error) from error
    return made


def vision_part(
    model: nn.Module, look: Preprocess, name: str, notes: tuple[str, ...] = ()
) -> Architecture:
    """Make a model answer images with its pooled features, its layers named as they were."""
    model.register_forward_hook(take_pooled)
    origin, own = Origin("clip", name, HEAD), _config(model)
    width = int(own["width"])
    config = {key: own[key] for key in ("model_type", "settings")}
    return Architecture(model, origin, (), look, config=config, width=width, notes=notes)


def text_part(model: nn.Module, look: TextInput) -> Architecture:
    """Make a model answer ids with its pooled features, its layers named as they were."""
    own = _config(model)
    kind = own["model_type"]
    length = int(own["settings"].get("max_position_embeddings", 0)) or own["length"]
    model.register_forward_pre_hook(
        AskPadded(look.pad, length if kind in FILLED else 0), with_kwargs=True
    )
    model.register_forward_hook(take_pooled)
    config = {"model_type": kind, "pooling": "own", "settings": own["settings"]}
    origin = Origin("text", type(model).__name__, HEAD)
    return Architecture(model, origin, (), look, config=config, width=int(own["width"]))


def _config(model: Any) -> dict[str, Any]:
    """Say what builds a model again, how wide its pooled features are, and what it reads."""
    own = model.config
    settings = {key: one for key, one in own.to_diff_dict().items() if key not in LEFT_OUT}
    width = getattr(own, "projection_size", None) if own.model_type in FILLED else own.hidden_size
    length = getattr(own, "max_position_embeddings", 0)
    kept = {"model_type": own.model_type, "settings": settings}
    return kept | {"width": width or own.hidden_size, "length": length}


def need_clip() -> None:
    """Refuse to go on without the packages that these models take.

    Raises:
        ValueError: If one is not installed.
    """
    missing = [one for one in ("transformers", "tokenizers") if not importlib.util.find_spec(one)]
    if missing:
        raise ValueError(
            f"CLIP needs {' and '.join(missing)}: pip install 'adaptune[transformers,text]'"
        )


def refused(where: str, error: Exception) -> ValueError:
    """Say that something is none of these models, and what it said itself."""
    reason = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
    return ValueError(
        f"{where} is no CLIP or SigLIP that transformers can open without running code of its own "
        f"({reason}): give a folder that save_pretrained wrote, with {TOKENIZER} and safetensors "
        "in it"
    )

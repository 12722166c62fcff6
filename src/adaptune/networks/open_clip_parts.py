"""The models of open_clip that read images and texts: opened from a folder, and built again."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adaptune.networks.architectures import Architecture, Origin, Preprocess
from adaptune.networks.inputs import TOKENIZER, TextInput
from adaptune.networks.serialization import read_tensors
from adaptune.networks.tokens import AskPadded

BODY, TOWER = "open_clip_vision", "open_clip_text"
"""What their descriptions are called."""

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"

HEAD = "classifier"

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""What CLIP's images are normalised by where a folder does not say."""


def open_parts(
    folder: Path, tokenizer: str, *, pretrained: bool = True, length: int | None = None
) -> tuple[Architecture, Architecture, Tensor]:
    """Open both models of a folder and the logarithm of their scale.

    Raises:
        ValueError: If open_clip is not installed, the folder holds no such model, a weight is
            missing or of another shape, or it cannot take texts of that length.
    """
    said = _read(folder / CONFIG)
    try:
        cfg, seen = dict(said["model_cfg"]), said.get("preprocess_cfg", {})
        common = {"embed_dim": int(cfg["embed_dim"]), "quick_gelu": bool(cfg.get("quick_gelu"))}
        texts, side = dict(cfg["text_cfg"]), dict(cfg["vision_cfg"]).get("image_size", 224)
        mean, std = tuple(seen.get("mean", CLIP_MEAN)), tuple(seen.get("std", CLIP_STD))
        look = Preprocess(int(side), mean, std, seen.get("interpolation", "bicubic"), 1.0)
        most = int(texts.get("context_length", 77))
        words = int(texts.get("vocab_size", 49408))
        reads = TextInput(length or most, tokenizer, words, int(texts.get("pad_id", 0)))
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(str(folder), error) from error
    if reads.length > most:
        raise ValueError(f"{folder} takes texts of {most} tokens at most: got {reads.length}")
    body = open_body(_said(BODY, common | {"vision_cfg": dict(cfg["vision_cfg"])}), look)
    tower = open_tower(_said(TOWER, common | {"text_cfg": texts}), reads)
    scale = torch.tensor([cfg.get("init_logit_scale", 2.659260036932778)])
    if pretrained:
        scale = _fill(folder, body.module, tower.module)
    return body, tower, scale


def open_body(config: Mapping[str, Any], look: Preprocess) -> Architecture:
    """Build the model that reads images by its description, without weights.

    Raises:
        ValueError: If open_clip is not installed, or does not know it.
    """
    _need()
    from open_clip import model

    own = config["settings"]
    try:
        cfg = {**own["vision_cfg"], "output_tokens": False, "timm_model_pretrained": False}
        built = model._build_vision_tower(own["embed_dim"], cfg, own["quick_gelu"])
    except Exception as error:  # a damaged configuration makes it raise anything
        raise _refused(BODY, error) from error
    origin = Origin("clip", "open_clip", HEAD)
    return Architecture(built, origin, (), look, config=config, width=own["embed_dim"])


def open_tower(config: Mapping[str, Any], look: TextInput) -> Architecture:
    """Build the model that reads texts by its description, without weights.

    Raises:
        ValueError: As `open_body`, or if it takes a model of a hub.
    """
    _need()
    from open_clip import model

    own = config["settings"]
    try:
        if own["text_cfg"].get("hf_model_name"):
            raise ValueError("its texts are read by a model that is fetched by name")
        cfg = {**own["text_cfg"], "output_tokens": False}
        built: nn.Module = model._build_text_tower(own["embed_dim"], cfg, own["quick_gelu"])
    except Exception as error:  # a damaged configuration makes it raise anything
        raise _refused(TOWER, error) from error
    whole = int(own["text_cfg"].get("context_length", 77))
    built.register_forward_pre_hook(AskPadded(look.pad, whole, "text"), with_kwargs=True)
    origin = Origin("text", "open_clip", HEAD)
    return Architecture(built, origin, (), look, config=config, width=own["embed_dim"])


def _said(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    pooling = {"pooling": "own"} if kind == TOWER else {}
    return {"model_type": kind, **pooling, "settings": dict(settings)}


def _fill(folder: Path, body: nn.Module, tower: nn.Module) -> Tensor:
    """Give both models their weights; give the logarithm of their scale."""
    from open_clip import model

    state = model.convert_to_custom_text_state_dict(read_tensors(folder / WEIGHTS))
    try:
        for prefix, one in (("visual.", body), ("text.", tower)):
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            one.load_state_dict(own)
        scale: Tensor = state["logit_scale"]
    except (KeyError, RuntimeError) as error:
        raise _refused(str(folder), error) from error
    return scale


def _read(file: Path) -> Mapping[str, Any]:
    """Read a folder's description.

    Raises:
        ValueError: If there is none.
    """
    try:
        said = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(str(file.parent), error) from error
    return said if isinstance(said, dict) else {}


def _need() -> None:
    if importlib.util.find_spec("open_clip") is None:
        raise ValueError("open_clip:FOLDER needs open_clip: pip install 'adaptune[clip]'")


def _refused(where: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
    return ValueError(
        f"{where} is no model that open_clip can build without fetching anything ({reason}): give "
        f"a folder with {CONFIG}, {WEIGHTS} and {TOKENIZER}"
    )

"""Image classifiers of Hugging Face: from a local folder, without running any code in it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptune.networks.architectures import Architecture, Origin, Preprocess

PROCESSOR = "preprocessor_config.json"
BILINEAR, BICUBIC = 2, 3  # Pillow's numbers
WHOLE = 384
"""From this size on, processors that crop by a share resize the image to a square instead."""

LEFT_OUT = ("_name_or_path", "auto_map", "transformers_version", "dtype", "torch_dtype")
"""What a configuration says of one folder or one version, rather than of the architecture."""


def transformers_folder(folder: Path, *, pretrained: bool = True) -> Architecture:
    """Open an image classifier that `save_pretrained` wrote, with its image processor's settings.

    Raises:
        ValueError: If transformers is not installed, the folder holds no image classifier that it
            knows, weights are missing, or the processor asks for what cannot be done here.
    """
    _need_transformers()
    from transformers import AutoConfig, AutoModelForImageClassification
    from transformers.utils import logging

    if not (folder / "config.json").is_file():
        raise ValueError(
            f"no config.json in {folder}: give hf:FOLDER, with a folder that save_pretrained wrote"
        )
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        heads = _heads(config)
        look, notes = _preprocess(folder, config)
        if not pretrained:
            model = _classifier(config)
        else:
            model, found = AutoModelForImageClassification.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
            _refuse_missing(folder, found["missing_keys"], heads)
            for own in chain(model.parameters(), model.buffers()):
                own.data = own.data.clone()  # off the file, where nothing is aligned
    except Exception as error:  # a folder of another kind makes it raise anything
        raise _refused(str(folder), error) from error
    return _architecture(model, config, heads, look, notes)


def transformers_architecture(config: Mapping[str, Any], classes: int) -> Architecture:
    """Build the architecture that a saved network's ``config`` describes.

    Raises:
        ValueError: If transformers is not installed, or does not know it.
    """
    _need_transformers()
    from transformers import AutoConfig

    said = {key: value for key, value in config.items() if key not in LEFT_OUT}
    try:
        made = AutoConfig.for_model(**said)
        made.num_labels = classes
        heads = _heads(made)
        model = _classifier(made)
    except Exception as error:  # a damaged configuration makes it raise anything
        raise _refused(str(config.get("model_type")), error) from error
    return _architecture(model, made, heads, Preprocess(), ())


def _need_transformers() -> None:
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(
            "networks of Hugging Face need transformers: pip install 'adaptune[transformers]'"
        )


def _refused(where: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
    return ValueError(
        f"{where} is no image classifier that transformers can open without running code of its "
        f"own ({reason}): give a folder that save_pretrained wrote, of a class that "
        "AutoModelForImageClassification knows"
    )


def _classifier(config: Any) -> nn.Module:
    from transformers import AutoModelForImageClassification

    made: nn.Module = AutoModelForImageClassification.from_config(
        config, trust_remote_code=False, dtype=torch.float32
    )
    return made


def _heads(config: Any) -> tuple[str, ...]:
    """Find the layers that grow with the number of classes, without making any weights."""
    shapes: list[dict[str, torch.Size]] = []
    for classes in (3, 4):
        other = deepcopy(config)
        other.num_labels = classes
        with torch.device("meta"):
            module = _classifier(other)
        shapes.append({key: value.shape for key, value in module.named_parameters()})
    few, more = shapes
    grown = [key for key in few if key.endswith(".weight") and few[key] != more[key]]
    if not grown:
        raise ValueError("no layer of it grows with the number of classes, so it has no head")
    return tuple(key.removesuffix(".weight") for key in grown)


def _refuse_missing(folder: Path, keys: Any, heads: tuple[str, ...]) -> None:
    missing = sorted(key for key in keys if not key.startswith(heads))
    if missing:
        raise ValueError(f"{len(missing)} weights are missing in {folder}, such as {missing[0]}")


def _architecture(
    model: nn.Module,
    config: Any,
    heads: tuple[str, ...],
    look: Preprocess,
    notes: tuple[str, ...],
) -> Architecture:
    said = {key: value for key, value in config.to_diff_dict().items() if key not in LEFT_OUT}
    said = {key: value for key, value in said.items() if key not in ("id2label", "label2id")}
    said |= {"model_type": config.model_type, "architectures": [type(model).__name__]}
    origin = Origin("transformers", type(model).__name__, heads[0])
    return Architecture(model, origin, heads, look, config=said, notes=notes)


def _preprocess(folder: Path, config: Any) -> tuple[Preprocess, tuple[str, ...]]:
    """Say how the folder's image processor makes images into inputs."""
    if not (folder / PROCESSOR).is_file():
        size = getattr(config, "image_size", None)
        look = Preprocess()
        look = replace(look, size=size) if isinstance(size, int) else look
        return look, (
            f"{folder} has no {PROCESSOR}, so images are made into inputs as for ImageNet, at "
            f"{look.size} pixels",
        )
    from transformers import AutoImageProcessor

    own = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if getattr(own, "do_flip_channel_order", False):
        raise ValueError("its image processor puts blue before red, which is not supported")
    size, crop = _sides(own)
    scale = 255 * (own.rescale_factor if own.do_rescale else 1.0)
    mean, std = (own.image_mean, own.image_std) if own.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    return Preprocess(
        size,
        tuple(one / scale for one in mean),
        tuple(one / scale for one in std),
        "bilinear" if own.resample == BILINEAR else "bicubic",
        crop,
    ), ()


def _sides(processor: Any) -> tuple[int, float]:
    """Give the side of inputs, and the share of the shorter side that the crop keeps."""
    short = _side(processor.size)
    if getattr(processor, "do_center_crop", None) and getattr(processor, "crop_size", None):
        side = _side(processor.crop_size)
        return side, min(1.0, side / short)
    share = getattr(processor, "crop_pct", None)
    return short, float(share) if share and short < WHOLE else 1.0


def _side(size: Any) -> int:
    """Read one side from what a processor calls a size."""
    if isinstance(size, int):
        return size
    sides = {name: size[name] for name in ("shortest_edge", "height", "width") if _has(size, name)}
    if not sides or len(set(sides.values())) > 1:
        raise ValueError(f"its image processor makes images of {size}, which are not squares")
    return int(next(iter(sides.values())))


def _has(size: Any, name: str) -> bool:
    return (size.get(name) if isinstance(size, dict) else getattr(size, name, None)) is not None

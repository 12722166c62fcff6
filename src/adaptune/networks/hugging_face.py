"""Networks of Hugging Face: from a local folder, without running any code in it.

They classify images, or label every place of them, as SegFormer does.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptune.networks.architectures import Architecture, Origin, Preprocess, WholeImage

PROCESSOR = "preprocessor_config.json"
BILINEAR, BICUBIC = 2, 3  # Pillow's numbers
WHOLE = 384
"""From this size on, processors that crop by a share resize the image to a square instead."""

LEFT_OUT = ("_name_or_path", "auto_map", "transformers_version", "dtype", "torch_dtype")
"""What a configuration says of one folder or one version, rather than of the architecture."""


PLACES = "ForSemanticSegmentation"
"""How transformers' names of classes that label every place end."""


def transformers_folder(
    folder: Path, *, pretrained: bool = True, places: bool = False
) -> Architecture:
    """Open a network that `save_pretrained` wrote, with its image processor's settings.

    It classifies images, or labels ``places`` of them: then the folder may also be that of a
    classifier, whose weights are those of the encoder, and the decoder is random.

    Raises:
        ValueError: If transformers is not installed, the folder holds no such network that it
            knows, weights are missing, or the processor asks for what cannot be done here.
    """
    _need_transformers()
    from transformers import AutoConfig
    from transformers.utils import logging

    if not (folder / "config.json").is_file():
        raise ValueError(
            f"no config.json in {folder}: give hf:FOLDER, with a folder that save_pretrained wrote"
        )
    logging.disable_progress_bar()
    said = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is told below
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config = _without_auxiliary(config)
        heads = _heads(config, places=places)
        look, notes = image_processor(folder, config)
        neck: tuple[str, ...] = ()
        if not pretrained:
            model = _built(config, places=places)
        else:
            model, found = _auto(places).from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
            neck = _random_parts(model, found["missing_keys"], heads) if places else ()
            _refuse_missing(folder, found["missing_keys"], (*heads, *(f"{one}." for one in neck)))
            for own in chain(model.parameters(), model.buffers()):
                own.data = own.data.clone()  # off the file, where nothing is aligned
    except Exception as error:  # a folder of another kind makes it raise anything
        raise _refused(str(folder), error, places=places) from error
    finally:
        logging.set_verbosity(said)
    if neck:
        notes = (*notes, f"{folder} has no weights of the decoder, which starts at random")
    return replace(_architecture(model, config, heads, look, notes), neck=neck)


def transformers_architecture(config: Mapping[str, Any], classes: int) -> Architecture:
    """Build the architecture that a saved network's ``config`` describes.

    Raises:
        ValueError: If transformers is not installed, or does not know it.
    """
    _need_transformers()
    from transformers import AutoConfig

    said = {key: value for key, value in config.items() if key not in LEFT_OUT}
    places = any(str(one).endswith(PLACES) for one in config.get("architectures") or ())
    try:
        made = AutoConfig.for_model(**said)
        made.num_labels = classes
        heads = _heads(made, places=places)
        model = _built(made, places=places)
    except Exception as error:  # a damaged configuration makes it raise anything
        raise _refused(str(config.get("model_type")), error, places=places) from error
    return _architecture(model, made, heads, Preprocess(), ())


def _need_transformers() -> None:
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(
            "networks of Hugging Face need transformers: pip install 'adaptune[transformers]'"
        )


def _refused(where: str, error: Exception, *, places: bool) -> ValueError:
    reason = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
    kind = "network for semantic segmentation" if places else "image classifier"
    return ValueError(
        f"{where} is no {kind} that transformers can open without running code of its "
        f"own ({reason}): give a folder that save_pretrained wrote, of a class that "
        f"{_auto(places).__name__} knows"
    )


def _auto(places: bool) -> Any:
    from transformers import AutoModelForImageClassification, AutoModelForSemanticSegmentation

    return AutoModelForSemanticSegmentation if places else AutoModelForImageClassification


def _without_auxiliary(config: Any) -> Any:
    """Leave out a second head that some decoders have for training."""
    if hasattr(config, "use_auxiliary_head"):
        config.use_auxiliary_head = False
    return config


def _built(config: Any, *, places: bool) -> nn.Module:
    made: nn.Module = _auto(places).from_config(
        config, trust_remote_code=False, dtype=torch.float32
    )
    return made


def _random_parts(model: nn.Module, missing: Any, heads: tuple[str, ...]) -> tuple[str, ...]:
    """Name the parts of a model that a folder has nothing of, beside the heads."""
    parts = {}
    for name, part in model.named_children():
        own = {f"{name}.{key}" for key, _ in part.named_parameters()}
        parts[name] = {key for key in own if not key.startswith(heads)}
    return tuple(name for name, own in parts.items() if own and own <= set(missing))


def _heads(config: Any, *, places: bool) -> tuple[str, ...]:
    """Find the layers that grow with the number of classes, without making any weights."""
    shapes: list[dict[str, torch.Size]] = []
    for classes in (3, 4):
        other = deepcopy(config)
        other.num_labels = classes
        with torch.device("meta"):
            module = _built(other, places=places)
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
    if origin.name.endswith(PLACES):
        look = WholeImage(**asdict(replace(look, crop=1.0)))
    return Architecture(model, origin, heads, look, config=said, notes=notes)


def image_processor(folder: Path, config: Any) -> tuple[Preprocess, tuple[str, ...]]:
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

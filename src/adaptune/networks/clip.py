"""CLIP and SigLIP of transformers as bodies with a space: opened, taken apart, put together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptune.networks.architectures import Preprocess
from adaptune.networks.clip_parts import BODIES, need_clip, refused, text_part, vision_part
from adaptune.networks.hugging_face import image_processor
from adaptune.networks.inputs import TOKENIZER, TextInput, read_tokenizer
from adaptune.networks.joint import Joint
from adaptune.networks.network import Network
from adaptune.networks.open_clip_parts import BODY, open_parts
from adaptune.networks.pairs import joint_head


def is_clip(folder: Path) -> bool:
    """Tell whether a folder says that it holds a CLIP or a SigLIP of transformers."""
    try:
        said = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("model_type") in ("clip", "siglip")


def clip_network(folder: Path, *, pretrained: bool = True, length: int | None = None) -> Network:
    """Open a CLIP or a SigLIP that `save_pretrained` wrote, with its ``tokenizer.json``.

    Its body is the model that reads images, up to its pooled features; the space has the model's
    own projections and scale, of which at most 100 counts. Of SigLIP's sigmoid the bias, the same
    for all classes, is left out. Weights are read from safetensors alone, and no code is run.

    Raises:
        ValueError: If transformers is not installed, the folder holds no such model, weights are
            missing, or it cannot take texts of that length.
    """
    need_clip()
    if not is_clip(folder):
        raise ValueError(
            f"{folder} holds no CLIP or SigLIP: give clip:FOLDER, with a folder that "
            f"save_pretrained wrote of a CLIPModel or a SiglipModel, and {TOKENIZER} in it"
        )
    from transformers.utils import logging

    tokenizer = read_tokenizer(folder / TOKENIZER)
    logging.disable_progress_bar()
    said = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is told below
    try:
        model, missing = _opened(folder, pretrained=pretrained)
        look, notes = image_processor(folder, model.config.vision_config)
        own = model.config.text_config
        most = int(own.max_position_embeddings)
        texts = TextInput(length or most, tokenizer, int(own.vocab_size), own.pad_token_id or 0)
    except Exception as error:  # a folder of another kind makes it raise anything
        raise refused(str(folder), error) from error
    finally:
        logging.set_verbosity(said)
    if missing:
        raise ValueError(f"{len(missing)} weights are missing in {folder}, such as {missing[0]}")
    if texts.length > most:
        raise ValueError(f"{folder} takes texts of {most} tokens at most: got {texts.length}")
    body = vision_part(model.vision_model, look, type(model).__name__, notes)
    net: Any = Network.from_architecture(body, ["pairs"])
    net.head = _space(model, body.width, look, texts)
    return net  # type: ignore[no-any-return]


def open_clip_network(
    folder: Path, *, pretrained: bool = True, length: int | None = None
) -> Network:
    """Open a model of open_clip: ``open_clip_config.json``, safetensors and ``tokenizer.json``.

    Its body is the model that reads images, with its projection, and so are texts; see
    `clip_network` for the rest.

    Raises:
        ValueError: As `open_parts`.
    """
    tokenizer = read_tokenizer(folder / TOKENIZER)
    body, tower, scale = open_parts(folder, tokenizer, pretrained=pretrained, length=length)
    net: Any = Network.from_architecture(body, ["pairs"])
    net.head = joint_head(body.width, body.preprocess, body.width, tower=tower)
    with torch.no_grad():
        net.head.log_warmth.copy_(scale.reshape(()))
    return net  # type: ignore[no-any-return]


def clip_state(net: Network) -> dict[str, Tensor]:
    """Give the weights of a network as those of the model that it was opened as.

    That is a CLIPModel, a SiglipModel, or a CustomTextCLIP of open_clip whose maps training has
    left alone.

    Raises:
        ValueError: If it is none, or has no space any more.
    """
    joint, kind = net.joint, net.config.get("model_type")
    if kind == BODY and joint.tower is not None:
        state = {f"visual.{key}": value for key, value in net.plain_body().state_dict().items()}
        state |= {f"text.{key}": value for key, value in joint.tower.state_dict().items()}
        return state | {"logit_scale": joint.log_warmth.detach()}
    if kind not in BODIES or joint.tower is None or joint.other is None:
        raise ValueError("this is no network that clip:FOLDER opened")
    state = {f"vision_model.{key}": value for key, value in net.plain_body().state_dict().items()}
    state |= {f"text_model.{key}": value for key, value in joint.tower.state_dict().items()}
    if kind == "clip_vision_model":
        state["visual_projection.weight"] = joint.project.weight.detach()
        state["text_projection.weight"] = joint.other.weight.detach()
        state["logit_scale"] = joint.log_warmth.detach()
    return state


def _opened(folder: Path, *, pretrained: bool) -> tuple[Any, list[str]]:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if not pretrained:
        return AutoModel.from_config(config, trust_remote_code=False, dtype=torch.float32), []
    model, found = AutoModel.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    for one in (*model.parameters(), *model.buffers()):
        one.data = one.data.clone()  # off the file, where nothing is aligned
    return model, sorted(found["missing_keys"])


def _space(model: Any, width: int, look: Preprocess, texts: TextInput) -> Joint:
    """Make the space of a model, with its projections, if it has any, and its scale."""
    tower = text_part(model.text_model, texts)
    clip = hasattr(model, "visual_projection")
    outputs = model.visual_projection.out_features if clip else tower.width
    joint = joint_head(width, look, outputs, tower=tower)
    with torch.no_grad():
        if clip and joint.other is not None:
            joint.project.weight.copy_(model.visual_projection.weight)
            joint.other.weight.copy_(model.text_projection.weight)
        joint.log_warmth.copy_(model.logit_scale.reshape(()))
    return joint

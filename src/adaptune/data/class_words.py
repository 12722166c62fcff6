"""Classes as texts: templates, files that describe classes, and the ids a network reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.nn.utils.rnn import pad_sequence

from adaptune.data.inputs.text import TextIds
from adaptune.data.names import class_finder, first_few, printable
from adaptune.data.readers.manifest import read_csv
from adaptune.networks.heads import Head
from adaptune.networks.inputs import TextInput
from adaptune.networks.joint import Averaged, Words
from adaptune.networks.network import Network
from adaptune.networks.tokens import without_padding

N = TypeVar("N", bound=Head, covariant=True)

NAME, TEXT = "{}", "{text}"
"""Where a template has the name of a class, and where a text that a file gives it."""

FIELD = re.compile(r"\{[^{}]*\}")

MOST_BYTES = 2**26
"""Bytes of a file that describes classes from which it is refused."""

MOST_TEXTS = 2_000_000
"""Texts of all classes."""

EXPECTED = (
    'expected a JSON object of lists, {"cat": ["a cat has whiskers"]}, or a CSV with the columns '
    "class,text"
)


def class_texts(classes: Sequence[str], words: Sequence[str]) -> list[list[str]]:
    """Give the texts that each class is made of.

    Args:
        classes: The names of the classes; an underscore is read as a blank.
        words: Templates, in which ``{}`` is where the name stands, and at most one file of texts of
            each class (`read_descriptions`). These are texts as they are, or where a template has
            ``{text}`` stand there, in turn.

    Raises:
        ValueError: If there is no template and no file, a template has another field in braces, or
            none, the file is damaged or lacks a class, or there are more texts than can be read.

    >>> class_texts(["cat", "guide_dog"], ["a photo of a {}", "my {}"])
    [['a photo of a cat', 'my cat'], ['a photo of a guide dog', 'my guide dog']]
    """
    templates = [one for one in words if is_template(one)]
    files = [one for one in words if one not in templates]
    if len(files) > 1 or not words:
        raise ValueError(
            f"classes are made of templates, such as 'a photo of a {NAME}', and one file at most: "
            f"got {', '.join(map(printable, files)) or 'none'}"
        )
    for one in templates:
        _refuse_fields(one, described=bool(files))
    own = _described(classes, Path(files[0])) if files else [[""] for _ in classes]
    made = [
        _filled(name, templates or [TEXT], some) for name, some in zip(classes, own, strict=True)
    ]
    count = sum(map(len, made))
    if count > MOST_TEXTS:
        raise ValueError(
            f"{len(classes)} classes have {count} texts, more than {MOST_TEXTS}: give fewer "
            "templates or a smaller file"
        )
    return made


def is_template(word: str) -> bool:
    """Tell whether a word is a template, and not the name of a file.

    >>> is_template("a photo of a {}"), is_template("texts.json")
    (True, False)
    """
    return FIELD.search(word) is not None


def _refuse_fields(template: str, *, described: bool) -> None:
    fields = {*FIELD.findall(template)}
    if fields - {NAME, TEXT} or (TEXT in fields) > described:
        raise ValueError(
            f"{printable(template)!r} is no template: {NAME} is where a class's name stands, and "
            f"{TEXT} where a text of it, which takes a file of texts too"
        )
    if described and TEXT not in fields:
        raise ValueError(
            f"{printable(template)!r} has no place for the texts of the file: write {TEXT} where "
            f"they stand, as in '{NAME}, {TEXT}', or leave the template out"
        )


def _filled(name: str, templates: Iterable[str], texts: Iterable[str]) -> list[str]:
    """Fill templates with a name and texts; each sentence stands once."""
    spoken, texts = name.replace("_", " "), list(texts)
    made = (
        TEXT.join(one.replace(NAME, spoken) for one in template.split(TEXT)).replace(TEXT, text)
        for template in templates
        for text in texts
    )
    return list(dict.fromkeys(made))


def _described(classes: Sequence[str], file: Path) -> list[list[str]]:
    """Give the texts of a file for each class.

    Raises:
        ValueError: If it lacks one.
    """
    found = read_descriptions(file)
    find = class_finder(list(found))
    lacking = [name for name in classes if not find(name)]
    if lacking:
        raise ValueError(
            f"{file} has no text of the classes {first_few(lacking)}: it has those of "
            f"{first_few(list(found))}"
        )
    return [found[find(name)] for name in classes]


def read_descriptions(file: Path) -> dict[str, list[str]]:
    """Read the texts of classes: a JSON object of lists by name, or a CSV of class,text.

    Raises:
        ValueError: If there is no such file, or it is none of these.
    """
    if not file.is_file():
        raise ValueError(
            f"{printable(str(file))!r} is neither a file nor a template: in a template {NAME} is "
            "where the name of a class stands, as in 'a photo of a {}'"
        )
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file} has more than {MOST_BYTES // 2**20} MB: describe fewer classes")
    found = _of_csv(file) if file.suffix.lower() == ".csv" else _of_json(file)
    empty = [name for name, texts in found.items() if not all(map(str.strip, texts)) or not texts]
    if empty or not found:
        raise ValueError(
            f"{file} has an empty text, or none, of {first_few(empty) or 'any class'}: {EXPECTED}"
        )
    return found


def _of_json(file: Path) -> dict[str, list[str]]:
    try:
        said: Any = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged, it is not JSON: {EXPECTED}") from error
    found = {}
    for name, texts in said.items() if isinstance(said, Mapping) else [("", None)]:
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            where = f"of {printable(name)!r} " if name else ""
            raise ValueError(f"{file} {where}holds no list of texts: {EXPECTED}")
        found[name] = texts
    return found


def _of_csv(file: Path) -> dict[str, list[str]]:
    head, rows = read_csv(file)
    columns = [one.strip().casefold() for one in head]
    if not {"class", "text"} <= {*columns}:
        raise ValueError(f"{file} has the columns {printable(','.join(head))}: {EXPECTED}")
    name, text = columns.index("class"), columns.index("text")
    found: dict[str, list[str]] = {}
    for where, values in rows:
        if len(values) != len(columns):
            raise ValueError(
                f"{file}, {where}: a row has {len(columns)} values, and this {len(values)}"
            )
        found.setdefault(values[name].strip(), []).append(values[text])
    return found


def with_words(
    net: Network[N],
    classes: Sequence[str],
    texts: Sequence[Sequence[str]],
    *,
    average: Averaged = "embeddings",
) -> Network:
    """Give a network that meets texts the ``classes`` that ``texts`` of each make.

    It is changed in place; its space stays as it is.

    Raises:
        ValueError: If it knows no texts, or no network of its own reads them.

    >>> from adaptune.networks.joint import Joint
    >>> from torch import nn
    >>> tower = nn.Sequential(nn.Embedding(2**15, 4), nn.Flatten())
    >>> net = Network.from_module(nn.Sequential(nn.Linear(2, 3)), head="0", classes=["pairs"])
    >>> net.head = Joint(2, 2, TextInput(8), tower=tower, tower_width=4)
    >>> with_words(net, ["cat", "dog"], [["cat"], ["dog"]])(torch.ones(5, 2)).shape
    torch.Size([5, 2])
    """
    joint = net.joint
    if joint.tower is None:
        raise ValueError(
            "classes of words need a network of their own that reads them, and here one body reads "
            "both sides of a pair: start from a network of images that --task matching trained "
            "with --tower"
        )
    own = torch.tensor([row for row, some in enumerate(texts) for _ in some])
    every = [one for some in texts for one in some]
    made: Any = net
    made.head = Words(joint, text_ids(joint.look, every), own, texts, average=average)
    made.classes = tuple(classes)
    return made  # type: ignore[no-any-return]


def text_ids(look: TextInput, texts: Sequence[str]) -> torch.Tensor:
    """Make ids of texts as a network reads them, (T, L); L is the length of the longest.

    >>> text_ids(TextInput(128), ["a cat", "a"]).shape
    torch.Size([2, 3])
    """
    reader = TextIds(look)
    return pad_sequence(
        [without_padding(reader.given(one)[None])[0] for one in texts], batch_first=True
    )

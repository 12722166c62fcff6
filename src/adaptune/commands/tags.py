"""What is written of texts whose words a network tags: a word and its tag a line, or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import torch
from jsonargparse import Namespace
from lightning_fabric import Fabric

from adaptune.commands.options import print_json
from adaptune.commands.outputs import writable_file
from adaptune.data.inputs.tokens import TokenIds
from adaptune.data.listing import Example
from adaptune.data.names import printable
from adaptune.data.readers.tags import JSON_ENDINGS, NO_TAG
from adaptune.data.texts import words_of
from adaptune.engine.evaluate import logits_of
from adaptune.networks.network import Network, TokenInput
from adaptune.report.terminal import Terminal
from adaptune.types import Unlabeled

USUAL = "predictions.conll"
"""The file that is written unless another is named."""


def write_tags(
    given: Namespace,
    examples: Sequence[Example],
    notes: Sequence[str],
    net: Network,
    fabric: Fabric,
) -> None:
    """Write each text's words with their tags; words behind what the network reads have none."""
    file = writable_file(given.out or USUAL, USUAL)
    as_json = file.suffix.lower() in JSON_ENDINGS
    size, written = given.batch_size, list[dict[str, object]]()
    starts = range(0, len(examples), size)
    lost = 0
    with Terminal() as terminal, file.open("w", encoding="utf-8", newline="\n") as out:
        for note in notes:
            terminal.say(f"note: {note}")
        for start in terminal.track(starts, "predicting", len(starts)):
            some = examples[start : start + size]
            for one, tags in zip(some, tagged(net, some, fabric), strict=True):
                words = words_of(one.text or "")
                lost += tags.count(NO_TAG)
                row: dict[str, object] = {
                    "path": printable(one.path),
                    "tokens": words,
                    "tags": tags,
                }
                lines = [f"{word}\t{tag}" for word, tag in zip(words, tags, strict=True)]
                out.write(
                    json.dumps(row, ensure_ascii=False) + "\n"
                    if as_json
                    else "\n".join([*lines, "", ""])
                )
                written.append(row)
        if lost:
            terminal.say(
                f"note: {lost} words lie behind what the network reads of a text, or are none of "
                f"its tokens, and have the tag {NO_TAG}"
            )
        terminal.say(f"{len(examples)} images: {file}")
    if given.json:
        print_json({"rows": written, "classes": net.classes})


def tagged(net: Network, examples: Sequence[Example], fabric: Fabric) -> Iterator[list[str]]:
    """Give the tag of each word of texts, `NO_TAG` where the network sees none of it."""
    look = net.preprocess
    if not isinstance(look, TokenInput):
        raise ValueError("this network gives one answer an image, not one a word")
    reader = TokenIds(look)
    x = torch.stack([reader.fixed(one) for one in examples])
    none = torch.zeros(len(x), dtype=torch.int64)
    answers = logits_of(net, Unlabeled(x[:, 0], none, none), fabric).argmax(1).cpu()
    for one, word, own in zip(examples, x[:, 1], answers, strict=True):
        tags = [NO_TAG] * len(words_of(one.text or ""))
        for number, answer in zip(word.tolist(), own.tolist(), strict=True):
            if number:
                tags[number - 1] = net.classes[answer]
        yield tags

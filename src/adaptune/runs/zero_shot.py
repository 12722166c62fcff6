"""Networks whose classes are words as runs begin with them, and how far images lie from texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from adaptune.data.class_words import class_texts, is_template, with_words
from adaptune.engine.evaluate import Evaluation
from adaptune.networks.joint import Averaged, Joint, Words
from adaptune.networks.network import Network
from adaptune.ops.modality_gap import modality_gap

WordsAverage = Literal["auto", "embeddings", "similarities"]
ZeroShotHead = Literal["words", "linear"]


def classifying(
    net: Network,
    classes: Sequence[str],
    words: Sequence[str] = (),
    average: WordsAverage = "auto",
    head: ZeroShotHead = "words",
) -> Network:
    """Give a network the classes that words make, if there are any; one that matches needs some.

    Args:
        net: Any network; it is changed in place.
        classes: The names of the classes.
        words: Templates and a file, as `class_texts` takes them.
        average: What of a class's texts is averaged: similarities, where they are a file's.
        head: Whether outputs are compared with words, or a linear head stands for these.

    Raises:
        ValueError: If words are given to a network that knows none, a network that meets texts is
            given none, or a linear head is to stand for what is no head of words.
    """
    if words:
        described = not all(map(is_template, words))
        of: Averaged = "similarities" if described else "embeddings"
        texts = class_texts(classes, words)
        net = with_words(net, classes, texts, average=of if average == "auto" else average)
    elif isinstance(net.head, Joint):
        raise ValueError(
            "this network matches images with texts and knows no classes: give --words 'a photo of "
            "a {}' to make them of their names, or --task matching"
        )
    if head == "linear":
        if not isinstance(net.head, Words):
            raise ValueError(
                "--zero-shot-head linear stands for classes of words, and this network has none: "
                "give --words, or leave it out"
            )
        net.operate("zero-shot-head", outputs=len(net.head.joint.weight))
    return net


def gaps(net: Network, found: Mapping[str, Evaluation]) -> dict[str, float]:
    """Say how far the images of each test set lie from the texts of classes of words, by name."""
    head = net.head
    if not isinstance(head, Words):
        return {}
    device, own = head.joint.weight.device, {}
    for test, one in found.items():
        features = one.sample.features.to(device)
        own[test] = round(modality_gap(head.joint.embed(features), head.read()), 4)
    return own

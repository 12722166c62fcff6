"""Which words of a text made a network answer as it did."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from lightning_fabric import Fabric

from adaptune.data.inputs import input_of
from adaptune.data.inputs.text import TextIds
from adaptune.networks.network import Network
from adaptune.networks.token_weights import token_weights

WORD = re.compile(r"\S+")


def word_shades(
    net: Network, texts: Sequence[str], chosen: Sequence[int], other: Sequence[int], fabric: Fabric
) -> list[list[float]]:
    """Say how much each word of texts spoke for one class and against another.

    What a token weighs (`token_weights`) is shared by the words, between blanks, that it is made
    of: a pair of words by both. The largest in size of each text becomes 1 or -1.

    Returns:
        A number for each word of each text; none for texts of networks that tell nothing, or that
        a tokenizer cannot read.
    """
    read = input_of(net.preprocess)
    if not isinstance(read, TextIds) or not texts:
        return [[] for _ in texts]
    try:
        ids = torch.stack([read.given(text) for text in texts])
        spans = [read.spans(text) for text in texts]
    except OSError:
        return [[] for _ in texts]
    classes = (torch.tensor(one, device=fabric.device) for one in (chosen, other))
    weights = token_weights(net, ids.to(fabric.device), *classes)
    if weights is None:
        return [[] for _ in texts]
    every = zip(texts, spans, weights.tolist(), strict=True)
    return [share_out(text, own, found) for text, own, found in every]


def share_out(text: str, spans: Sequence[tuple[int, int]], weights: Sequence[float]) -> list[float]:
    """Share weights of spans among the words that these touch; the largest becomes 1 or -1.

    >>> share_out("not good", [(0, 0), (0, 3), (4, 8), (0, 8)], [9.0, -1.0, 3.0, 2.0])
    [0.0, 1.0]
    """
    words = [found.span() for found in WORD.finditer(text)]
    shades = [0.0] * len(words)
    for (start, stop), weight in zip(spans, weights, strict=False):
        touched = [at for at, (a, b) in enumerate(words) if a < stop and start < b and start < stop]
        for at in touched:
            shades[at] += weight / len(touched)
    most = max(map(abs, shades), default=0.0) or 1.0
    return [round(one / most, 3) for one in shades]

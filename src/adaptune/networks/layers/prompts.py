"""Prompts that learn, put into a head whose classes are texts: surgeries."""

from __future__ import annotations

from torch import nn

from adaptune.networks.heads import Head
from adaptune.networks.joint import Words
from adaptune.networks.prompts import ImagePrompts, Prompts, embedding_of
from adaptune.networks.remembered import Remembered

MOST_VECTORS, MOST_UNITS, MOST_ROWS = 1024, 65536, 10**6


def learn_prompts(
    body: nn.Module, head: Head, *, count: int, start: int, per_class: bool
) -> tuple[nn.Module, Words]:
    """Put prompts in the place of tokens of the texts of classes: a surgery.

    Raises:
        ValueError: If classes are no texts, or have prompts, or these places are not there.
    """
    own, width = _ready(head, count, start)
    classes = len(own.anchors) if per_class else 1
    own.prompts = Prompts(count, width, start=start, classes=classes).to(own.anchors)
    return body, own


def learn_image_prompts(
    body: nn.Module, head: Head, *, count: int, start: int, hidden: int
) -> tuple[nn.Module, Words]:
    """Put prompts in that every image adds to: a surgery.

    Raises:
        ValueError: As `learn_prompts`.
    """
    own, width = _ready(head, count, start)
    if not 0 < hidden <= MOST_UNITS:
        raise ValueError(f"hidden is a number of units, up to {MOST_UNITS}: got {hidden}")
    seen = len(own.joint.weight)
    made = ImagePrompts(count, width, start=start, seen=seen, hidden=hidden)
    own.prompts = made.to(own.anchors)
    return body, own


def _ready(head: Head, count: int, start: int) -> tuple[Words, int]:
    """Give a head that takes prompts at these places, and how long they are."""
    if not isinstance(head, Words) or head.joint.tower is None:
        raise ValueError(f"prompts stand in texts of classes, and this is a {type(head).__name__}")
    if head.prompts is not None:
        raise ValueError("this network has prompts: start from the one that it was before")
    if not (0 < count <= MOST_VECTORS and start >= 0 and start + count < head.ids.shape[1] + 1):
        raise ValueError(f"texts of {head.ids.shape[1]} tokens have no {count} from {start} on")
    return head, embedding_of(head.joint.tower).embedding_dim


def remember(
    body: nn.Module, head: Head, *, rows: int, share: float, sharpness: float
) -> tuple[nn.Module, Words]:
    """Let labelled embeddings count beside the texts of classes: a surgery.

    Raises:
        ValueError: If classes are no texts, or beyond belief, or it remembers some.
    """
    if not isinstance(head, Words) or head.remembered is not None:
        raise ValueError("embeddings are remembered beside texts of classes, and once")
    if not 0 < rows <= MOST_ROWS:
        raise ValueError(f"up to {MOST_ROWS} images are remembered, and at least one: got {rows}")
    classes, width = head.anchors.shape
    head.remembered = Remembered(rows, width, classes, share, sharpness).to(head.anchors)
    return body, head

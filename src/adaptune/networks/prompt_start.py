"""Where prompts begin in the texts of classes, and as what."""

from __future__ import annotations

from typing import Literal

import torch

from adaptune.networks.joint import Words
from adaptune.networks.network import Network
from adaptune.networks.prompts import Prompts, embedding_of, shared_tokens, with_room

Kind = Literal["prompts", "image-prompts"]
"""Surgeries that put prompts in."""


def start_prompts(net: Network[Words], kind: Kind, count: int, **arguments: object) -> Prompts:
    """Give the texts of classes ``count`` vectors to learn; everything else of it is frozen.

    Prompts that a network has go on learning.

    Raises:
        ValueError: If texts would be too long, or the network has prompts of another kind.
    """
    head = net.head
    if head.prompts is None:
        start, shared = make_room(head, count)
        net.operate(kind, count=count, start=start, **arguments)
        begin_with_tokens(head, shared)
    prompts = head.prompts
    known = {one["name"] for one in net.surgery}
    if prompts is None or prompts.count != count or kind not in known:
        raise ValueError(
            f"this network has other prompts than the {count} {kind} that are to learn: start from "
            "the one that it was before"
        )
    net.requires_grad_(False)
    return prompts.requires_grad_(True)


@torch.no_grad()
def make_room(head: Words, count: int) -> tuple[int, int]:
    """Make room for ``count`` vectors in the texts of classes; say where, and how many were there.

    What a tokenizer puts before every text stays before them. Tokens that all texts begin with,
    ``a photo of a``, give their places up to the last vectors; for the rest texts get longer.

    Raises:
        ValueError: If texts would be too long.
    """
    if count < 1:
        raise ValueError(f"--context is a number of vectors, at least 1: got {count}")
    start, alike = words_alike(head)
    shared = min(count, alike)
    if shared < count:
        head.ids = with_room(head.ids, start, count - shared, head.joint.look.length)
    return start, shared


def words_alike(head: Words) -> tuple[int, int]:
    """Say where texts of classes begin, behind what a tokenizer puts there, and how far alike."""
    ids = head.ids
    start = int(bool(head.joint.look.tokenizer) and bool((ids[:, 0] == ids[0, 0]).all()))
    return start, shared_tokens(ids, start)


@torch.no_grad()
def begin_with_tokens(head: Words, shared: int) -> None:
    """Let the last vectors begin as what the ``shared`` tokens in their places are read as."""
    prompts, tower = head.prompts, head.joint.tower
    if prompts is not None and tower is not None and shared:
        stop = prompts.start + prompts.count
        known = embedding_of(tower)(head.ids[0, stop - shared : stop].to(prompts.vectors.device))
        prompts.vectors[:, prompts.count - shared :] = known

"""Networks whose head is a space that texts are in too: built, described, and built again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptune.networks.architectures import Architecture, Preprocess
from adaptune.networks.clip_parts import clip_tower
from adaptune.networks.heads import Head
from adaptune.networks.inputs import Look, TextInput, TokenInput, load_look, save_look
from adaptune.networks.joint import Joint, Words
from adaptune.networks.split import Part, from_names, under_names
from adaptune.networks.text import text_architecture

PREFIX = "joint."
"""What the names of such a head's weights begin with; the body's are the library's own."""


def joint_head(
    width: int, look: Look, outputs: int = 0, *, tower: Architecture | None = None
) -> Joint:
    """Make the head of a body of ``width`` features that reads ``look``.

    With a ``tower`` partners are read by that, in a space of ``outputs`` axes; a body that reads
    texts needs none, and then the space is that of its features.

    Raises:
        ValueError: If the body reads images and there is no tower, or the tower reads images.
    """
    if tower is None:
        if not isinstance(look, TextInput):
            raise ValueError(
                "an image's partner is a text, which needs a network of its own: give --tower "
                "minilm, ngrams or hf:FOLDER"
            )
        return Joint(width, outputs or width, look)
    own = tower.preprocess
    if not isinstance(own, TextInput):
        raise ValueError("a tower reads texts: give minilm, ngrams, or hf:FOLDER of an encoder")
    return Joint(
        width,
        outputs or tower.width,
        own,
        tower=tower.module,
        tower_width=tower.width,
        config=tower.config,
    )


def describe_joint(head: Joint | Words, folder: Path) -> dict[str, Any]:
    """Say what builds a head again, and write the tokenizer of its tower into ``folder``."""
    joint = head if isinstance(head, Joint) else head.joint
    said: dict[str, Any] = {"outputs": len(joint.weight)}
    if joint.tower is not None:
        said |= {"tower": joint.config, "texts": save_look(joint.look, folder)}
    if isinstance(head, Words):
        words = {"words": [list(one) for one in head.words], "ids": list(head.ids.shape)}
        said |= words | {"average": head.average}
    return said


def joint_again(said: Mapping[str, Any], width: int, look: Look, folder: Path) -> Joint | Words:
    """Build the head that `describe_joint` described, without weights.

    Raises:
        ValueError: If it cannot be built here.
    """
    tower = None
    if "tower" in said:
        own = load_look(TextInput, said["texts"], folder)
        assert isinstance(own, TextInput)
        config = said["tower"]
        built = clip_tower if config["pooling"] == "own" else text_architecture
        tower = built(config, own)
    outputs = int(said["outputs"])
    joint = joint_head(width, look, outputs, tower=tower)
    if "words" not in said:
        return joint
    words: Sequence[Sequence[str]] = said["words"]
    rows, length = said["ids"]
    ids = torch.full((rows, length), min(joint.look.vocabulary - 1, joint.look.pad + 1))
    owner, anchors = torch.arange(rows).clamp(max=len(words) - 1), torch.zeros(len(words), outputs)
    return Words(joint, ids, owner, words, average=said["average"], anchors=anchors)


def joined_state(
    head: Head, body: Mapping[str, Tensor], parts: Sequence[Part]
) -> dict[str, Tensor]:
    """Give the state of a head and a body as one, the body's under its own names.

    A linear head's is that of the layers that it stands for, ``parts``.
    """
    own = head.state_dict()
    if isinstance(head, Joint | Words):
        return dict(body) | {PREFIX + key: value for key, value in own.items()}
    return under_names(parts, own, body)


def parted_state(
    head: Head, state: Mapping[str, Tensor], parts: Sequence[Part]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Part what `joined_state` joined: the head's, and the body's.

    >>> head = Joint(2, 2, TextInput())
    >>> parted_state(head, {"joint.a": torch.ones(1), "b": torch.ones(1)}, [])
    ({'a': tensor([1.])}, {'b': tensor([1.])})
    """
    if not isinstance(head, Joint | Words):
        return from_names(parts, dict(state))
    own = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    return own, {key: value for key, value in state.items() if not key.startswith(PREFIX)}


def fill_head(head: Head, state: Mapping[str, Tensor]) -> None:
    """Give a head its weights, and with them what it made of these."""
    head.load_state_dict(state)
    if isinstance(head, Words):
        head.trust()


def look_of(said: Mapping[str, Any], kind: str = "text") -> type[Look]:
    """Say of which kind the record of what a network of some origin reads is, by what was saved.

    >>> look_of({"vocabulary": 9}).__name__, look_of({"vocabulary": 9}, "tokens").__name__
    ('TextInput', 'TokenInput')
    """
    if "vocabulary" not in said:
        return Preprocess
    return TokenInput if kind == "tokens" else TextInput

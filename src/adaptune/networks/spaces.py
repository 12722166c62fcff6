"""Networks that match: a body with a space in which it meets texts, opened or built."""

from __future__ import annotations

from collections.abc import Sequence

from adaptune.networks.inputs import TextInput
from adaptune.networks.joint import Joint
from adaptune.networks.network import Network
from adaptune.networks.pairs import joint_head
from adaptune.networks.text import reads_texts, text_backbone


def with_space(
    net: Network,
    tower: str = "",
    *,
    outputs: int = 0,
    pretrained: bool = True,
    length: int | None = None,
) -> Network:
    """Give a network a space that texts are in too, in place of its head.

    Args:
        net: A body that reads texts, which then reads both sides, or one that reads images.
        tower: What reads the texts beside images: minilm, ngrams, or hf:FOLDER.
        outputs: How many axes the space has; by default as many as a text has features.
        pretrained: Whether the tower has its own weights, and not random ones.
        length: Tokens of a text at most that the tower reads.

    Raises:
        ValueError: If images have no tower, texts have one, or it reads no texts.
    """
    if isinstance(net.head, Joint):
        if tower or outputs:
            raise ValueError(
                f"{net.origin.name} brings its own tower and space: leave out --tower and --space"
            )
        return net
    if tower and isinstance(net.preprocess, TextInput):
        raise ValueError(
            "--tower reads the texts beside images, and this backbone reads both texts of a pair "
            "itself: leave it out"
        )
    if tower and not reads_texts(tower):
        raise ValueError(
            f"{tower} reads no texts: give --tower minilm, ngrams, or hf:FOLDER of an encoder"
        )
    built = text_backbone(tower, pretrained=pretrained, length=length) if tower else None
    net.head = joint_head(net.width, net.preprocess, outputs, tower=built)
    return net


def to_match(net: Network, classes: Sequence[str]) -> Network:
    """Take a network as one that matches, in the space that it has.

    Raises:
        ValueError: If it has none.
    """
    net.head, net.classes = net.joint, tuple(classes)
    return net

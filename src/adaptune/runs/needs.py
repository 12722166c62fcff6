"""What a method needs of the data, said where it is not there."""

from __future__ import annotations

from adaptune.data.domains import DomainData
from adaptune.engine.method import Method


def refuse_pixels(method: type[Method]) -> None:
    """Refuse a method that compares views of an example, or changes it, where it is a text.

    Raises:
        ValueError: If it does.
    """
    does = "changes or mixes pixels" if method.needs.pixels else ""
    does = "compares augmented views of an example" if method.needs.views else does
    if does:
        raise ValueError(
            f"{method.__name__} {does}, and this network reads texts: choose another method"
        )


def refuse_tokens(method: type[Method]) -> None:
    """Refuse a method that hides words where a network reads images.

    Raises:
        ValueError: If it does.
    """
    if method.needs.tokens:
        raise ValueError(
            f"{method.__name__} hides words of texts, and this network reads images: give "
            "--backbone minilm or hf:FOLDER and texts, or choose another method"
        )


def refuse_lack(method: type[Method], data: DomainData, *, begun: bool) -> None:
    """Refuse data that lack what a method needs; a run may have ``begun`` at a finished network.

    Raises:
        ValueError: If there is such a thing.
    """
    needs, name = method.needs, method.__name__
    if method.setting == "test-time":
        raise ValueError(
            f"{name} adapts to a stream of images while it answers, there is nothing to train: "
            "run adaptune stream RUN DIR"
        )
    if needs.unlabeled and not len(data.target):
        raise ValueError(f"{name} needs unlabelled images and got none: pass --target FOLDER")
    if needs.labeled and "train" not in data.sets:
        raise ValueError(f"{name} needs labelled images and got none: pass DATA as well")
    if needs.labeled and needs.domains > data.domains:
        raise ValueError(
            f"{name} needs {needs.domains} labelled domains and got {data.domains}: pass more with "
            "--source NAME=DIR"
        )
    if not needs.labeled and not begun:
        raise ValueError(
            f"{name} sees no labelled image, so it starts from a finished network: pass --from RUN"
        )

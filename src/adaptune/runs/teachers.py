"""Finished runs that a method learns from: opened, counted, told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adaptune.engine.method import Method, teachers_of
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.runs.folder import best_network


def refuse_teachers(method: type[Method], teachers: Sequence[str]) -> None:
    """Refuse more or fewer teachers than a method takes.

    Raises:
        ValueError: If they are not as many.
    """
    takes, name = teachers_of(method), method.__name__
    if takes == "none" and teachers:
        raise ValueError(f"{name} learns from no other network: leave out --teacher")
    if takes != "none" and not teachers:
        raise ValueError(f"{name} learns from another network and got none: pass --teacher RUN")
    if takes == "one" and len(teachers) > 1:
        raise ValueError(f"{name} learns from one other network: got {len(teachers)} --teacher")


def open_references(method: type[Method], teachers: Sequence[str], net: Network) -> list[Any]:
    """Open what a method takes after network and task: nothing, a reference, or a tuple of some.

    Raises:
        ValueError: If a folder holds no network, or one that cannot be opened.
    """
    opened = tuple(
        Reference(Network.load(best_network(Path(one))), net.preprocess) for one in teachers
    )
    if teachers_of(method) == "several":
        return [opened]
    return list(opened)


def teacher_digests(teachers: Sequence[str]) -> list[str]:
    """Say of each teacher which it is, wherever it lies: by what is in its files."""
    told = []
    for one in teachers:
        folder, content = best_network(Path(one)), hashlib.sha256()
        for name in ("network.json", "network.safetensors"):
            file = folder / name
            if file.is_file():
                with file.open("rb") as opened:
                    content.update(hashlib.file_digest(opened, "sha256").digest())
        told.append(content.hexdigest())
    return told

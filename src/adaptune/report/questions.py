"""Write the page that shows people the images whose labels a run waits for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adaptune.data.listing import Example
from adaptune.data.names import printable
from adaptune.report.page import render, thumbnail
from adaptune.runtime.files import write_text
from adaptune.runtime.machine import describe_machine

SIDE = 192
"""Pixels of the longer side of a picture."""


def write_questions(page: Path, images: Sequence[Example], classes: Sequence[str]) -> None:
    """Write a page that needs nothing else: each image with its path, and the classes."""
    asked = [
        {
            "path": printable(one.path),
            "picture": thumbnail(one.path, one.part, side=SIDE, kind="JPEG"),
        }
        for one in images
    ]
    content = render(
        "questions.html",
        asked=asked,
        classes=classes,
        table=page.with_suffix(".csv"),
        machine=describe_machine(),
    )
    write_text(page, content)

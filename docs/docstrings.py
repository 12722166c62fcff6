"""Docstrings as pages want them: an example that runs is code, wherever it stands."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*\n?(?:(?!\n).+\n?)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Fences the examples of docstrings."""

    def on_object(self, *, obj: griffe.Object, **more: Any) -> None:
        """Fence those of one object."""
        del more
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(said: str) -> str:
    """Put fences around examples.

    >>> fenced("One.\\n\\n>>> 1\\n1").splitlines()[2]
    '```pycon'
    """
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", said)

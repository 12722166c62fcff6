"""What sentences call the examples of a run: images, unless it is of texts.

Sentences are written of images, wherever they come from, and where they leave for people (terminal,
pages, errors) they are put into words of texts while a command is about these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TEXTS: ContextVar[bool] = ContextVar("texts", default=False)

PHRASES = {
    "a file of the same name": "the same text",
    "--image-size": "--text-length",
}

NOUN = re.compile(r"(?<![\w/.:=<\\-])(an |An )?([Ii])mage(s?)(?![\w/=\\]|-\w|\.\w)")
"""The word by itself: not in paths, options, types and addresses."""


def speak_of_texts() -> None:
    """Call examples texts from here on, until the command ends."""
    _TEXTS.set(True)


def speaks_of_texts() -> bool:
    """Tell whether examples are called texts."""
    return _TEXTS.get()


@contextmanager
def of_images() -> Iterator[None]:
    """Call examples images, as a command does in the beginning; what was before is so again."""
    with about(texts=False):
        yield


@contextmanager
def about(*, texts: bool) -> Iterator[None]:
    """Call examples texts, or images, for a while."""
    token = _TEXTS.set(texts)
    try:
        yield
    finally:
        _TEXTS.reset(token)


def worded(sentence: str) -> str:
    """Put a sentence into the words of what a command is about.

    >>> worded("an image is missing")
    'an image is missing'
    >>> with of_images():
    ...     speak_of_texts()
    ...     worded("An image of a/image.png is none of 3 training images: give --image-size")
    'A text of a/image.png is none of 3 training texts: give --text-length'
    """
    return in_words_of_texts(sentence) if _TEXTS.get() else sentence


def in_words_of_texts(sentence: str) -> str:
    """Call images texts.

    >>> in_words_of_texts("Images of an image")
    'Texts of a text'
    """
    for phrase, other in PHRASES.items():
        sentence = sentence.replace(phrase, other)
    return NOUN.sub(_noun, sentence)


def _noun(found: re.Match[str]) -> str:
    article = {None: "", "an ": "a ", "An ": "A "}[found[1]]
    return f"{article}{'T' if found[2] == 'I' else 't'}ext{found[3]}"

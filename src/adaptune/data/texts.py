"""Texts as they are held: decoded, without what no file of text has, and of a bounded length."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from adaptune.data.sample import UnreadableError

LONGEST_TEXT = 100_000
"""Characters of a text that are held; no network reads as many."""

LARGEST = 2**31
"""Bytes of a file from which it is refused: texts are held in memory."""

SURROGATES = re.compile("[\ud800-\udfff]")

BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

LATIN = "latin-1"
"""What text is taken for that is not UTF-8: any bytes are, one a character."""


def decoded(raw: bytes) -> tuple[str, str]:
    r"""Decode bytes as UTF-8, as their mark says, or else as Latin-1; give the encoding too.

    Raises:
        UnreadableError: If they hold zeros, which no text does.

    >>> decoded("caf\xe9".encode()), decoded(b"caf\xe9"), decoded("caf\xe9".encode("utf-16"))
    (('caf\xe9', 'utf-8'), ('caf\xe9', 'latin-1'), ('caf\xe9', 'utf-16'))
    """
    encoding = next((name for mark, name in BOMS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        encoding, text = LATIN, raw.decode(LATIN)
    if "\0" in text:
        raise UnreadableError(
            "it holds zero bytes, so it is no text, or has no mark of UTF-16: save it in UTF-8"
        )
    return text, encoding


def held(text: str) -> str:
    r"""Give a text as it is held: without halves of characters, cut where no network reads on.

    >>> held("a\ud800b")
    'a\ufffdb'
    """
    text = text[:LONGEST_TEXT]
    return text if text.isascii() else SURROGATES.sub("\ufffd", text)


def words_of(text: str) -> list[str]:
    """Give the words of a text, or their tags: what single blanks part.

    >>> words_of("a b"), words_of("")
    (['a', 'b'], [])
    """
    return text.split(" ") if text else []


def read_text(file: Path) -> str:
    """Read a file that is one text.

    Raises:
        UnreadableError: If it cannot be read, or is no text; the message says why.
    """
    return held(read_decoded(file)[0].strip())


def read_decoded(file: Path) -> tuple[str, str]:
    """Read a file of text, and how it was encoded.

    Raises:
        UnreadableError: As `read_text`.
    """
    try:
        if not file.is_file():
            raise UnreadableError("there is no such file: put it back, or take it out of the data")
        if file.stat().st_size > LARGEST:
            raise UnreadableError("it has more than 2 GB, and texts are held: cut it into parts")
        return decoded(file.read_bytes())
    except UnreadableError:
        raise
    except OSError as error:
        raise UnreadableError(
            f"the system could not read it ({error.strerror}): check the disk and your rights"
        ) from error

"""Queries and documents to search among: each with the name that a file of relevance has for it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptune.data.files import image_files
from adaptune.data.listing import Example
from adaptune.data.names import first_few, printable
from adaptune.data.readers.text_tables import SUFFIXES, read_table
from adaptune.data.readers.texts import TextSource, text_examples
from adaptune.data.texts import held
from adaptune.runtime.wording import in_words_of_texts

NAMES = ("id", "_id")
"""What the column of names is called, unless it is told."""

RELEVANCE = {
    "query": ("query", "query-id"),
    "document": ("document", "corpus-id"),
    "relevance": ("relevance", "score"),
}
"""What the columns of a file of relevance are called."""


@dataclass(frozen=True)
class Collection:
    """Texts or images to search with or among, what each is called, and what is odd about them."""

    examples: tuple[Example, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_collection(
    words: Sequence[str], *, text: str = "text", name: str = "", images: bool = False
) -> Collection:
    """List texts of tables, ``.txt`` files and folders of these, or else images.

    In a table ``name`` is the column of names, by default ``id`` or ``_id``; without one a text is
    called as its row is. A ``title`` column stands before the text.

    Raises:
        ValueError: If there is nothing, a table is damaged or lacks a column, or two have one name.
    """
    examples: list[Example] = []
    names: list[str] = []
    notes: list[str] = []
    for word in words:
        path = Path(word)
        if images:
            files, said = image_files([path])
            found, own = [Example(file, "") for file in files], [str(file) for file in files]
        elif path.suffix.lower() in SUFFIXES:
            found, own, said = _of_table(path, text, name)
        else:
            found, said = text_examples([word], TextSource(text))
            own, said = [str(one.path) for one in found], list(map(in_words_of_texts, said))
        examples, names, notes = examples + found, names + own, notes + said
    if not examples:
        raise ValueError("; ".join([f"no image files in {', '.join(words)}", *notes]))
    twice = [one for one, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{', '.join(words)}: {len(twice)} names stand twice, such as {printable(twice[0])}: "
            "give every row one of its own"
        )
    return Collection(tuple(examples), tuple(names), tuple(notes))


def _of_table(file: Path, text: str, name: str) -> tuple[list[Example], list[str], list[str]]:
    columns, rows, _ = read_table(file)
    known = [one for one in ((name,) if name else NAMES) if one in columns]
    if text not in columns or (name and not known):
        lacking, option = (name, "id") if text in columns else (text, "text")
        raise ValueError(
            f"{file} lacks the column {lacking}: expected {text}[,id,title] and found "
            f"{printable(','.join(columns))}; name another with --{option}-column"
        )
    examples: list[Example] = []
    names: list[str] = []
    wrong: list[str] = []
    for row in rows:
        if row.problem:
            wrong.append(f"{row.where}: {row.problem}")
            continue
        said = f"{row.values.get('title', '')} {row.values[text]}".strip()
        examples.append(Example(file / row.where, "", text=held(said)))
        names.append(row.values[known[0]].strip() if known else f"{file.name} {row.where}")
    if wrong:
        raise ValueError(f"{file}, {first_few(wrong, '; ')}")
    empty = sum(not one.text for one in examples)
    return examples, names, [f"{file.name}: {empty} texts are empty"] if empty else []


def read_relevance(file: Path) -> dict[str, dict[str, float]]:
    """Read which documents are relevant to a query: a table ``query,document[,relevance]``.

    ``query-id,corpus-id[,score]`` are taken too. Without a grade it is 1.

    Raises:
        ValueError: If it is damaged, lacks a column, or a grade is no number.
    """
    columns, rows, _ = read_table(file)
    own = {what: next((o for o in options if o in columns), "") for what, options in _COLUMNS}
    if not (own["query"] and own["document"]):
        raise ValueError(
            f"{file} says nothing of relevance: expected the columns query,document[,relevance] "
            f"and found {printable(','.join(columns))}"
        )
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    wrong: list[str] = []
    for row in rows:
        said = row.values
        grade = _grade(said.get(own["relevance"], "1")) if not row.problem else None
        if grade is None:
            wrong.append(f"{row.where}: {row.problem or 'its relevance is no number'}")
            continue
        found[said[own["query"]].strip()][said[own["document"]].strip()] = grade
    if wrong:
        raise ValueError(f"{file}, {first_few(wrong, '; ')}")
    return dict(found)


_COLUMNS = tuple(RELEVANCE.items())


def _grade(said: str) -> float | None:
    try:
        grade = float(said)
    except ValueError:
        return None
    return grade if abs(grade) < 1e9 else None

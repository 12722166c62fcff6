"""Texts whose words have a tag each: files of a word a line, and JSON lines."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptune.data.labels.tags import counted_tags
from adaptune.data.listing import Example, Listing
from adaptune.data.names import (
    CONTROL,
    class_order,
    compose,
    first_few,
    normal_name,
    on_disk,
    printable,
)
from adaptune.data.readers.folder import SPLITS
from adaptune.data.readers.texts import TextSource, encoding_note, oddities
from adaptune.data.sample import UnreadableError, shown
from adaptune.data.sources import named_domains
from adaptune.data.texts import LATIN, LONGEST_TEXT, SURROGATES, read_decoded
from adaptune.types import Split

JSON_ENDINGS = (".jsonl", ".ndjson")
ENDINGS = (".conll", ".tsv", ".bio", ".iob", ".iob2", ".txt", *JSON_ENDINGS)
"""What files of tagged words end in."""

PARTS: dict[str, Split] = {**SPLITS, "dev": "val"}

NO_TAG = "_"
"""What stands for the tag of a word of which nothing is asked."""

COMMENT = re.compile(r"#\s*[\w:.-]+\s*=")
"""A line before a text that is not its first word, as of CoNLL-U."""

BREAK = "-DOCSTART-"
BLANK, BLANKS = re.compile(" +"), re.compile(r"\s+")


@dataclass(frozen=True)
class TaggedText:
    """One text: where it stands, its words and their tags, and what is wrong with it.

    Words without any tags have none; a split and a domain are those that its file says.
    """

    where: str
    words: list[str]
    tags: list[str]
    problem: str = ""
    split: Split | None = None
    domain: str = ""


@dataclass(frozen=True)
class TagSource(TextSource):
    """Lists texts whose words have tags, one listing a domain.

    A place is a file of a word a line, its columns parted by tabs or blanks, with an empty line
    after each text; or JSON lines, objects with a list of words and one of tags, and perhaps
    ``domain`` and ``split``; or a folder of such files that are called train, val (or dev) and
    test. In a file of lines the word is the first column and the tag the last, unless ``text`` and
    ``label`` are the numbers of others, from 1 on.

    Args:
        text: The field of words, or a number.
        label: The field of tags, or a number.
        needed: Whether there must be tags.
    """

    text: str = "tokens"
    label: str = "tags"
    needed: bool = True

    def __call__(self, path: Path, name: str) -> list[Listing]:
        """List what lies in a place.

        Raises:
            ValueError: If there is nothing, or a file is damaged or lacks a column.
        """
        path, name, table = on_disk(path), normal_name(name), normal_name(path.stem)
        if not path.is_dir():
            return named_domains(self._listed(path, name, None), name, table)
        files = {file: PARTS.get(file.stem.casefold()) for file in self._files(path)}
        found = {file: split for file, split in files.items() if split}
        if not found:
            raise ValueError(
                f"{path} holds no files of tagged words called train, val or test "
                f"({', '.join(ENDINGS)}): name one file instead"
            )
        parts = [one for file, split in found.items() for one in self._listed(file, name, split)]
        domains: defaultdict[str, list[Listing]] = defaultdict(list)
        for one in parts:
            domains[one.name].append(one)
        return [_joined(own) for own in domains.values()]

    def all_in(self, path: Path) -> list[Listing]:
        """List what lies in a place; of a folder all files of tagged words right in it.

        Raises:
            ValueError: As when it is called.
        """
        files = self._files(path) if path.is_dir() else [path]
        return [one for file in files for one in self._listed(file, normal_name(file.stem), None)]

    def _files(self, folder: Path) -> list[Path]:
        return sorted(
            one for one in folder.iterdir() if one.is_file() and one.suffix.lower() in ENDINGS
        )

    def _listed(self, file: Path, name: str, split: Split | None) -> list[Listing]:
        """List the texts of one file by domain."""
        if not file.is_file():
            raise ValueError(
                f"no file at {printable(file)}: expected words and tags ({', '.join(ENDINGS)})"
            )
        try:
            content, encoding = read_decoded(file)
        except UnreadableError as error:
            raise ValueError(f"{file} cannot be read: {error}") from error
        lines = file.suffix.lower() not in JSON_ENDINGS
        texts = list(self._of_lines(content) if lines else self._of_json(content))
        labelled = any(one.tags for one in texts)
        wrong = [f"{one.where}: {said}" for one in texts if (said := self._wrong(one, labelled))]
        if wrong:
            raise ValueError(f"{file}, {len(wrong)} texts are damaged: {first_few(wrong, '; ')}")
        if not texts:
            raise ValueError(f"{file} has no words: expected a word and its tag a line")
        domains: defaultdict[str, list[Example]] = defaultdict(list)
        for one in texts:
            text, tags = " ".join(map(_held, one.words)), " ".join(one.tags)
            own = one.split or split
            domains[one.domain or name].append(Example(file / one.where, tags, own, text=text))
        notes = [encoding_note(file.name, 1)] if encoding == LATIN else []
        return [
            Listing(domain, tuple(own), tags_of(own), (*notes, *oddities(domain, own)))
            for domain, own in domains.items()
        ]

    def _wrong(self, one: TaggedText, labelled: bool) -> str:
        """Say what is wrong with a text, if anything is."""
        if one.problem:
            return one.problem
        if (self.needed or labelled) and len(one.tags) != len(one.words):
            return f"has {len(one.words)} words and {len(one.tags)} tags: give every word one"
        if any(not BLANKS.sub("", word) for word in one.words):
            return "has an empty word: leave it out, with its tag"
        if any(BLANKS.search(tag) or CONTROL.search(tag) or not tag for tag in one.tags):
            return "has an empty tag, or one with a blank: name tags without"
        if sum(map(len, one.words)) + len(one.words) > LONGEST_TEXT:
            return f"has more than {LONGEST_TEXT} characters: part texts by empty lines"
        return ""

    def _of_lines(self, content: str) -> Iterator[TaggedText]:
        """Read texts of a word a line."""
        at = [int(one) - 1 if one.isdecimal() else None for one in (self.text, self.label)]
        first, rows = 0, list[list[str]]()
        count = 0
        for number, line in enumerate([*content.split("\n"), ""], 1):
            line = line.strip("\r\n ")
            if not line or line.startswith(BREAK):
                if rows:
                    yield _of_rows(f"line {first}", rows, at[0] or 0, at[1])
                rows = []
                continue
            if not rows and COMMENT.match(line):
                continue
            first = first if rows else number
            rows.append(line.split("\t") if "\t" in line else BLANK.split(line))
            count = count or len(rows[0])
            if len(rows[-1]) != count:
                said = f"has {len(rows[-1])} columns where the first has {count}"
                yield TaggedText(f"line {number}", [], [], f"{said}: part all lines alike")
                rows.pop()

    def _of_json(self, content: str) -> Iterator[TaggedText]:
        """Read texts that are an object a line."""
        for number, line in enumerate(content.split("\n"), 1):
            if not line.strip():
                continue
            where = f"line {number}"
            try:
                said = json.loads(line)
            except (ValueError, RecursionError):
                said = None
            words = said.get(self.text) if isinstance(said, dict) else None
            if not isinstance(said, dict) or not _is_words(words):
                wanted = f'{{"{self.text}": ["a", "word"], "{self.label}": ["O", "O"]}}'
                yield TaggedText(where, [], [], f"is no object such as {wanted}")
                continue
            tags = said.get(self.label)
            tags = [] if tags is None else tags
            split = str(said.get("split") or "").strip().casefold()
            problem = ""
            if not isinstance(tags, list) or not all(
                one is None or isinstance(one, str | int) for one in tags
            ):
                tags, problem = [], f"its {self.label} are {shown(tags)} and should be a list"
            elif split and split not in PARTS:
                problem = f"split {split!r} is none of train, val, test"
            named = [NO_TAG if one is None else normal_name(str(one)) for one in tags]
            domain = normal_name(str(said.get("domain") or ""))
            yield TaggedText(where, words or [], named, problem, PARTS.get(split), domain)


def _of_rows(where: str, rows: list[list[str]], word: int, tag: int | None) -> TaggedText:
    """Make a text of the columns of its lines; one column alone has no tags."""
    columns = len(rows[0])
    if word >= columns or (tag is not None and tag >= columns):
        return TaggedText(where, [], [], f"has {columns} columns: name others by their numbers")
    last = columns - 1 if tag is None else tag
    tags = [] if last == word else [normal_name(row[last]) for row in rows]
    return TaggedText(where, [row[word] for row in rows], tags)


def _is_words(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(one, str) for one in found)


def _held(word: str) -> str:
    """Give a word as it is held: blanks in it become ones that part no words."""
    return SURROGATES.sub("\ufffd", BLANKS.sub("\u00a0", compose(word.strip())))


def tags_of(examples: Iterable[Example]) -> tuple[str, ...]:
    """Give the tags of texts in their order, without what stands for none."""
    return class_order(counted_tags(examples).keys() - {NO_TAG})


def _joined(parts: list[Listing]) -> Listing:
    """Put the files of one domain together."""
    examples = tuple(example for one in parts for example in one.examples)
    notes = tuple(dict.fromkeys(note for one in parts for note in one.notes))
    return Listing(parts[0].name, examples, tags_of(examples), notes)

"""Texts with labels: tables, JSON lines, and folders of text files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adaptune.data.files import Passed, images_below
from adaptune.data.listing import Example, Listing
from adaptune.data.names import class_order, first_few, normal_name, on_disk, printable
from adaptune.data.readers.folder import SPLITS, DiskTree, is_flat, read_flat, read_folder
from adaptune.data.readers.text_tables import SUFFIXES, TextRow, read_table, row_problem
from adaptune.data.sample import UnreadableError
from adaptune.data.sources import named_domains
from adaptune.data.texts import LATIN, LONGEST_TEXT, held, read_decoded

ENDINGS = (".txt", ".text")
"""What files that are one text each end in."""


def is_text(name: str) -> bool:
    """Tell whether a file is called a text.

    >>> is_text("1.TXT"), is_text(".txt"), is_text("1.csv")
    (True, False, False)
    """
    return Path(name).suffix.lower() in ENDINGS


class TextTree(DiskTree):
    """Folders of text files, of this machine."""

    such = "CLASS/1.txt"

    def images_below(self, folder: Path, passed: Passed) -> list[Path]:
        """List the text files in a folder, however deep."""
        return images_below(folder, passed, is_text)

    def images_in(self, folder: Path, wanted: Callable[[str], bool] = is_text) -> list[Path]:
        """List the text files right in a folder."""
        return super().images_in(folder, wanted)


TREE = TextTree()


@dataclass(frozen=True)
class TextSource:
    """Lists texts with their labels, one listing a domain; texts are held, ids are not.

    A place is a CSV, Parquet or JSON-lines table with a column for the text and one for the label
    (``domain`` and ``split`` are taken where there are such), or a folder of class folders of text
    files, or a text file. What is odd about texts is said in notes and stops nothing.

    Args:
        text: The column of texts.
        label: The column of labels.
        needed: Whether there must be labels.
    """

    text: str = "text"
    label: str = "label"
    needed: bool = True

    def __call__(self, path: Path, name: str) -> list[Listing]:
        """List what lies in a place.

        Raises:
            ValueError: If there is nothing, or a table is damaged or lacks a column.
        """
        path, name, table = on_disk(path), normal_name(name), normal_name(path.stem)
        if path.suffix.lower() in SUFFIXES:
            return named_domains(self._tables(path, name), name, table)
        if path.is_file() and is_text(path.name) and not self.needed:
            return [self._of_files(Listing(name, (Example(path, ""),), ()))]
        flat = not self.needed and path.is_dir() and is_flat(path, TREE)
        return [self._of_files((read_flat if flat else read_folder)(path, name, TREE))]

    def without_labels(self) -> TextSource:
        """Give the same where labels may be missing, as of a target, or of texts to answer."""
        return replace(self, needed=False)

    def all_in(self, path: Path) -> list[Listing]:
        """List what lies in a place; of a folder all text files below, without labels.

        Raises:
            ValueError: As when it is called.
        """
        if path.is_dir():
            return [self._of_files(read_flat(path, normal_name(path.name), TREE))]
        if path.suffix.lower() not in SUFFIXES:  # named, so it is taken whatever it is called
            return [self._of_files(Listing(printable(path.name), (Example(path, ""),), ()))]
        return self(path, path.stem)

    def _tables(self, file: Path, name: str) -> list[Listing]:
        columns, rows, encoding = read_table(file)
        self._check(file, columns)
        domains: defaultdict[str, list[Example]] = defaultdict(list)
        wrong: list[str] = []
        labelled = self.label in columns
        for row in rows:
            if complaint := self._complaint(row, labelled):
                wrong.append(f"{row.where}: {complaint}")
                continue
            said = row.values
            domain = normal_name(said.get("domain", "")) or name
            split = SPLITS.get(said.get("split", "").strip().casefold())
            label = normal_name(said[self.label]) if labelled else ""
            text = held(said[self.text])
            domains[domain].append(Example(file / row.where, label, split, text=text))
        if wrong:
            raise ValueError(f"{file}, {first_few(wrong, '; ')}")
        if not domains:
            raise ValueError(f"{file} has no rows: expected the columns {self._layout()}")
        notes = [encoding_note(file.name, 1)] if encoding == LATIN else []
        return [
            Listing(
                domain,
                tuple(found),
                class_order({one.label for one in found} - {""}),
                (*notes, *oddities(domain, found)),
            )
            for domain, found in domains.items()
        ]

    def _layout(self) -> str:
        return f"{self.text},{self.label}[,domain,split]"

    def _check(self, file: Path, columns: Sequence[str]) -> None:
        """Refuse a table that lacks a column or has one twice."""
        needed = [self.text, *([self.label] if self.needed else [])]
        for column, option in zip(needed, ("--text-column", "--label-column"), strict=False):
            if column not in columns:
                raise ValueError(
                    f"{file} lacks the column {column}: expected {self._layout()} and found "
                    f"{printable(','.join(columns))}; name another with {option}"
                )
        twice = [one for one in (*needed, "domain", "split") if columns.count(one) > 1]
        if twice:
            raise ValueError(f"{file} has the column {twice[0]} twice: keep one of them")

    def _complaint(self, row: TextRow, labelled: bool) -> str:
        """Say what is wrong with a row, if anything is."""
        if problem := row_problem(row, (self.label, "domain", "split")):
            return problem
        if labelled and self.needed and not row.values[self.label].strip():
            return "its label is empty"
        return ""

    def _of_files(self, listing: Listing) -> Listing:
        """Read the files of a listing; those that cannot be read are told when they are due."""
        examples: list[Example] = []
        latin = 0
        for one in listing.examples:
            try:
                text, encoding = read_decoded(one.path)
            except UnreadableError:
                examples.append(one)
                continue
            latin += encoding == LATIN
            examples.append(replace(one, text=held(text.strip())))
        notes = [encoding_note(listing.name, latin)] if latin else []
        notes += oddities(listing.name, examples)
        return replace(listing, examples=tuple(examples), notes=(*listing.notes, *notes))


def encoding_note(name: str, files: int) -> str:
    """Say that a file was not in UTF-8."""
    many = f"{files} files are" if files > 1 else "a file is"
    return f"{name}: {many} not in UTF-8, and read as Latin-1: save in UTF-8 if letters are wrong"


def oddities(
    name: str, examples: Sequence[Example], torn_how: str = "under several labels"
) -> Iterator[str]:
    """Say how many texts are empty, were cut, or are in several splits or under several labels."""
    empty = sum(one.text is not None and not one.text.strip() for one in examples)
    if empty:
        yield f"{name}: {empty} texts are empty"
    cut = sum(one.text is not None and len(one.text) == LONGEST_TEXT for one in examples)
    if cut:
        yield f"{name}: {cut} texts were cut after {LONGEST_TEXT} characters"
    labels: defaultdict[str, set[str]] = defaultdict(set)
    splits: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in examples:
        if one.text:
            labels[one.subject].add(one.label)
            splits[one.subject][one.split or ""] += 1
    torn = sum(len(own) > 1 for own in labels.values())
    if torn:
        yield f"{name}: {torn} texts stand {torn_how}"
    twice = sum(counted.total() - 1 for counted in splits.values())
    apart = sum(len(counted) > 1 for counted in splits.values())
    if twice:
        told = f", {apart} of them in several splits, which makes scores too high" if apart else ""
        yield f"{name}: {twice} texts repeat another{told}"


def text_examples(words: Sequence[str], source: TextSource) -> tuple[list[Example], list[str]]:
    """List the texts of files, tables and folders in their order, with the labels of tables.

    Raises:
        ValueError: As `TextSource`.
    """
    read = source.without_labels()
    found = [one for word in words for one in read.all_in(Path(word))]
    notes = [note for one in found for note in one.notes]
    return [replace(one, split=None) for listing in found for one in listing.examples], notes

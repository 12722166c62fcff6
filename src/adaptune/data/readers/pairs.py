"""Pairs: texts, or images, with the text that belongs to each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adaptune.data.files import Passed, images_below, is_image
from adaptune.data.listing import Example, Listing
from adaptune.data.names import first_few, normal_name, on_disk, printable
from adaptune.data.readers.folder import SPLITS, folders_in
from adaptune.data.readers.text_tables import SUFFIXES, read_table, row_problem
from adaptune.data.readers.texts import encoding_note, is_text, oddities
from adaptune.data.sample import UnreadableError
from adaptune.data.sources import named_domains
from adaptune.data.texts import LATIN, held, read_text
from adaptune.types import Split

PARTNERS = ("partner", "caption")
"""What the column of partners is called, unless it is told."""

PAIRED = ("text",)
"""What stands for the classes of a listing that has partners."""


@dataclass(frozen=True)
class PairSource:
    """Lists pairs, one listing a domain: the label of an example is its partner, a text.

    A place is a CSV, Parquet or JSON-lines table with a column for the text, or else for the
    ``path`` of an image relative to the table, and one for the partner (``domain`` and ``split``
    are taken where there are such). Of images it may be a folder too, in which ``1.txt`` lies
    beside ``1.png``, in whatever folders below; train, val and test are splits.

    Args:
        text: The column of texts; "" where images have the partners.
        partner: The column of partners; by default ``partner``, or else ``caption``.
        needed: Whether there must be partners.
    """

    text: str = ""
    partner: str = ""
    needed: bool = True

    def __call__(self, path: Path, name: str) -> list[Listing]:
        """List what lies in a place.

        Raises:
            ValueError: If there is nothing, or a table is damaged or lacks a column.
        """
        path, name, table = on_disk(path), normal_name(name), normal_name(path.stem)
        if path.suffix.lower() in SUFFIXES:
            return named_domains(self._tables(path, name), name, table)
        if self.text:
            raise ValueError(
                f"{printable(path)} is no table, and pairs of texts are its rows: give a "
                f"{', '.join(SUFFIXES)} file with the columns {self._layout()}"
            )
        return [self._folder(path, name)]

    def without_labels(self) -> PairSource:
        """Give the same where partners may be missing, as of a target."""
        return replace(self, needed=False)

    @property
    def own(self) -> str:
        """The column of what has partners."""
        return self.text or "path"

    def _layout(self) -> str:
        return f"{self.own},{self.partner or PARTNERS[0]}[,domain,split]"

    def _tables(self, file: Path, name: str) -> list[Listing]:
        columns, rows, encoding = read_table(file)
        partner = self._partner(file, columns)
        domains: defaultdict[str, list[Example]] = defaultdict(list)
        wrong: list[str] = []
        plain = ("domain", "split", *(() if self.text else ("path",)))
        for row in rows:
            problem = row_problem(row, plain)
            if not problem and not self.text and not row.values["path"]:
                problem = "path is empty"
            if problem:
                wrong.append(f"{row.where}: {problem}")
                continue
            said = row.values
            domain = normal_name(said.get("domain", "")) or name
            split = SPLITS.get(said.get("split", "").strip().casefold())
            label = held(said[partner]) if partner else ""
            one = Example(file / row.where, label, split, text=held(said[self.own]))
            if not self.text:
                one = replace(one, path=on_disk(file.parent / said["path"]), text=None)
            domains[domain].append(one)
        if wrong:
            raise ValueError(f"{file}, {first_few(wrong, '; ')}")
        if not domains:
            raise ValueError(f"{file} has no rows: expected the columns {self._layout()}")
        notes = [encoding_note(file.name, 1)] if encoding == LATIN else []
        return [
            _listing(domain, found, [*notes, *oddities(domain, found, "with several partners")])
            for domain, found in domains.items()
        ]

    def _partner(self, file: Path, columns: Sequence[str]) -> str:
        """Find the column of partners; "" where there is none and none is needed.

        Raises:
            ValueError: If a column is missing, or there twice.
        """
        wanted = (self.partner,) if self.partner else PARTNERS
        found = [one for one in wanted if one in columns]
        lacking = [] if self.own in columns else [self.own]
        lacking += [wanted[0]] if self.needed and not found else []
        if lacking:
            option = "--partner-column" if self.own in columns else "--text-column"
            told = f"; name another with {option}" if lacking != ["path"] else ""
            raise ValueError(
                f"{file} lacks the column {' and '.join(lacking)}: expected {self._layout()} and "
                f"found {printable(','.join(columns))}{told}"
            )
        for one in (self.own, *found[:1], "domain", "split"):
            if columns.count(one) > 1:
                raise ValueError(f"{file} has the column {one} twice: keep one of them")
        return found[0] if found else ""

    def _folder(self, root: Path, name: str) -> Listing:
        """List the images of a folder with the texts of the same stem beside them.

        Raises:
            ValueError: If there is no image, or no partner though these are needed.
        """
        folders_in(root, Passed())  # refuses a folder that is missing or closed
        passed = Passed()
        below = images_below(root, passed, lambda name: is_image(name) or is_text(name))
        files = [file for file in below if is_image(file.name)]
        found = [Example(file, _beside(file), _split_of(file.relative_to(root))) for file in files]
        if not files or (self.needed and not any(one.label for one in found)):
            what = "images with a text beside them" if files else "images"
            raise ValueError(
                f"{printable(root)} holds no {what}: expected 1.txt beside 1.png, or a table with "
                f"the columns {self._layout()}"
            )
        return _listing(name, found, [*passed.counts(name), *passed.named_in(name)])


def _listing(name: str, found: Sequence[Example], notes: Sequence[str]) -> Listing:
    paired = any(one.label.strip() for one in found)
    return Listing(name, tuple(found), PAIRED if paired else (), tuple(notes))


def _beside(image: Path) -> str:
    """Read the text of the same stem; "" where there is none.

    Raises:
        ValueError: If it is there and cannot be read.
    """
    file = image.with_suffix(".txt")
    if not file.exists():
        return ""
    try:
        return read_text(file)
    except UnreadableError as error:
        raise ValueError(f"{printable(file)} cannot be read: {error}") from error


def _split_of(place: Path) -> Split | None:
    """Say which split the first folder on the way to an image is called after, if any."""
    return SPLITS.get(place.parts[0].casefold()) if len(place.parts) > 1 else None

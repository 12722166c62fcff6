"""What a run asks people: of which images, and which answers there are."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from adaptune.data.listing import Example, Part
from adaptune.data.names import printable
from adaptune.runtime.files import write_text


@dataclass(frozen=True)
class Questions:
    """The images whose labels a run waits for, and the names of its classes."""

    images: tuple[Example, ...]
    classes: tuple[str, ...]

    def save(self, file: Path) -> None:
        """Write them as JSON, in one step."""
        asked = [
            {"path": str(one.path), "part": asdict(one.part) if one.part else None}
            for one in self.images
        ]
        text = json.dumps({"classes": self.classes, "images": asked}, default=str, indent=1)
        write_text(file, text + "\n")

    @classmethod
    def load(cls, file: Path) -> Questions:
        """Read them; a file that is not there asks nothing.

        Raises:
            ValueError: If the file is damaged.
        """
        try:
            said = json.loads(file.read_text(encoding="utf-8"))
            images = [
                Example(Path(one["path"]), "", part=_part(one["part"])) for one in said["images"]
            ]
            return cls(tuple(images), tuple(map(str, said["classes"])))
        except FileNotFoundError:
            return cls((), ())
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} is damaged: go on with --resume, which writes it again"
            ) from error


def _part(said: dict[str, object] | None) -> Part | None:
    if said is None:
        return None
    offset, size = (int(str(said[name])) for name in ("offset", "size"))
    file, member = Path(str(said["file"])), str(said["member"])
    return Part(file, member, offset, size, str(said.get("version", "")))


def name_in_table(path: Path) -> str:
    """Name a file as the table does: wherever the run is gone on with, and printable."""
    return printable(path.absolute())

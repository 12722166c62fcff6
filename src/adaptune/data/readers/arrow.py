"""Data sets of Hugging Face: their Arrow files, in which images lie as they were encoded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from adaptune.data.files import is_image
from adaptune.data.listing import Example, Listing, Part
from adaptune.data.names import class_order, first_few, normal_name, on_disk, printable
from adaptune.data.readers.folder import SPLITS
from adaptune.data.words import HOSTED
from adaptune.types import Split

IMAGES, LABELS = ("image", "img"), ("label", "labels")
"""What columns are called where their types do not say what they are."""

ArrowFiles = dict[str, list[Path]]
"""The Arrow files of each split; of a data set without splits under ""."""


def is_hosted(source: Path) -> bool:
    """Tell whether a source is a data set of Hugging Face, by ``hf:`` before it."""
    return str(source).startswith(HOSTED)


def read_arrow(source: Path, name: str) -> Listing:
    """List the images of ``hf:FOLDER``, which `save_to_disk` wrote, or of ``hf:NAME``.

    An image is where it lies in its Arrow file, encoded as it was, so no row is held in memory. Of
    the columns that is taken as images whose type says so, or that is called ``image`` or ``img``;
    as labels that of a class, or that is called ``label`` or ``labels``. A NAME, and a folder of
    another layout, is opened by the package ``datasets``, which keeps its own Arrow files.

    Raises:
        ValueError: If there is no such data set, a package is missing, no column is the one of
            images or of labels, or images are stored in another way.
    """
    name = name.removeprefix(HOSTED)
    word = str(source).removeprefix(HOSTED)
    lacking = list[str]()
    examples: list[Example] = []
    for split, files in _arrow_files(on_disk(Path(word)), word).items():
        row = 0
        for file in files:
            for found in _rows(file):
                stem = f"{Path(name).name}-{split or 'row'}-{row:07}"
                row += 1
                example = _example(file, stem, SPLITS.get(split.casefold()), *found)
                if example is None:
                    lacking.append(printable(stem))
                else:
                    examples.append(example)
    if not examples:
        raise ValueError(f"{printable(word)} holds no image with a label")
    said = f"{name}: {len(lacking)} rows lack image or label: {first_few(lacking)}"
    notes = [said] if lacking else []
    return Listing(name, tuple(examples), class_order(e.label for e in examples), tuple(notes))


Row = tuple[str, int, int, str]
"""What an image is called, its first byte in the file, how many it has, and its label."""


def _example(
    file: Path, stem: str, split: Split | None, called: str, offset: int, size: int, label: str
) -> Example | None:
    if not label or (not size and not called):
        return None
    if not size:
        return Example(on_disk(Path(called)), label, split)
    member = Path(called).name if is_image(Path(called).name) else stem
    return Example(file / member, label, split, Part(file, member, offset, size))


def _arrow_files(folder: Path, word: str) -> ArrowFiles:
    """Find the Arrow files of a data set."""
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        return _known_splits({split: _saved(folder / split) for split in splits}, word)
    if (folder / "state.json").is_file():
        return {"": _saved(folder)}
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f"{HOSTED}{word} is opened by a package: pip install 'adaptune[datasets]'"
        ) from error
    try:
        found: Mapping[str, Any] = datasets.load_dataset(word)
    except Exception as error:  # whatever the hub, the network or the files make it raise
        raise ValueError(
            f"no data set could be opened at {printable(word)} ({error}): give a folder that "
            "save_to_disk wrote, or the name of one on the hub"
        ) from error
    splits = {
        split: [Path(one["filename"]) for one in part.cache_files] for split, part in found.items()
    }
    return _known_splits(splits, word)


def _known_splits(splits: ArrowFiles, word: str) -> ArrowFiles:
    """Keep splits that are for training, validation or test; a single one is all there is."""
    if len(splits) == 1:
        return {"": next(iter(splits.values()))}
    known = {split: files for split, files in splits.items() if split.casefold() in SPLITS}
    if "train" not in {SPLITS[split.casefold()] for split in known}:
        raise ValueError(
            f"{printable(word)} has the splits {', '.join(splits)}, of which none is called train"
        )
    return known


def _saved(folder: Path) -> list[Path]:
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if state.get("_indices_data_files"):
        raise ValueError(
            f"{folder} is a selection of other rows: save it again after flatten_indices()"
        )
    return [folder / one["filename"] for one in state["_data_files"]]


def _rows(file: Path) -> Iterator[Row]:
    """Give the rows of an Arrow file, by its mapping into memory alone."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ValueError(
            "Arrow files are read by a package: pip install 'adaptune[datasets]'"
        ) from error
    try:
        mapped = pa.memory_map(str(file))
        whole = mapped.read_buffer(mapped.size())
        reader = pa.ipc.open_stream(whole)
        images, labels, names = _columns(reader.schema, file)
        for batch in reader:
            yield from _batch_rows(batch.column(images), batch.column(labels), names, whole, file)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(
            f"{printable(file)} could not be read as an Arrow file ({error}): save it again"
        ) from error


def _columns(schema: Any, file: Path) -> tuple[int, int, Sequence[str]]:
    """Find the columns of images and labels, and the names of classes that are numbers."""
    said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = said.get("info", {}).get("features", {})
    kinds = {
        name: one.get("_type", "") if isinstance(one, dict) else ""
        for name, one in features.items()
    }
    image = _one_of(schema.names, kinds, "Image", IMAGES, file)
    label = _one_of(schema.names, kinds, "ClassLabel", LABELS, file)
    names = features.get(label, {}).get("names", ())
    return schema.names.index(image), schema.names.index(label), names


def _one_of(
    columns: Sequence[str],
    kinds: Mapping[str, str],
    kind: str,
    names: Sequence[str],
    file: Path,
) -> str:
    found = [name for name in columns if kinds.get(name) == kind]
    if len(found) != 1:
        found = [name for name in columns if name in names]
    if len(found) != 1:
        raise ValueError(
            f"{printable(file)} has the columns {', '.join(columns)}, and one of the type {kind}, "
            f"or called {' or '.join(names)}, is needed: rename a column"
        )
    return found[0]


def _batch_rows(
    images: Any, labels: Any, names: Sequence[str], whole: Any, file: Path
) -> Iterator[Row]:
    """Give the rows of one batch: where the bytes of each image lie, and its label."""
    import pyarrow as pa

    if pa.types.is_struct(images.type):
        called = images.field("path").to_pylist()
        images = images.field("bytes")
    else:
        called = [""] * len(images)
    if not (pa.types.is_binary(images.type) or pa.types.is_large_binary(images.type)):
        raise ValueError(
            f"{printable(file)} stores images as {images.type}: expected encoded images, as "
            "datasets' type Image has them"
        )
    width: Literal["q", "i"] = "q" if pa.types.is_large_binary(images.type) else "i"
    _, ends, data = images.buffers()
    offsets = memoryview(ends).cast("B").cast(width)[images.offset :] if ends else ()
    begin = data.address - whole.address if data is not None else 0
    if data is not None and not 0 <= begin <= whole.size:
        raise ValueError(f"{printable(file)} is compressed: save it again without compression")
    present = images.is_valid().to_pylist()
    for row, label in enumerate(labels.to_pylist()):
        size = offsets[row + 1] - offsets[row] if present[row] else 0
        place = begin + offsets[row] if size else 0
        yield called[row] or "", place, size, _word(label, names)


def _word(label: Any, names: Sequence[str]) -> str:
    """Give a label as a word; "" where there is none.

    >>> _word(1, ["cat", "dog"]), _word(-1, ["cat", "dog"]), _word(7, ()), _word(None, ())
    ('dog', '', '7', '')
    """
    if label is None:
        return ""
    if names and isinstance(label, int):
        return normal_name(names[label]) if 0 <= label < len(names) else ""
    return normal_name(str(label))

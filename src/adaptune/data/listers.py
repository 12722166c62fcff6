"""What lists a place: images by class, scenes with masks, or texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adaptune.data.names import normal_name
from adaptune.data.readers.pairs import PairSource
from adaptune.data.readers.scenes import SceneReader
from adaptune.data.readers.tags import TagSource
from adaptune.data.readers.texts import TextSource
from adaptune.data.sources import ListingReader, read_source
from adaptune.tasks.task import LabelKind


def listing_reader(
    labels: LabelKind,
    masks: Mapping[str, Path] | None = None,
    own: str = "",
    texts: TextSource | PairSource | None = None,
) -> ListingReader:
    """Give what lists a place whose labels are of a kind; ``own`` is the name of the source.

    Labels that are texts are partners, by default of images.

    Raises:
        ValueError: If masks are given under the name that the source has, or of texts, or tags are
            to be those of images.
    """
    if labels == "text":
        if isinstance(texts, TextSource):
            return PairSource(texts.text)
        return texts or PairSource()
    if labels == "tags" and not isinstance(texts, TagSource):
        raise ValueError("tags are of words, which images lack: give --backbone minilm or ngrams")
    if texts is not None:
        if labels == "mask":
            raise ValueError("masks lie on images, and these are texts: leave out --task")
        return texts
    if labels != "mask":
        return read_source
    named = {normal_name(name or own): Path(place) for name, place in (masks or {}).items()}
    if len(named) < len(masks or {}):
        raise ValueError(
            f"the images to train on are called {own} themselves: give that domain another name"
        )
    return SceneReader(named)

"""Any torch data sets as the data of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch.utils.data import Dataset

from adaptune.data.dataset_rows import DatasetRows
from adaptune.data.domains import DomainData, Loading, RowSource
from adaptune.data.inputs.image import transform_for
from adaptune.data.names import refuse_taken
from adaptune.data.target import Target
from adaptune.networks.network import Preprocess
from adaptune.types import UNKNOWN, Split


def from_datasets(
    train: Dataset[Any],
    val: Dataset[Any],
    test: Dataset[Any],
    *,
    classes: Sequence[str],
    ood: Mapping[str, Dataset[Any]] | None = None,
    scanned: Dataset[Any] | None = None,
    target: Dataset[Any] | None = None,
    loading: Loading | None = None,
    open_set: bool = False,
) -> DomainData:
    """Serve any torch data sets of pairs (image, label), or of dicts that hold both.

    Images that are PIL images, or 8-bit tensors (C, H, W) from 0 to 255, are resized and normalised
    as the network wants it (as for ImageNet until `ImageDomains.with_input` says how); other
    tensors are inputs as they are. Dicts have ``image``, ``img`` or ``pixel_values`` and ``label``
    or ``labels``. A label is the number of a class, its name or a one-hot row; one that is none
    of these ends the pass that reads it.

    Args:
        train: What to learn from; it may augment.
        val: What chooses the epoch.
        test: What is tested as ``id``.
        classes: The names of the classes, in the order of their numbers.
        ood: Further sets to test on, by name.
        scanned: ``train`` without augmentation, for passes that measure; by default ``train``.
        target: What to adapt to: its labels, if it has any, are dropped.
        loading: How batches are made.
        open_set: Let labels of ``ood`` be the number of classes, or "unknown", for none of them.

    Raises:
        ValueError: If a name of ``ood`` is that of another set.
    """
    refuse_taken(ood or {})
    rows = partial(DatasetRows, transform=transform_for(Preprocess()), classes=tuple(classes))
    sets: dict[Split, RowSource] = {
        "train": rows(scanned if scanned is not None else train, name="train"),
        "val": rows(val, name="val"),
        "test": rows(test, name="test"),
    }
    names = (*classes, UNKNOWN) if open_set else tuple(classes)
    others: dict[str, RowSource] = {
        name: rows(one, name=name, classes=names) for name, one in (ood or {}).items()
    }
    goal = Target()
    if target is not None:
        images = rows(target, name="target", labeled=False)
        goal = Target("target", images, images)
    learnt = rows(train, name="train")
    return DomainData(tuple(classes), sets, others, learnt, loading or Loading(), target=goal)

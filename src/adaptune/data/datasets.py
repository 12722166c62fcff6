"""Any torch data sets as the data of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch.utils.data import Dataset

from adaptune.data.dataset_rows import DatasetRows
from adaptune.data.domains import DomainData, Loading, RowSource
from adaptune.data.inputs import input_of
from adaptune.data.labels import NoLabels, labels_of
from adaptune.data.names import refuse_taken
from adaptune.data.target import Target
from adaptune.networks.network import Preprocess
from adaptune.tasks.task import LabelKind
from adaptune.types import Split


def from_datasets(
    train: Dataset[Any],
    val: Dataset[Any],
    test: Dataset[Any],
    *,
    classes: Sequence[str] = (),
    labels: LabelKind = "class",
    ood: Mapping[str, Dataset[Any]] | None = None,
    scanned: Dataset[Any] | None = None,
    target: Dataset[Any] | None = None,
    loading: Loading | None = None,
    open_set: bool = False,
) -> DomainData:
    """Serve any torch data sets of pairs (image, label), or of dicts that hold both.

    Images that are PIL images, or 8-bit tensors (C, H, W) from 0 to 255, are resized and normalised
    as the network wants it (as for ImageNet until `DomainData.with_input` says how); other
    tensors are inputs as they are. Dicts have ``image``, ``img`` or ``pixel_values`` and ``label``
    or ``labels``. A label is the number of a class, its name or a one-hot row, or of values a
    number or a row of them, float32, of masks whole numbers (height, width), which move as images
    do if the set moves both, or a partner, a text; one that is none of these ends the pass that
    reads it.

    Args:
        train: What to learn from; it may augment.
        val: What chooses the epoch.
        test: What is tested as ``id``.
        classes: The names of the classes, in the order of their numbers; of values, theirs.
        labels: What labels are: classes, masks ("mask"), partners ("text"), or numbers ("value"),
            of which a single one is (N, 1).
        ood: Further sets to test on, by name.
        scanned: ``train`` without augmentation, for passes that measure; by default ``train``.
        target: What to adapt to: its labels, if it has any, are dropped.
        loading: How batches are made.
        open_set: Let labels of ``ood`` be the number of classes, or "unknown", for none of them.

    Raises:
        ValueError: If a name of ``ood`` is that of another set, or classes have no names.
    """
    refuse_taken(ood or {})
    if labels in ("class", "mask") and not classes:
        raise ValueError("labels are classes and have no names: give classes=[...], or values")
    own, wider = labels_of(labels, classes), labels_of(labels, classes, open_set=open_set)
    rows = partial(DatasetRows, reader=input_of(Preprocess()), meaning=own)
    sets: dict[Split, RowSource] = {
        "train": rows(scanned if scanned is not None else train, name="train"),
        "val": rows(val, name="val"),
        "test": rows(test, name="test"),
    }
    others: dict[str, RowSource] = {
        name: rows(one, name=name, meaning=wider) for name, one in (ood or {}).items()
    }
    goal = Target()
    if target is not None:
        images = rows(target, name="target", meaning=NoLabels(), labeled=False)
        goal = Target("target", images, images)
    learnt, loading = rows(train, name="train"), loading or Loading()
    return DomainData(own.names, sets, others, learnt, loading, labels=labels, target=goal)

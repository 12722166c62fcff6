"""What is predicted, one task a file; here are their names: the second list of the house."""

from __future__ import annotations

from adaptune.tasks.classification import Classification as Classification
from adaptune.tasks.matching import Matching as Matching
from adaptune.tasks.segmentation import Segmentation as Segmentation
from adaptune.tasks.tagging import Tagging as Tagging
from adaptune.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "matching": Matching,
    "tagging": Tagging,
}
"""Tasks by name. Each is built of a number of classes, one of labelled domains, and its options."""

"""Take a pretrained network to a new domain without wrecking what it already knows."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptune.batchnorm.conversion import ConversionReport as ConversionReport
    from adaptune.batchnorm.conversion import convert_batchnorm as convert_batchnorm
    from adaptune.batchnorm.layers import describe_batchnorm as describe_batchnorm
    from adaptune.batchnorm.layers import hold_batchnorm as hold_batchnorm
    from adaptune.data import Loading as Loading
    from adaptune.data import Shares as Shares
    from adaptune.data import from_datasets as from_datasets
    from adaptune.data import open_domains as open_domains
    from adaptune.engine.evaluate import evaluate as evaluate
    from adaptune.engine.loop import fit as fit
    from adaptune.engine.method import Method as Method
    from adaptune.engine.plan import Plan as Plan
    from adaptune.engine.streaming import stream as stream
    from adaptune.methods import *  # noqa: F403
    from adaptune.methods import METHODS as METHODS
    from adaptune.networks.backbones import open_backbone as open_backbone
    from adaptune.networks.network import Network as Network
    from adaptune.ops.distortion import feature_distortion as feature_distortion
    from adaptune.runs.estimator import AdaptedClassifier as AdaptedClassifier
    from adaptune.tasks.classification import Classification as Classification
    from adaptune.tasks.segmentation import Segmentation as Segmentation
    from adaptune.tasks.task import Task as Task

# Where each public name lives. It is imported when it is first used, so that the command line can
# say what it has to say before torch is loaded. The methods are found by their list.
_HOMES = {
    "AdaptedClassifier": "runs.estimator",
    "ConversionReport": "batchnorm.conversion",
    "Loading": "data",
    "METHODS": "methods",
    "Method": "engine.method",
    "Network": "networks.network",
    "Plan": "engine.plan",
    "Segmentation": "tasks.segmentation",
    "Shares": "data",
    "Classification": "tasks.classification",
    "Task": "tasks.task",
    "convert_batchnorm": "batchnorm.conversion",
    "describe_batchnorm": "batchnorm.layers",
    "evaluate": "engine.evaluate",
    "feature_distortion": "ops.distortion",
    "fit": "engine.loop",
    "from_datasets": "data",
    "hold_batchnorm": "batchnorm.layers",
    "open_backbone": "networks.backbones",
    "open_domains": "data",
    "stream": "engine.streaming",
}


def __getattr__(name: str) -> Any:
    homes = _HOMES
    if name == "__all__" or not (name in homes or name.startswith("_")):
        from adaptune.catalog import homes as listed

        homes = homes | listed()
    if name == "__all__":
        return sorted(homes)
    if name not in homes:
        raise AttributeError(f"module 'adaptune' has no attribute {name!r}")
    return getattr(import_module(f"adaptune.{homes[name]}"), name)

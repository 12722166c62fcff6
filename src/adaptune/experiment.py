"""One run from data to results: what `fit` and `compare` do for each method and seed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.backbone import open_backbone
from adaptune.data.domains import ImageDomains
from adaptune.data.images import Augment
from adaptune.descent import Plan
from adaptune.loop import Epoch, evaluate, fit
from adaptune.method import Method
from adaptune.network import Network
from adaptune.ops.batchnorm import batchnorms
from adaptune.ops.distortion import Snapshot, feature_distortion, snapshot, weight_change
from adaptune.run import Run, machine
from adaptune.task import Scores, Task, hardest
from adaptune.terminal import Terminal
from adaptune.types import Outputs

WORST = 12
"""Surely wrong images that a report shows of each test set."""


SMALL_BATCH = 16
"""Images a batch under which people are warned of noisy batch norms."""


@dataclass(frozen=True)
class Setting:
    """What is adapted and on what.

    Args:
        backbone: A built-in name (efficientnet-lite0 to -lite2), a timm name, or torchvision/NAME.
        weights: A local weights file, or "none" for random weights; by default the name's own.
        image_size: The side of inputs in pixels; by default the network's own.
        crop: The share of the shorter side that the centre crop keeps; by default the network's.
        augment: How training images are varied: not at all, by flips, or by crops and flips.
        device: Where to compute: auto, cpu or cuda.
        precision: Arithmetic: 32-true, bf16-mixed or 16-mixed.
    """

    backbone: str = "efficientnet-lite0"
    weights: str | None = None
    image_size: int | None = None
    crop: float | None = None
    augment: Augment = "flip"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"

    def network(self, classes: tuple[str, ...]) -> Network:
        """Build the network, with the preprocessing that was asked for."""
        net = open_backbone(self.backbone, classes, weights=self.weights)
        look = net.preprocess
        net.preprocess = replace(
            look, size=self.image_size or look.size, crop=self.crop or look.crop
        )
        return net

    def fabric(self) -> Fabric:
        """Choose device and precision."""
        return Fabric(accelerator=self.device, devices=1, precision=self.precision)


Features = dict[str, Tensor]
"""Features of each test set before training, by name."""


def experiment(
    run: Run,
    method: type[Method],
    options: Mapping[str, Any],
    data: ImageDomains,
    setting: Setting,
    plan: Plan,
    *,
    name: str,
    terminal: Terminal,
    before: Features | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train one method once, and measure what came of it.

    The network that is tested is the one saved as best: that of the latest epoch whose accuracy on
    ID validation lies within one standard error of the highest. On few validation images the very
    highest is luck, and earlier epochs have not settled. Its features are compared with those of
    the pretrained network; its weights with those that training started from.

    Args:
        run: The folder that all this goes to.
        method: The method's class.
        options: Its hyper-parameters.
        data: Images, as the network wants them or not yet.
        setting: Backbone, preprocessing, device.
        plan: How long to train.
        name: What the method is called.
        terminal: Where progress is shown.
        before: The pretrained network's features of the test sets, where they are known already;
            an empty one is filled.
        resume: Go on from the run's checkpoint, if there is one.

    Returns:
        The results as they stand in ``results.json``.

    Raises:
        ValueError: If there are no images to train, validate or test on.
    """
    for split, rows in data.sets.items():
        if not len(rows):
            raise ValueError(
                f"there are no {split} images: give the data a {split} folder, or more images, or "
                "a larger share (--val-share, --test-share)"
            )
    began = time.perf_counter()
    torch.manual_seed(plan.seed)
    net = setting.network(data.classes)
    data = data.seen_through(net.preprocess, setting.augment)
    fabric, task = setting.fabric(), Task(len(data.classes))
    before = {} if before is None else before
    for test, images in data.tests().items():
        if test not in before:
            before[test] = evaluate(net, images, fabric=fabric).features
    learner = method(net, task, **options)
    if net.batchnorm != "eval" and data.loading.batch_size < SMALL_BATCH and any(batchnorms(net)):
        terminal.say(
            f"note: batch norms will see {data.loading.batch_size} images at a time, which makes "
            "their statistics noisy: give a larger --batch-size, or --batchnorm eval"
        )
    trained = _train(run, learner, data, plan, fabric, terminal, resume=resume)
    results = {
        "method": name,
        "seed": plan.seed,
        "options": dict(options),
        "classes": list(data.classes),
        "origin": asdict(net.origin),
        "preprocess": asdict(net.preprocess),
        "batchnorm": net.batchnorm,
        **trained,
        **_tested(run, data, task, fabric, before),
        "data": {
            "notes": list(data.notes),
            "problems": dict(data.problems),
            "counts": {split: len(rows) for split, rows in data.sets.items()}
            | {name: len(rows) for name, rows in data.ood.items()},
        },
        "seconds": round(time.perf_counter() - began, 2),
        "config": str(run.config),
        "machine": machine(),
    }
    run.save_results(results)
    return results


def _train(
    run: Run,
    method: Method,
    data: ImageDomains,
    plan: Plan,
    fabric: Fabric,
    terminal: Terminal,
    *,
    resume: bool,
) -> dict[str, Any]:
    """Go through the epochs: log, keep the best and the last, leave what resuming needs."""
    saved = run.load_checkpoint() if resume else None
    resumed = saved["fit"]["epoch"] if saved else -1
    best = saved["best"] if saved else {"epoch": -1, "accuracy": 0.0, "bar": 0.0}
    start: Snapshot = saved["start"] if saved else {}
    notes: dict[str, Any] = {}
    run.forget_after(resumed)
    began = time.perf_counter()
    epochs = fit(method, data, plan, fabric=fabric, state=saved["fit"] if saved else None)
    for epoch in terminal.epochs(epochs, plan.epochs):
        notes |= epoch.notes
        start = start or snapshot(method.net.body)
        if epoch.number <= resumed:
            continue
        scores = method.task.score(evaluate(method, data.scan("val"), fabric=fabric))
        _log(run, epoch, scores.accuracy, time.perf_counter() - began, terminal)
        best = better(best, epoch.number, scores)
        if best["epoch"] == epoch.number:
            method.net.save(run.best)
        method.net.save(run.last)
        run.save_checkpoint({"fit": epoch.state, "best": best, "start": start})
    changes = weight_change(start, snapshot(Network.load(run.best).body))
    return {
        "best_epoch": best["epoch"],
        "val_accuracy": best["accuracy"],
        "notes": notes,
        "changes": [asdict(change) for change in changes],
    }


def better(best: Mapping[str, Any], epoch: int, scores: Scores) -> dict[str, Any]:
    """Choose between the best epoch so far and the next one, by accuracy on ID validation.

    The next one wins if it lies within one standard error of the highest so far, ``bar``.

    >>> seen = [Scores(accuracy, 0, 0, 0, 100, ()) for accuracy in (50.0, 60.0, 56.0, 54.0)]
    >>> best = {"epoch": -1, "accuracy": 0.0, "bar": 0.0}
    >>> for epoch, scores in enumerate(seen):
    ...     best = better(best, epoch, scores)
    >>> best["epoch"], best["accuracy"], round(best["bar"], 1)
    (2, 56.0, 55.1)
    """
    bar = max(best["bar"], scores.accuracy - scores.error)
    if scores.accuracy < bar:
        return {**best, "bar": bar}
    return {"epoch": epoch, "accuracy": scores.accuracy, "bar": bar}


def _log(run: Run, epoch: Epoch, accuracy: float, seconds: float, terminal: Terminal) -> None:
    line = {"epoch": epoch.number, **epoch.terms, "val_accuracy": accuracy, "seconds": seconds}
    run.log(line)
    terminal.epoch(line)


def _tested(
    run: Run, data: ImageDomains, task: Task, fabric: Fabric, before: Features
) -> dict[str, Any]:
    """Score the saved best network on every test set, and measure how far its features moved."""
    net = Network.load(run.best)
    scores, moved, worst = {}, {}, {}
    for test, rows in data.tests().items():
        outputs = evaluate(net, rows, fabric=fabric)
        scores[test] = task.score(outputs)
        moved[test] = feature_distortion(before[test], outputs.features)
        worst[test] = [_mistake(data, test, outputs, row) for row in hardest(outputs, WORST)]
    ood = {test: score.accuracy for test, score in scores.items() if test != "id"}
    return {
        "id_accuracy": scores["id"].accuracy,
        "ood": ood,
        "ood_accuracy": sum(ood.values()) / len(ood) if ood else None,
        "distortion": {"cosine": 1 - moved["id"].cosine, "l2": moved["id"].l2},
        "scores": {test: score.to_dict() for test, score in scores.items()},
        "distortions": {test: one.to_dict() for test, one in moved.items()},
        "worst": worst,
    }


def _mistake(data: ImageDomains, test: str, outputs: Outputs, row: int) -> dict[str, Any]:
    probability, guess = outputs.logits[row].softmax(0).max(0)
    paths: list[Path] = data.paths(test)
    return {
        "path": str(paths[int(outputs.index[row])]) if paths else None,
        "label": data.classes[int(outputs.y[row])],
        "predicted": data.classes[int(guess)],
        "confidence": float(probability),
    }

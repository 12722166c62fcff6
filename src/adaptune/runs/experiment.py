"""One run from data to results: what `fit` and `compare` do for each method and seed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.batchnorm.layers import batchnorms
from adaptune.data.domains import DomainData
from adaptune.engine.evaluate import Evaluation, evaluate
from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.metrics.tally import Mistake
from adaptune.networks.network import Network
from adaptune.ops.distortion import Distortion, feature_distortion, snapshot, weight_change
from adaptune.ops.rejection import KEPT, describe_threshold
from adaptune.report.terminal import Terminal
from adaptune.runs.epochs import RunState, train
from adaptune.runs.folder import Run
from adaptune.runs.resume import describe_run, find_checkpoint, usual_options
from adaptune.runs.setup import Session, Setup, open_session
from adaptune.runtime.files import read_lines
from adaptune.runtime.machine import describe_machine
from adaptune.runtime.signals import Signals
from adaptune.selection.epochs import selection_rule
from adaptune.selection.scoring import LabelFreeScorer
from adaptune.tasks.task import Task
from adaptune.types import Labeled

SMALL_BATCH = 16
"""Images a batch under which people are warned of noisy batch norms."""


Baseline = dict[str, Evaluation]
"""What the network reaches on each test set before training, by name."""


def experiment(
    run: Run,
    method: type[Method],
    options: Mapping[str, Any],
    data: DomainData,
    setting: Setup,
    plan: Plan,
    *,
    name: str,
    terminal: Terminal,
    config: str,
    baseline: Baseline | None = None,
    resume: bool = False,
    fabric: Fabric | None = None,
) -> dict[str, Any]:
    """Train one method once, and measure what came of it.

    The network that is tested is the one saved as best: that of the latest epoch whose accuracy on
    ID validation lies within one standard error of the highest. On few validation images the very
    highest is luck, and earlier epochs have not settled. Without validation images it is the last.
    Its features are compared with those of the pretrained network, or of the one that was started
    from; its weights with those that training started from.

    Args:
        run: The folder that all this goes to.
        method: The method's class.
        options: Its hyper-parameters.
        data: Images, as the network wants them or not yet.
        setting: Backbone, preprocessing, device.
        plan: How long to train.
        name: What the method is called.
        terminal: Where progress is shown.
        config: What ``config.yaml`` is to hold, once nothing can refuse the run any more.
        baseline: What the network reaches on the test sets before training, where it is known;
            an empty one is filled.
        resume: Go on from the run's checkpoint, if there is one; it must be of these settings.
        fabric: Device, precision and processes; by default those of the setting.

    Returns:
        The results as they stand in ``results.json``.

    Raises:
        ValueError: If there are no images to train, validate or test on, or anything else is
            refused; what the folder held before is untouched then.
        FloatingPointError: If a term of the objective, or a gradient, stops being finite.
        Stopped: If the process is asked to stop; the work done is kept.
    """
    began = time.perf_counter()
    select = selection_rule(setting.select, data)
    baseline = {} if baseline is None else baseline
    of, usual = describe_run(method, data, setting, config), usual_options(method)
    found = find_checkpoint(run, of, plan, usual, terminal) if resume else None

    def on_pretrained(net: Network, data: DomainData, task: Task, fabric: Fabric) -> None:
        for test, rows in data.tests().items():
            if test not in baseline:
                baseline[test] = evaluate(net, rows, task, fabric=fabric)

    training = open_session(
        method, options, data, setting, plan, fabric=fabric, on_pretrained=on_pretrained
    )
    net, data = training.net, training.data
    for note in net.notes:
        terminal.say(f"note: {note}")
    seen = data.loading.batch_size // plan.accumulate
    if net.batchnorm != "eval" and seen < SMALL_BATCH and any(batchnorms(net)):
        terminal.say(
            f"note: batch norms will see {seen} images at a time, which makes "
            "their statistics noisy: give a larger --batch-size, or --batchnorm eval"
        )
    with Signals().listening() as signals:
        course = train(run, training, terminal, signals, select=select, of=of, found=found)
        net.threshold = Network.load(run.best).threshold
        counted = len(data.sets["val"]) if training.calibrates else 0
        if setting.open_set:
            terminal.say(f"note: {describe_threshold(net.threshold, counted)}")
        results = {
            "method": name,
            "seed": plan.seed,
            "options": dict(options),
            "classes": list(data.classes),
            "origin": asdict(net.origin),
            "preprocess": asdict(net.preprocess),
            "batchnorm": net.batchnorm,
            "threshold": net.threshold,
            **({"calibrated": {"kept": KEPT, "images": counted}} if counted else {}),
            **_trained(run, course, select),
            **_tested(run, training, setting, baseline, course.asked),
            **_started(baseline, setting),
            "data": _described(data)
            | {"problems": course.problems | data.ledger.gathered_problems()},
            "seconds": round(time.perf_counter() - began + course.earlier, 2),
            "config": str(run.config),
            "machine": describe_machine(),
        }
    run.save_results(results)
    run.let_go(1)  # it ended: one is enough to train for more epochs
    return results


def _trained(run: Run, course: RunState, select: str) -> dict[str, Any]:
    """Say what came of the epochs."""
    changes = weight_change(course.start, snapshot(Network.load(run.best).body))
    known = {"val_accuracy": course.best["accuracy"]} if "accuracy" in course.best else {}
    return {
        "best_epoch": course.best["epoch"],
        **known,
        "selection": _against_oracle(select, course.best["epoch"], read_lines(run.metrics)),
        "skipped_steps": course.skipped,
        **({"asked": len(course.asked)} if course.asked else {}),
        "notes": course.notes,
        "changes": [asdict(change) for change in changes],
    }


def _against_oracle(select: str, chosen: int, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Say how the epoch was chosen and, where labels tell, what an oracle would have gained."""
    told = {"by": select, "epoch": chosen}
    known = {line["epoch"]: line["oracle_accuracy"] for line in lines if "oracle_accuracy" in line}
    if not known:
        return told
    oracle = max(known, key=lambda epoch: known[epoch])
    return told | {"oracle_epoch": oracle, "gap_to_oracle": known[oracle] - known[chosen]}


def _tested(
    run: Run, training: Session, setting: Setup, baseline: Baseline, asked: Sequence[int]
) -> dict[str, Any]:
    """Score the saved best network on every test set, and measure how far its features moved."""
    net, data, task = Network.load(run.best), training.data, training.task
    judge = LabelFreeScorer(net, data, training.fabric) if data.ood else None
    scores, moved, worst, judged = {}, {}, {}, {}
    unasked: dict[str, Any] = {}
    for test, rows in data.tests().items():
        found = evaluate(net, rows, task, fabric=training.fabric)
        scores[test] = found.scores
        moved[test] = feature_distortion(baseline[test].sample.features, found.sample.features)
        if judge is not None and test != "id":
            judged[test] = judge(found.sample)
        worst[test] = [_mistake(data, task, test, one) for one in found.mistakes]
    if asked and data.target.name in scores:
        unasked = _unasked(training, net, setting, asked)
    ood = {test: score.main.value for test, score in scores.items() if test != "id"}
    home = {"id_accuracy": scores["id"].main.value} if "id" in scores else {}
    return {
        **home,
        "ood": ood,
        "ood_accuracy": sum(ood.values()) / len(ood) if ood else None,
        "distortion": _told([*moved.values()]),  # on ID, where it is: it is tested first
        "scores": {test: score.to_dict() for test, score in scores.items()},
        **({"unasked": unasked} if unasked else {}),
        "distortions": {test: one.to_dict() for test, one in moved.items()},
        "label_free": judged,
        "worst": worst,
    }


def _unasked(
    training: Session, net: Network, setting: Setup, asked: Sequence[int]
) -> dict[str, Any]:
    """Score the target's images whose labels nobody gave, before training and after.

    Nothing where there are none, or where images have no files to tell them by.
    """
    data = training.data
    given = {data.file(data.domains, row) for row in asked}
    paths = [str(path) for path in data.paths(data.target.name)]
    kept = torch.tensor([row for row, path in enumerate(paths) if path not in given])
    if not len(kept):
        return {}
    start = setting.network(data.classes)
    start.threshold = net.threshold
    was, now = (
        evaluate(
            one,
            _only(data.tests()[data.target.name], kept),
            training.task,
            fabric=training.fabric,
        ).scores
        for one in (start, net)
    )
    return {"count": now.count, "before": was.main.value, "accuracy": now.main.value}


def _only(batches: Iterable[Labeled], kept: Tensor) -> Iterator[Labeled]:
    """Pass on the rows whose index is among ``kept``."""
    for batch in batches:
        at = torch.isin(batch.index, kept)
        if at.any():
            yield Labeled(batch.x[at], batch.domain[at], batch.index[at], y=batch.y[at])


def _told(moved: Sequence[Distortion]) -> dict[str, float]:
    """Say how far features moved on the first test set; nothing where nothing is tested."""
    return {"cosine": 1 - moved[0].cosine, "l2": moved[0].l2} if moved else {}


def _started(baseline: Baseline, setting: Setup) -> dict[str, Any]:
    """Say where a run that started from a finished network came from, and how well that does."""
    if not setting.start:
        return {}
    scores = {test: one.scores for test, one in baseline.items()}
    opened = {test: one.detail.get("open_set") for test, one in scores.items()}
    return {
        "start": setting.start,
        "before": {test: one.main.value for test, one in scores.items()},
        "before_open_set": {test: one for test, one in opened.items() if one},
    }


def _described(data: DomainData) -> dict[str, Any]:
    """Say what there was to learn from and to test on."""
    sets = (*data.sets.items(), *data.ood.items())
    target = {"name": data.target.name, "images": len(data.target)}
    return {
        "notes": list(data.notes),
        "counts": {str(name): len(rows) for name, rows in sets},
        **({"target": target} if len(data.target) else {}),
    }


def _mistake(data: DomainData, task: Task, test: str, one: Mistake) -> dict[str, Any]:
    """Name what was wrong in one row."""
    paths: list[Path] = data.paths(test)
    return {
        "path": str(paths[one.row]) if paths else None,
        "label": task.words(one.truth, data.classes),
        "predicted": task.words(one.answer, data.classes),
        "confidence": one.confidence,
    }

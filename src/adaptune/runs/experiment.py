"""One run from data to results: what `fit` and `compare` do for each method and seed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from adaptune.batchnorm.layers import batchnorms
from adaptune.data.domains import DomainData
from adaptune.engine.evaluate import evaluate
from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.networks.inputs import describe_look
from adaptune.networks.joint import texts_look
from adaptune.networks.network import Network
from adaptune.ops.distortion import snapshot, weight_change
from adaptune.ops.rejection import KEPT, describe_threshold
from adaptune.report.terminal import Terminal
from adaptune.results.epoch import EpochMetrics
from adaptune.results.run import (
    Calibration,
    DataSummary,
    RunResults,
    Selection,
    TargetImages,
)
from adaptune.results.score import Measure
from adaptune.runs.epochs import train
from adaptune.runs.folder import Run
from adaptune.runs.pictures import draw_ranked
from adaptune.runs.resume import describe_run, find_checkpoint, usual_options
from adaptune.runs.setup import Session, Setup, open_session
from adaptune.runs.testing import Baseline, tested_sets, unasked_images
from adaptune.runs.zero_shot import gaps
from adaptune.runtime.files import read_lines
from adaptune.runtime.machine import describe_machine
from adaptune.runtime.signals import Signals
from adaptune.selection.epochs import selection_rule
from adaptune.tasks.task import Task

SMALL_BATCH = 16
"""Images a batch under which people are warned of noisy batch norms."""

FEW_STEPS = 20
"""Steps of a run under which people are told that it is short: none was measured."""


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
    task: Task | None = None,
) -> RunResults:
    """Train one method once, and measure what came of it.

    The network that is tested is the one saved as best: that of the latest epoch whose score on ID
    validation lies within one standard error of the best. On few validation images the very best
    is luck, and earlier epochs have not settled. Without validation images it is the last.
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
        task: What is predicted; by default one of the data's classes.

    Returns:
        The results as they stand in ``results.json``.

    Raises:
        ValueError: If there are no images to train, validate or test on, or anything else is
            refused; what the folder held before is untouched then.
        FloatingPointError: If a term of the objective, or a gradient, stops being finite.
        Stopped: If the process is asked to stop; the work done is kept.
    """
    began = time.perf_counter()
    select = selection_rule(setting.select, data, task or setting.build_task(data))
    baseline = {} if baseline is None else baseline
    of, usual = describe_run(method, data, setting, config), usual_options(method)
    found = find_checkpoint(run, of, plan, usual, terminal) if resume else None
    apart: dict[str, float] = {}

    def on_pretrained(net: Network, data: DomainData, task: Task, fabric: Fabric) -> None:
        for test, rows in data.tests().items():
            if test not in baseline:
                baseline[test] = evaluate(net, rows, task, fabric=fabric)
        apart.update(gaps(net, baseline))

    training = open_session(
        method, options, data, setting, plan, fabric=fabric, on_pretrained=on_pretrained, task=task
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
    steps = plan.epochs * data.steps(method.needs)
    if 0 < steps < FEW_STEPS and training.method.groups():
        terminal.say(f"note: {steps} steps are few: give more --epochs, or a smaller --batch-size")
    matched = texts_look(net.head) is not None  # so that it answers before it has learnt
    with Signals().listening() as signals:
        course = train(run, training, terminal, signals, select=select, of=of, found=found)
        best = _kept(run, training, setting)
        net.threshold = best.threshold
        counted = len(data.sets["val"]) if training.calibrates else 0
        if setting.open_set:
            terminal.say(f"note: {describe_threshold(net.threshold, counted)}")
        tested = tested_sets(best, training, baseline)
        measure = next((one.main.measure for one in tested.scores.values()), course.measure)
        results = RunResults(
            method=name,
            seed=plan.seed,
            measure=measure,
            options=dict(options),
            classes=list(data.classes),
            origin=asdict(net.origin),
            preprocess=describe_look(net.preprocess),
            batchnorm=net.batchnorm,
            threshold=net.threshold,
            calibrated=Calibration(KEPT, counted) if counted else None,
            best_epoch=course.best.epoch,
            val=course.best.val,
            selection=_selection(select, course.best.epoch, read_lines(run.metrics), measure),
            skipped_steps=course.skipped,
            asked=len(course.asked),
            notes=course.notes | ({"modality_gap": apart} if apart else {}),
            changes=[asdict(one) for one in weight_change(course.start, snapshot(best.body))],
            scores=tested.scores,
            unasked=unasked_images(training, best, setting, course.asked),
            distortions={test: one.to_dict() for test, one in tested.moved.items()},
            label_free=tested.label_free,
            worst=tested.worst,
            pictures=draw_ranked(run, best, training, tested.scores),
            start=setting.start,
            words=list(setting.words),
            before=_before(baseline) if setting.start or setting.words or matched else {},
            before_open_set=_open_sets(baseline) if setting.start or setting.words else {},
            data=_described(data, course.problems | data.ledger.gathered_problems()),
            seconds=round(time.perf_counter() - began + course.earlier, 2),
            config=str(run.config),
            machine=describe_machine(),
        )
    run.save_answers(tested.answers)
    run.save_results(results)
    run.let_go(1)  # it ended: one is enough to train for more epochs
    return results


def _kept(run: Run, training: Session, setting: Setup) -> Network:
    """Open the network that was saved as best; a module of the caller's own is made anew."""
    origin = training.net.origin
    if origin.kind != "module":
        return Network.load(run.best)
    fresh = setting.network(training.data.classes)
    module = fresh.body
    module.set_submodule(origin.head, nn.Linear(fresh.width, len(fresh.classes)))
    return Network.load(run.best, module=module)


def _selection(
    select: str, chosen: int, lines: Sequence[Mapping[str, Any]], measure: Measure
) -> Selection:
    """Say how the epoch was chosen and, where labels tell, what an oracle would have gained."""
    read = (EpochMetrics.from_dict(line, measure) for line in lines)
    known = {one.epoch: measure.merit(one.oracle) for one in read if one.oracle is not None}
    if not known:
        return Selection(select, chosen)
    oracle = max(known, key=lambda epoch: known[epoch])
    return Selection(select, chosen, oracle, known[oracle] - known[chosen])


def _before(baseline: Baseline) -> dict[str, float]:
    """Say how well the network does that a run started from, by test set."""
    return {test: one.scores.main.value for test, one in baseline.items()}


def _open_sets(baseline: Baseline) -> dict[str, dict[str, float]]:
    """Say how well it tells known from unknown, on the test sets that have both."""
    opened = {test: one.scores.detail.get("open_set") for test, one in baseline.items()}
    return {test: one for test, one in opened.items() if one}


def _described(data: DomainData, problems: Mapping[str, str]) -> DataSummary:
    """Say what there was to learn from and to test on."""
    sets = (*data.sets.items(), *data.ood.items())
    return DataSummary(
        list(data.notes),
        {str(name): len(rows) for name, rows in sets},
        TargetImages(data.target.name, len(data.target)) if len(data.target) else None,
        problems,
    )

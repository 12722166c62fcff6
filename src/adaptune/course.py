"""The way through the epochs of a run: judged, logged, kept, and gone on with after a stop."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import mean
from typing import Any

from adaptune.data.domains import ImageDomains
from adaptune.data.names import name_of
from adaptune.faults import NonFinite
from adaptune.judge import BY_VALIDATION, Judge, unknown
from adaptune.loop import Epoch, evaluate
from adaptune.ops.distortion import Snapshot, snapshot
from adaptune.run import Run, plain
from adaptune.select import SCORES
from adaptune.signals import Signals, Stopped
from adaptune.terminal import NAMED, Terminal
from adaptune.training import Training, better, surer


@dataclass
class Course:
    """Where a run stands: what a checkpoint holds beside the state of the training itself."""

    best: dict[str, Any] = field(default_factory=lambda: {"epoch": -1, "accuracy": 0.0, "bar": 0.0})
    start: Snapshot = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    skipped: int = 0
    seconds: float = 0.0
    earlier: float = 0.0


class Clock:
    """Seconds that a run has taken, stops left out, and whether a checkpoint is due."""

    def __init__(self, seconds: float, minutes: float) -> None:
        self.began = time.perf_counter() - seconds
        self.minutes, self.saved = minutes, time.perf_counter()

    def seconds(self) -> float:
        """Give the seconds so far."""
        return time.perf_counter() - self.began

    def due(self) -> bool:
        """Tell whether the last checkpoint is too old."""
        return time.perf_counter() - self.saved > 60 * self.minutes


def follow(
    run: Run, training: Training, terminal: Terminal, signals: Signals, *, select: str, resume: bool
) -> Course:
    """Train through all epochs: log, keep the best and the last, leave what resuming needs.

    Args:
        run: The folder that all this goes to.
        training: What is trained.
        terminal: Where progress is shown.
        signals: Who hears whether to stop; after a step a checkpoint is written first.
        select: What chooses the best epoch, as in `Setting`.
        resume: Go on from the run's newest whole checkpoint, if there is one.

    Raises:
        FloatingPointError: If a term or a gradient is not finite; says on which files.
        Stopped: If the process is asked to stop.
        ValueError: If the checkpoint is that of another method, or of other classes.
    """
    course, state = _resumed(run, training, terminal) if resume else (Course(), None)
    done = state["progress"]["epoch"] if state else 0
    training.data.asked.clear()  # other runs have asked for theirs
    if state is None:
        run.let_go()
    run.forget_after(done if state else -1)
    clock = Clock(course.seconds, training.plan.checkpoint_minutes)
    epochs = training.epochs(state, pause=lambda: bool(signals.caught) or clock.due())
    with ExitStack() as stack:
        if state is not None:
            stack.enter_context(signals.held())
        for epoch in terminal.epochs(_naming(epochs, training.data), training.plan.epochs, done):
            stack.enter_context(signals.held())
            course.notes |= plain(epoch.notes)
            for sentence in epoch.said:
                terminal.say(f"note: {sentence}")
            course.start = course.start or snapshot(training.net.body)
            if epoch.whole:
                _judge(run, training, terminal, course, epoch, select, clock)
            _keep(run, training, course, epoch, clock)
            if signals.caught:
                kept = f"the run is kept up to epoch {epoch.number}"
                kept += "" if epoch.whole else f", step {epoch.step}"
                raise Stopped(signals.caught, kept)
    return course


def _resumed(
    run: Run, training: Training, terminal: Terminal
) -> tuple[Course, dict[str, Any] | None]:
    """Read the newest checkpoint that is whole, if there is one; say which.

    Raises:
        ValueError: If it is that of another method or of other classes.
    """
    found = run.checkpoints.newest()
    if found is None:
        return Course(), None
    for file in found.damaged:
        terminal.say(f"{file} is damaged and was passed over")
    _refuse_other(found.file, found.state["of"], _described(training))
    progress = found.state["fit"]["progress"]
    at = f"after epoch {progress['epoch']}" + f", step {progress['step']}" * bool(progress["step"])
    terminal.say(f"going on from {found.file}, {at}")
    course = Course(**found.state["course"])
    course.earlier = course.seconds
    return course, found.state["fit"]


def _refuse_other(file: Path, known: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse a checkpoint of another method or of other classes: its labels would be others."""
    classes = [name_of(name) for name in known["classes"]]
    if known["method"] == own["method"] and sorted(classes) == sorted(own["classes"]):
        if classes != own["classes"]:
            raise ValueError(
                f"{file} has the classes in another order, that of the version that began the run: "
                f"go on with --classes {shlex.join(classes)}"
            )
        return
    raise ValueError(
        f"{file} is of {known['method']} on {len(classes)} classes, and asked for is "
        f"{own['method']} on {len(own['classes'])}: give the run's own settings"
    )


def _described(training: Training) -> dict[str, Any]:
    return {"method": type(training.method).__name__, "classes": list(training.data.classes)}


def _judge(
    run: Run,
    training: Training,
    terminal: Terminal,
    course: Course,
    epoch: Epoch,
    select: str,
    clock: Clock,
) -> None:
    """Score an epoch that ended, log it, and keep its network if it is the best so far."""
    scores = [training.validate()] if training.validates else []
    known = {"accuracy": scores[0].accuracy} if scores else {}
    told = _elsewhere(training, select) if select in SCORES and select != BY_VALIDATION else {}
    counted = {"skipped": epoch.skipped} if epoch.skipped else {}
    course.skipped += epoch.skipped
    line = {
        "epoch": epoch.number,
        **epoch.terms,
        **counted,
        **{f"val_{name}": value for name, value in known.items()},
        **told,
        "seconds": clock.seconds(),
    }
    run.log(line)
    terminal.epoch(line)
    if told:
        course.best = surer(course.best, epoch.number, told["score"])
    elif select == BY_VALIDATION:
        course.best = better(course.best, epoch.number, *scores)
    else:
        course.best = {"epoch": epoch.number, "bar": 0.0}
    if course.best["epoch"] == epoch.number:
        course.best |= known
        run.save_network(training.net, run.best)
    run.save_network(training.net, run.last)


def _keep(run: Run, training: Training, course: Course, epoch: Epoch, clock: Clock) -> None:
    """Write a checkpoint."""
    course.problems |= training.data.gathered_problems()
    course.asked = sorted({*course.asked, *training.data.asked})
    course.seconds = clock.seconds()
    steps = training.data.steps(training.method.needs)
    run.save_checkpoint(
        epoch.number * steps if epoch.whole else (epoch.number - 1) * steps + epoch.step,
        {
            "of": _described(training),
            "fit": epoch.state,
            "course": {one.name: getattr(course, one.name) for one in fields(course)},
        },
    )
    clock.saved = time.perf_counter()


def _naming(epochs: Iterable[Epoch], data: ImageDomains) -> Iterator[Epoch]:
    """Pass epochs on; where one fails on some images, name their files.

    Raises:
        FloatingPointError: If a term or a gradient is not finite.
    """
    try:
        yield from epochs
    except NonFinite as found:
        places = zip(found.domains, found.rows, strict=True)
        files = [file for domain, row in places if (file := data.file(domain, row))]
        named = ", ".join(files[:NAMED]) + f" and {len(files) - NAMED} more" * (len(files) > NAMED)
        said = f" It happened on {named}." if files else ""
        raise FloatingPointError(f"{found}.{said}") from found


def _elsewhere(training: Training, select: str) -> dict[str, float]:
    """Judge the method by images without labels; beside it what an oracle sees, if one can.

    They are the target's, where there is one, or else those of other domains.
    """
    method, data = training.method, training.data
    judge = Judge(method, data, training.fabric)
    scores, right = [], []
    if len(data.target):
        outputs = evaluate(method, unknown(data.unlabeled()), fabric=training.fabric)
        scores.append(judge(outputs)[select])
    for name, rows in data.without_own_test().tests().items():
        if len(data.target) and name != data.target.name:
            continue
        outputs = evaluate(method, rows, fabric=training.fabric)
        right.append(training.score(outputs).accuracy)
        if not len(data.target):
            scores.append(judge(outputs)[select])
    return {"score": mean(scores)} | ({"oracle_accuracy": mean(right)} if right else {})

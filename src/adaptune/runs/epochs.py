"""The way through the epochs of a run: judged, logged, kept, and gone on with after a stop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, replace
from statistics import mean
from typing import Any

from adaptune.data.domains import DomainData
from adaptune.engine.evaluate import sample_outputs
from adaptune.engine.loop import Epoch
from adaptune.engine.nonfinite import NonFiniteError
from adaptune.ops.distortion import Snapshot, snapshot
from adaptune.report.terminal import NAMED, Terminal
from adaptune.results.epoch import EpochMetrics
from adaptune.results.score import Measure, Scores
from adaptune.runs.checkpoint import FoundCheckpoint
from adaptune.runs.folder import Run
from adaptune.runs.setup import Session
from adaptune.runtime.files import to_json
from adaptune.runtime.signals import Signals, Stopped
from adaptune.selection import SCORES, defined
from adaptune.selection.epochs import (
    BY_VALIDATION,
    OF_VALIDATION,
    BestEpoch,
    best_by_score,
    best_by_validation,
)
from adaptune.selection.scoring import LabelFreeScorer, without_labels


@dataclass
class RunState:
    """Where a run stands: what a checkpoint holds beside the state of the training itself.

    ``measure`` is what the scores that it was judged by are of.
    """

    best: BestEpoch = field(default_factory=BestEpoch)
    measure: Measure = field(default_factory=Measure)
    start: Snapshot = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    skipped: int = 0
    seconds: float = 0.0
    earlier: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Give what a checkpoint holds."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        return own | {"best": asdict(self.best), "measure": asdict(self.measure)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> RunState:
        """Take up what a checkpoint holds, of earlier versions too."""
        best, measure = BestEpoch.from_dict(found["best"]), Measure.from_dict(found.get("measure"))
        return cls(**{**found, "best": best, "measure": measure})


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


def train(
    run: Run,
    training: Session,
    terminal: Terminal,
    signals: Signals,
    *,
    select: str,
    of: Mapping[str, Any],
    found: FoundCheckpoint | None = None,
) -> RunState:
    """Train through all epochs: log, keep the best and the last, leave what resuming needs.

    Args:
        run: The folder that all this goes to.
        training: What is trained.
        terminal: Where progress is shown.
        signals: Who hears whether to stop; after a step a checkpoint is written first.
        select: What chooses the best epoch, as in `Setup`.
        of: What the run is of, with the text of its ``config.yaml``; see `describe_run`.
        found: The checkpoint to go on from.

    Raises:
        FloatingPointError: If a term or a gradient is not finite; says on which files.
        Stopped: If the process is asked to stop.
        ValueError: If something is refused; then nothing that was there before is touched, and
            nothing is left of a run that took no step.
    """
    course, state = _resumed(found) if found else (RunState(), None)
    done = state["progress"]["epoch"] if state else 0
    training.data.queried.clear()  # other runs have asked for theirs
    clock = Clock(course.seconds, training.plan.checkpoint_minutes)
    epochs = training.epochs(
        state,
        pause=lambda: bool(signals.caught) or clock.due(),
        begin=lambda: run.begin(of["config"], done if state else -1),
    )
    with ExitStack() as stack:
        if state is not None:
            stack.enter_context(signals.held())
        epochs = _naming(epochs, training.data)
        if state is None:
            epochs = _withdrawing(epochs, run)
        for epoch in terminal.epochs(epochs, training.plan.epochs, done):
            stack.enter_context(signals.held())
            course.notes |= to_json(epoch.notes)
            for sentence in epoch.said:
                terminal.say(f"note: {sentence}")
            course.start = course.start or snapshot(training.net.plain_body())
            if epoch.whole:
                _judge(run, training, terminal, course, epoch, select, clock)
            _keep(run, training, course, epoch, clock, of)
            if signals.caught:
                kept = f"the run is kept up to epoch {epoch.number}"
                kept += "" if epoch.whole else f", step {epoch.step}"
                raise Stopped(signals.caught, kept)
    return course


def _resumed(found: FoundCheckpoint) -> tuple[RunState, dict[str, Any]]:
    """Take up a course where a checkpoint left it."""
    course = RunState.from_dict(found.state["course"])
    course.earlier = course.seconds
    return course, found.state["fit"]


def _judge(
    run: Run,
    training: Session,
    terminal: Terminal,
    course: RunState,
    epoch: Epoch,
    select: str,
    clock: Clock,
) -> None:
    """Score an epoch that ended, log it, and keep its network if it is the best so far."""
    scores = [training.validate()] if training.validates else []
    course.skipped += epoch.skipped
    line = EpochMetrics(epoch.number, 0.0, epoch.terms, epoch.skipped)
    line = replace(line, val=scores[0].main.value if scores else None)
    told: list[Scores] = []
    if select in SCORES and select != BY_VALIDATION:
        score, told = _elsewhere(training, select)
        line = replace(line, score=score, oracle=_mean(told))
    for one in (*scores, *told):
        course.measure = one.main.measure
    line = replace(line, seconds=clock.seconds())
    run.log(line.to_dict(course.measure))
    terminal.epoch(line, course.measure)
    course.best = _best(course.best, line, scores, select)
    if course.best.epoch == epoch.number:
        run.save_network(training.net, run.best)
    run.save_network(training.net, run.last)


def _best(best: BestEpoch, line: EpochMetrics, scores: Sequence[Scores], select: str) -> BestEpoch:
    """Choose between the best epoch so far and that of a line."""
    if line.score is not None:
        best = best_by_score(best, line.epoch, line.score)
    elif select == BY_VALIDATION:
        return best_by_validation(best, line.epoch, *scores)
    else:
        best = BestEpoch(line.epoch)
    return replace(best, val=line.val) if best.epoch == line.epoch else best


def _keep(
    run: Run,
    training: Session,
    course: RunState,
    epoch: Epoch,
    clock: Clock,
    of: Mapping[str, Any],
) -> None:
    """Write a checkpoint."""
    course.problems |= training.data.ledger.gathered_problems()
    course.asked = sorted({*course.asked, *training.data.queried})
    course.seconds = clock.seconds()
    steps = training.data.steps(training.method.needs)
    run.save_checkpoint(
        epoch.number * steps if epoch.whole else (epoch.number - 1) * steps + epoch.step,
        {
            "of": of,
            "fit": epoch.state,
            "course": course.to_dict(),
        },
    )
    clock.saved = time.perf_counter()


def _withdrawing(epochs: Iterable[Epoch], run: Run) -> Iterator[Epoch]:
    """Pass epochs on; where the first step is refused, as with parts of a batch, take the run away.

    Raises:
        ValueError: If that is so.
    """
    number = -1  # nothing was there to be taken away
    try:
        for epoch in epochs:
            number = epoch.number
            yield epoch
    except ValueError:
        if number == 0:
            run.withdraw()
        raise


def _naming(epochs: Iterable[Epoch], data: DomainData) -> Iterator[Epoch]:
    """Pass epochs on; where one fails on some images, name their files.

    Raises:
        FloatingPointError: If a term or a gradient is not finite.
    """
    try:
        yield from epochs
    except NonFiniteError as found:
        places = zip(found.domains, found.rows, strict=True)
        files = [file for domain, row in places if (file := data.file(domain, row))]
        named = ", ".join(files[:NAMED]) + f" and {len(files) - NAMED} more" * (len(files) > NAMED)
        said = f" It happened on {named}." if files else ""
        raise FloatingPointError(f"{found}.{said}") from found


def _elsewhere(training: Session, select: str) -> tuple[float, list[Scores]]:
    """Judge the method by images without labels; beside it what an oracle sees, if one can.

    They are the target's, where there is one, or else those of other domains; validation images
    where the score looks at these alone.
    """
    method, data = training.method, training.data
    judge = LabelFreeScorer(method, data, training.fabric)
    scores, right, home = [], [], select in OF_VALIDATION
    if home:
        scores.append(defined(SCORES[select], judge.evidence(judge.val)))
    elif len(data.target):
        seen = sample_outputs(method, without_labels(data.unlabeled()), fabric=training.fabric)
        scores.append(defined(SCORES[select], judge.evidence(seen)))
    for name, rows in data.without_own_test().tests().items():
        if len(data.target) and name != data.target.name:
            continue
        found = training.evaluate(rows)
        right.append(found.scores)
        if not home and not len(data.target):
            scores.append(defined(SCORES[select], judge.evidence(found.sample)))
    return mean(scores), right


def _mean(scores: Sequence[Scores]) -> float | None:
    """Average main scores, if there are any."""
    return mean(one.main.value for one in scores) if scores else None

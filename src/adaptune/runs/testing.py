"""What the network of a run comes to on its test sets, once it is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from adaptune.data.domains import DomainData
from adaptune.data.file_rows import FileRows
from adaptune.data.labels.texts import TextLabels
from adaptune.data.texts import words_of
from adaptune.engine.evaluate import Evaluation, evaluate
from adaptune.metrics.tally import Mistake
from adaptune.networks.network import Network
from adaptune.networks.surgery import ANOTHER_SPACE
from adaptune.ops.distortion import Distortion, feature_distortion
from adaptune.results.answers import Answers
from adaptune.results.row import HOME
from adaptune.results.run import Unasked, WrongAnswer
from adaptune.results.score import Scores
from adaptune.runs.setup import Session, Setup
from adaptune.runs.shading import word_shades
from adaptune.selection.evidence import NO_FEATURES
from adaptune.selection.scoring import LabelFreeScorer, answers_of
from adaptune.tasks.task import Labelling, Task
from adaptune.types import Labeled

SHOWN = 500
"""Characters of a text, and of a partner, that are kept of a mistake."""

Baseline = dict[str, Evaluation]
"""What the network reaches on each test set before training, by name."""


@dataclass
class Tested:
    """What the best network came to on each test set, by name."""

    scores: dict[str, Scores] = field(default_factory=dict)
    moved: dict[str, Distortion] = field(default_factory=dict)
    worst: dict[str, list[WrongAnswer]] = field(default_factory=dict)
    label_free: dict[str, dict[str, float]] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)


def tested_sets(net: Network, training: Session, baseline: Baseline) -> Tested:
    """Score the saved best network on every test set, and measure how far its features moved."""
    data, task, tested = training.data, training.task, Tested()
    judged = bool(data.ood) and isinstance(task, Labelling) and not task.places
    judge = LabelFreeScorer(net, data, training.fabric) if judged else None
    if task.settles and training.validates:
        task = task.settled(evaluate(net, data.scan("val"), task, fabric=training.fabric).scores)
    if judge is not None:
        tested.answers = Answers(answers_of(judge.val), judge.val.y.tolist())
    for test, rows in data.tests().items():
        found = evaluate(net, rows, task, fabric=training.fabric)
        tested.scores[test] = found.scores
        before, after = baseline[test].sample.features, found.sample.features
        if not ANOTHER_SPACE & {one["name"] for one in net.surgery}:
            # A method's own features stand behind the network's.
            tested.moved[test] = feature_distortion(before, after[:, : before.shape[1]])
        before = before if test in tested.moved and after.shape == before.shape else NO_FEATURES
        if judge is not None and test != HOME:
            same = before.shape == found.sample.features.shape
            tested.label_free[test] = judge(found.sample, before if same else NO_FEATURES)
            tested.answers.tests[test] = answers_of(found.sample)
        mistakes = [_mistake(data, task, test, one) for one in found.mistakes]
        if data.labels == "class":  # else answers are no classes of a whole text
            mistakes = _shaded(net, mistakes, found.mistakes, training)
        tested.worst[test] = mistakes
    return tested


def unasked_images(
    training: Session, net: Network, setting: Setup, asked: Sequence[int]
) -> Unasked | None:
    """Score the target's images whose labels nobody gave, before training and after.

    None where there are none, or where images have no files to tell them by.
    """
    data = training.data
    if not asked or data.target.name not in data.ood:
        return None
    given = {data.file(data.domains, row) for row in asked}
    paths = [str(path) for path in data.paths(data.target.name)]
    kept = torch.tensor([row for row, path in enumerate(paths) if path not in given])
    if not len(kept):
        return None
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
    return Unasked(now.count, was.main.value, now.main.value)


def _only(batches: Iterable[Labeled], kept: Tensor) -> Iterator[Labeled]:
    """Pass on the rows whose index is among ``kept``."""
    for batch in batches:
        at = torch.isin(batch.index, kept)
        if at.any():
            yield Labeled(batch.x[at], batch.domain[at], batch.index[at], y=batch.y[at])


def marked(text: str, place: int) -> str:
    """Mark a word of a text by its number.

    >>> marked("lives in Washington today", 2)
    'lives in [Washington] today'
    """
    words = words_of(text)
    return " ".join([*words[:place], f"[{words[place]}]", *words[place + 1 :]])


def _mistake(data: DomainData, task: Task, test: str, one: Mistake) -> WrongAnswer:
    """Name what was wrong in one row."""
    paths: list[Path] = data.paths(test)
    rows = data.sets["test"] if test == HOME else data.ood[test]
    text = rows.examples[one.row].text if isinstance(rows, FileRows) else None
    label, answer = task.words(one.truth, data.classes), task.words(one.answer, data.classes)
    if text and one.place >= 0:
        text = marked(text, one.place)
    paired = False
    if isinstance(rows, FileRows) and isinstance(rows.meaning, TextLabels):
        paired = True  # answers are rows, whose partners are meant
        label, answer = (rows.examples[int(row)].label[:SHOWN] for row in (one.truth, one.answer))
    place = str(paths[one.row]) if paths else None
    confidence = None if paired else one.confidence  # what a partner lost by is no probability
    return WrongAnswer(place, label, answer, confidence, (text or "")[:SHOWN])


def _shaded(
    net: Network, named: list[WrongAnswer], found: Sequence[Mistake], training: Session
) -> list[WrongAnswer]:
    """Add to mistakes on texts which words made the network say so, where both are its classes."""
    known = range(len(net.classes))
    at = [
        place
        for place, (one, mistake) in enumerate(zip(named, found, strict=True))
        if one.text and mistake.answer in known and mistake.truth in known
    ]
    texts = [named[place].text for place in at]
    answers, truths = ([int(getattr(found[p], w)) for p in at] for w in ("answer", "truth"))
    shades = word_shades(net, texts, answers, truths, training.fabric)
    for place, own in zip(at, shades, strict=True):
        named[place] = replace(named[place], shades=own)
    return named

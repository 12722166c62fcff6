"""Write the page of a run or a comparison: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from adaptune.data.inputs.image import read_image
from adaptune.data.listing import Part
from adaptune.networks.text import reads_texts
from adaptune.report import figures
from adaptune.report.masks import palette
from adaptune.results.by_class import overlap_by_class
from adaptune.results.by_test import OnSet
from adaptune.results.epoch import EpochMetrics
from adaptune.results.ranking import Versus
from adaptune.results.retrieved import retrieved_by
from adaptune.results.row import HOME, RunRow
from adaptune.results.run import Pictured, RunResults, WrongAnswer, read_results
from adaptune.results.score import Measure, number
from adaptune.results.sequence import SequenceSummary, sequence_table
from adaptune.results.summary import Interval, MethodSummary, best_method, paired, summarize
from adaptune.results.trial import Trial
from adaptune.results.verdict import verdicts
from adaptune.runtime.files import read_lines, write_text
from adaptune.runtime.wording import about, speaks_of_texts, worded
from adaptune.types import UNKNOWN

THUMBNAIL = 72

OF_PLACES = {
    "pixel_accuracy": "pixels that are right",
    "mean_dice": "mean Dice",
    "boundary_f1": "boundary F1",
}
"""What masks are scored by besides, and how that is called."""


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a run, a comparison or a search; give its path.

    Raises:
        ValueError: If the folder holds no results.
    """
    file = folder / "results.json"
    if not file.is_file():
        raise ValueError(f"{folder} holds no results.json: give the folder of a finished run")
    results = json.loads(file.read_text())
    if "trials" not in results and "rows" not in results:
        return write_run_report(folder)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    with about(texts=speaks_of_texts() or reads_texts(str(settings.get("backbone", "")))):
        if "trials" in results:
            return write_search_report(folder)
        return write_comparison_report(folder)


def write_search_report(folder: Path) -> Path:
    """Write the page of a search."""
    results = json.loads((folder / "results.json").read_text())
    measure = Measure.from_dict(results.get("score"))
    trials = [Trial.from_dict(one, measure) for one in results["trials"]]
    best = Trial.from_dict(results["best"], measure)
    names = list(dict.fromkeys(name for trial in trials for name in trial.values))
    return _write(
        folder,
        "search.html",
        machine=results["machine"],
        names=names,
        measure=measure,
        best=best,
        trials=sorted(trials, key=lambda trial: trial.order[1], reverse=True),
        figure=figures.trials(trials, names, measure),
        settings=(folder / "config.yaml").read_text(),
        rerun=f"adaptune fit --config {folder / 'config.yaml'} --out NEW_FOLDER",
    )


def write_run_report(folder: Path) -> Path:
    """Write the page of one run."""
    results = read_results(folder / "results.json")
    with about(texts="tokenizer" in results.preprocess):
        return _write_run(folder, results)


def _write_run(folder: Path, results: RunResults) -> Path:
    summary, measure, name = summarize([results]), results.measure, results.method
    moved = {"ID" if test == HOME else test: one for test, one in results.distortions.items()}
    return _write(
        folder,
        "run.html",
        results=results,
        machine=results.machine,
        summary=summary,
        measure=measure,
        reached=figures.reached(summary, measure) if results.scores else "",
        histograms=figures.feature_histograms(moved) if moved else "",
        changes=figures.layer_changes({name: results.changes}) if results.changes else "",
        curves=figures.curves({name: _epochs(folder, measure)}, measure),
        retrieved=retrieved_by([results]),
        by_class=_by_class(results),
        others=OF_PLACES,
        confusions=_confusions(results),
        worst={test: _pictures(own) for test, own in results.worst.items()},
        drawn=_drawn(folder, results),
        legend=_legend(results) if results.pictures else [],
        settings=(folder / "config.yaml").read_text(),
        rerun=f"adaptune fit --config {folder / 'config.yaml'} --out NEW_FOLDER",
    )


def _epochs(folder: Path, measure: Measure) -> list[EpochMetrics]:
    """Read what a run's epochs came to."""
    return [EpochMetrics.from_dict(one, measure) for one in read_lines(folder / "metrics.jsonl")]


def _by_class(results: RunResults) -> dict[str, Sequence[float | None]]:
    """Give what each class came to on each test set, where every place has a class."""
    scores = {test: one.detail.get("iou") for test, one in results.scores.items()}
    return {test: one for test, one in scores.items() if one}


def _confusions(results: RunResults) -> dict[str, str]:
    """Draw what was taken for what, where the task counts that; a last row may be the unknown."""
    names = [*results.classes, UNKNOWN]
    counted = {test: one.detail.get("confusion", ()) for test, one in results.scores.items()}
    return {
        test: figures.confusion(matrix, names[: len(matrix)])
        for test, matrix in counted.items()
        if matrix
    }


def write_comparison_report(folder: Path) -> Path:
    """Write the page of a comparison, and those of its runs."""
    results = json.loads((folder / "results.json").read_text())
    measure = Measure.from_dict(results.get("score"))
    runs: dict[str, RunResults] = {}
    for row in results["rows"]:
        place = (folder / RunRow.from_dict(row, measure).config).parent
        runs[place.relative_to(folder).as_posix()] = read_results(place / "results.json")
        write_run_report(place)
    every = list(runs.values())
    summary = [MethodSummary.from_dict(line) for line in results["summary"]]
    first = {line.method: next(r for r in every if r.method == line.method) for line in summary}
    tested = next(iter(every[0].scores), "")
    known = {name: run.distortions.get(tested) for name, run in first.items()}
    moved = {name: one for name, one in known.items() if one is not None}
    best = best_method(summary, measure)
    versus = [Versus.from_dict(one) for one in results.get("versus", [])]
    sequence = [SequenceSummary.from_dict(one) for one in results.get("sequence", [])]
    return _write(
        folder,
        "comparison.html",
        machine=results["machine"],
        summary=summary,
        measure=measure,
        best=best,
        gaps={} if versus or sequence else _gaps(every, best),
        sequence=sequence_table(sequence, measure) if sequence else None,
        standings=bool(versus),
        counts_images=any(one.images for one in versus),
        verdicts=verdicts(versus, best, len(results.get("by_domain", {})), measure),
        retrieved=retrieved_by(every),
        by_class=overlap_by_class(every),
        tests=[OnSet.from_dict(one) for one in results.get("tests", [])],
        rates=figures.rates(results["rates"], measure) if "rates" in results else "",
        widths=results.get("rates", {}),
        tuned=_tuned(results.get("tuned", {}), measure),
        selection=results.get("selection", {}) if len(every) > 1 else {},
        runs=runs,
        data=every[0],
        tested=tested,
        reached=figures.reached(summary, measure) if tested else "",
        trade=figures.trade(summary, measure) if summary[0].domains else "",
        histograms=figures.feature_histograms(moved) if moved else "",
        changes=figures.layer_changes({n: run.changes for n, run in first.items()}),
        curves=figures.curves({n: _averaged(runs, n, folder) for n in first}, measure),
        settings=(folder / "config.yaml").read_text(),
        rerun=f"adaptune compare --config {folder / 'config.yaml'} --out NEW_FOLDER",
    )


def _tuned(found: Mapping[str, Any], measure: Measure) -> dict[str, dict[str, Any]]:
    """Read what tuning chose: the values and the trials of each method, by domain."""
    return {
        domain: {
            name: (one["values"], [Trial.from_dict(trial, measure) for trial in one["trials"]])
            for name, one in methods.items()
        }
        for domain, methods in found.items()
    }


def _gaps(runs: Sequence[RunResults], best: str) -> dict[str, Interval]:
    """Give by how much the best method beats each other one, where there is more than one seed."""
    where = "ood" if runs[0].elsewhere else HOME
    names = dict.fromkeys(run.method for run in runs if run.method != best)
    gaps = {name: paired(runs, best, name, where) for name in names}
    return {name: gap for name, gap in gaps.items() if gap}


def _averaged(runs: Mapping[str, RunResults], name: str, folder: Path) -> list[EpochMetrics]:
    """Average what the curves show of a method's runs, epoch by epoch."""
    own = {place: run for place, run in runs.items() if run.method == name}
    logs = [_epochs(folder / place, run.measure) for place, run in own.items()]
    return [
        EpochMetrics(
            lines[0].epoch,
            0.0,
            {"loss": mean(line.loss for line in lines)},
            val=None if lines[0].val is None else mean(number(line.val) for line in lines),
        )
        for lines in zip(*logs, strict=True)
    ]


def _pictures(mistakes: Sequence[WrongAnswer]) -> list[tuple[WrongAnswer, str]]:
    """Give each mistake with a small picture of its file, if that can still be read."""
    return [
        (
            one,
            thumbnail(Path(one.path), side=THUMBNAIL, kind="PNG")
            if one.path and not one.text
            else "",
        )
        for one in mistakes
    ]


def _drawn(folder: Path, results: RunResults) -> dict[str, list[tuple[Pictured, str]]]:
    """Give the pictures of masks by test set, each as text; those that are gone are left out."""
    found: dict[str, list[tuple[Pictured, str]]] = {}
    for test, own in results.pictures.items():
        for one in own:
            file = folder / one.file
            if file.is_file():
                found.setdefault(test, []).append((one, _data_url(file.read_bytes(), "jpeg")))
    return found


def _legend(results: RunResults) -> list[tuple[str, str]]:
    """Give each class its colour in pictures of masks."""
    values = palette(len(results.classes))
    colors = (values[at : at + 3] for at in range(0, len(values), 3))
    return [
        (name, f"rgb({r}, {g}, {b})")
        for name, (r, g, b) in zip(results.classes, colors, strict=True)
    ]


def thumbnail(path: Path, part: Part | None = None, *, side: int, kind: str) -> str:
    """Draw an image small, to stand within a page; "" if it cannot be read."""
    try:
        image = Image.fromarray(read_image(path, part).permute(1, 2, 0).numpy())
    except OSError:
        return ""
    image.thumbnail((side, side))
    raw = io.BytesIO()
    image.save(raw, kind)
    return _data_url(raw.getvalue(), kind.lower())


def _data_url(raw: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(raw).decode()


def render(template: str, **content: Any) -> str:
    """Fill in a template."""
    environment = Environment(
        loader=PackageLoader("adaptune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def _write(folder: Path, template: str, **content: Any) -> Path:
    config = yaml.safe_load(content["settings"])
    source = Path(config.get("data") or config["from"]).stem
    if config.get("target"):
        source += f" to {Path(config['target'].partition('=')[0]).stem}"
    file = folder / "report.html"
    write_text(file, worded(render(template, **content, source=source)))
    return file

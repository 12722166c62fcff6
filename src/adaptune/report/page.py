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
from adaptune.report import figures
from adaptune.results.summary import paired, summarize
from adaptune.runtime.files import read_lines, write_text
from adaptune.types import UNKNOWN

THUMBNAIL = 72


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a run, a comparison or a search; give its path.

    Raises:
        ValueError: If the folder holds no results.
    """
    file = folder / "results.json"
    if not file.is_file():
        raise ValueError(f"{folder} holds no results.json: give the folder of a finished run")
    results = json.loads(file.read_text())
    if "trials" in results:
        return write_search_report(folder)
    return write_comparison_report(folder) if "rows" in results else write_run_report(folder)


def write_search_report(folder: Path) -> Path:
    """Write the page of a search."""
    results = json.loads((folder / "results.json").read_text())
    names = list(dict.fromkeys(name for trial in results["trials"] for name in trial["values"]))
    return _write(
        folder,
        "search.html",
        results=results,
        names=names,
        trials=sorted(results["trials"], key=lambda trial: -(trial["accuracy"] or 0.0)),
        figure=figures.trials(results["trials"], names),
        settings=(folder / "config.yaml").read_text(),
        rerun=f"adaptune fit --config {folder / 'config.yaml'} --out NEW_FOLDER",
    )


def write_run_report(folder: Path) -> Path:
    """Write the page of one run."""
    results = json.loads((folder / "results.json").read_text())
    summary = summarize([results])
    name = results["method"]
    tests = list(results["scores"])
    return _write(
        folder,
        "run.html",
        results=results,
        summary=summary,
        accuracy=figures.accuracy(summary) if tests else "",
        histograms=figures.feature_histograms(
            {"ID" if test == "id" else test: one for test, one in results["distortions"].items()}
        )
        if tests
        else "",
        changes=figures.layer_changes({name: results["changes"]}) if results["changes"] else "",
        curves=figures.curves({name: read_lines(folder / "metrics.jsonl")}),
        confusions={test: _confusion(results, test) for test in tests},
        worst={test: _pictures(results["worst"][test]) for test in tests},
        settings=(folder / "config.yaml").read_text(),
        rerun=f"adaptune fit --config {folder / 'config.yaml'} --out NEW_FOLDER",
    )


def _confusion(results: Mapping[str, Any], test: str) -> str:
    """Draw what was taken for what; where there is one row more than classes, it is unknown."""
    matrix = results["scores"][test]["confusion"]
    return figures.confusion(matrix, [*results["classes"], UNKNOWN][: len(matrix)])


def write_comparison_report(folder: Path) -> Path:
    """Write the page of a comparison, and those of its runs."""
    results = json.loads((folder / "results.json").read_text())
    runs = []
    for row in results["rows"]:
        place = (folder / row["config"]).parent
        inside = place.relative_to(folder).as_posix()
        runs.append(json.loads((place / "results.json").read_text()) | {"folder": inside})
        write_run_report(place)
    summary = results["summary"]
    first = {run["method"]: run for run in reversed(runs)}
    first = {line["method"]: first[line["method"]] for line in summary}
    others = bool(summary[0]["domains"])
    tested = next(iter(runs[0]["scores"]), "")
    best = max(summary, key=_reached)["method"]
    return _write(
        folder,
        "comparison.html",
        results=results,
        summary=summary,
        best=best,
        gaps=_gaps(results, runs, best),
        standings=bool(results.get("versus")),
        rates=figures.rates(results["rates"]) if "rates" in results else "",
        widths=results.get("rates", {}),
        tuned=results.get("tuned", {}),
        selection=results.get("selection", {}) if len(runs) > 1 else {},
        runs=runs,
        tested=tested,
        accuracy=figures.accuracy(summary) if tested else "",
        trade=figures.trade(summary) if others else "",
        histograms=figures.feature_histograms(
            {name: run["distortions"][tested] for name, run in first.items()}
        )
        if tested
        else "",
        changes=figures.layer_changes({n: run["changes"] for n, run in first.items()}),
        curves=figures.curves(
            {n: _averaged([r for r in runs if r["method"] == n], folder) for n in first}
        ),
        settings=(folder / "config.yaml").read_text(),
        rerun=f"adaptune compare --config {folder / 'config.yaml'} --out NEW_FOLDER",
    )


def _reached(line: Mapping[str, Any]) -> float:
    """Give the accuracy that methods are ranked by: elsewhere, or else at home."""
    cell = line["ood"] or line["id"] or {"mean": 0.0}
    return float(cell["mean"])


def _gaps(
    results: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], best: str
) -> dict[str, dict[str, Any] | None]:
    """Give by how much the best method beats each other one, where there is more than one run."""
    if "versus" in results:
        mine = [found for found in results["versus"] if found["one"] == best]
        return {found["other"]: {**found["ood"], **found} for found in mine}
    key = "ood_accuracy" if runs[0]["ood"] else "id_accuracy"
    names = [line["method"] for line in results["summary"]] if key in runs[0] else []
    return {name: paired(runs, best, name, key) for name in names if name != best}


def _averaged(runs: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, float]]:
    """Average what the curves show, epoch by epoch."""
    logs = [read_lines(folder / run["folder"] / "metrics.jsonl") for run in runs]
    shown = [
        [
            {key: line[key] for key in ("epoch", "val_accuracy") if key in line}
            | {"loss": figures.loss(line)}
            for line in lines
        ]
        for lines in logs
    ]
    return [
        {key: mean(line[key] for line in lines) for key in lines[0]}
        for lines in zip(*shown, strict=True)
    ]


def _pictures(mistakes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add a small picture to each mistake whose file can still be read."""
    return [
        {**one, "picture": one["path"] and thumbnail(Path(one["path"]), side=THUMBNAIL, kind="PNG")}
        for one in mistakes
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
    return f"data:image/{kind.lower()};base64," + base64.b64encode(raw.getvalue()).decode()


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
    write_text(file, render(template, **content, source=source))
    return file

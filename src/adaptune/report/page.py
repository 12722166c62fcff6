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

from adaptune.data.images import read_image
from adaptune.report import figures
from adaptune.run import read_lines, replace_text
from adaptune.summary import paired, summarize

THUMBNAIL = 72


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a run or a comparison; give its path.

    Raises:
        ValueError: If the folder holds no results.
    """
    file = folder / "results.json"
    if not file.is_file():
        raise ValueError(f"{folder} holds no results.json: give the folder of a finished run")
    comparison = "rows" in json.loads(file.read_text())
    return write_comparison_report(folder) if comparison else write_run_report(folder)


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
        accuracy=figures.accuracy(summary),
        histograms=figures.feature_histograms(
            {"ID" if test == "id" else test: one for test, one in results["distortions"].items()}
        ),
        changes=figures.layer_changes({name: results["changes"]}) if results["changes"] else "",
        curves=figures.curves({name: read_lines(folder / "metrics.jsonl")}),
        confusions={
            test: figures.confusion(results["scores"][test]["confusion"], results["classes"])
            for test in tests
        },
        worst={test: _pictures(results["worst"][test]) for test in tests},
        settings=(folder / "config.yaml").read_text(),
        rerun=f"adaptune fit --config {folder / 'config.yaml'} --out NEW_FOLDER",
    )


def write_comparison_report(folder: Path) -> Path:
    """Write the page of a comparison, and those of its runs."""
    results = json.loads((folder / "results.json").read_text())
    runs = []
    for row in results["rows"]:
        place = folder / "runs" / f"{row['method']}-{row['seed']}"
        runs.append(json.loads((place / "results.json").read_text()) | {"folder": place.name})
        write_run_report(place)
    summary = summarize(runs)
    first = {run["method"]: run for run in reversed(runs)}
    first = {line["method"]: first[line["method"]] for line in summary}
    others = bool(summary[0]["domains"])
    key = "ood_accuracy" if others else "id_accuracy"
    best = max(summary, key=lambda line: (line["ood"] or line["id"])["mean"])["method"]
    return _write(
        folder,
        "comparison.html",
        results=results,
        summary=summary,
        best=best,
        gaps={name: paired(runs, best, name, key) for name in first if name != best},
        runs=runs,
        accuracy=figures.accuracy(summary),
        trade=figures.trade(summary) if others else "",
        histograms=figures.feature_histograms(
            {name: run["distortions"]["id"] for name, run in first.items()}
        ),
        changes=figures.layer_changes({n: run["changes"] for n, run in first.items()}),
        curves=figures.curves(
            {n: _averaged([r for r in runs if r["method"] == n], folder) for n in first}
        ),
        settings=(folder / "config.yaml").read_text(),
        rerun=f"adaptune compare --config {folder / 'config.yaml'} --out NEW_FOLDER",
    )


def _averaged(runs: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, float]]:
    """Average the metrics of runs, epoch by epoch."""
    logs = [read_lines(folder / "runs" / run["folder"] / "metrics.jsonl") for run in runs]
    return [
        {key: mean(line[key] for line in lines) for key in lines[0]}
        for lines in zip(*logs, strict=True)
    ]


def _pictures(mistakes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add a small picture to each mistake whose file can still be read."""
    return [{**one, "picture": _picture(one["path"])} for one in mistakes]


def _picture(path: str | None) -> str:
    if path is None:
        return ""
    try:
        image = Image.fromarray(read_image(Path(path)).permute(1, 2, 0).numpy())
    except OSError:
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    raw = io.BytesIO()
    image.save(raw, "PNG")
    return "data:image/png;base64," + base64.b64encode(raw.getvalue()).decode()


def _write(folder: Path, template: str, **content: Any) -> Path:
    environment = Environment(
        loader=PackageLoader("adaptune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    config = yaml.safe_load(content["settings"])
    source = Path(config["data"]).stem
    page = environment.get_template(template).render(**content, source=source)
    file = folder / "report.html"
    replace_text(file, page)
    return file

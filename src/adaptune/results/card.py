"""A model card: what a run is and where it holds up, for those who get it from others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from adaptune.results.row import HOME
from adaptune.results.run import RunResults
from adaptune.runtime.wording import in_words_of_texts

OF_CLASSES = ("accuracy", "balanced accuracy", "macro F1", "AUC", "HTER")
PIPELINES = dict.fromkeys(OF_CLASSES, "image-classification") | {"mIoU": "image-segmentation"}
"""What the Hugging Face hub calls a task, by the name of its main score."""

RECALL, PAIRS = "recall@1", "It finds the text that belongs to an image, or to another text."
"""The main score of a network that matches pairs, and what such a one does."""


def model_card(results: RunResults | None, export: Mapping[str, Any]) -> str:
    """Write the card, Markdown under the hub's front matter, of an exported network.

    Without ``results``, of a network that is in no run's folder, it says what the network is and
    nothing of how well it does.

    Args:
        results: What the run came to.
        export: What ``export.json`` says.
    """
    front: dict[str, Any] = {"library_name": "adaptune", "tags": ["adaptune", "domain-adaptation"]}
    of_texts = export["input"]["name"] == "ids"
    if results is not None and results.measure.name in PIPELINES:
        known = PIPELINES[results.measure.name]
        front["pipeline_tag"] = "text-classification" if of_texts else known
    classes = export["classes"]
    title = "A network adapted by adaptune" if results is None else _title(results)
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {title}",
        PAIRS
        if results is not None and results.measure.name == RECALL
        else f"It tells {len(classes)} classes apart: {', '.join(map(str, classes))}.",
    ]
    if results is not None:
        parts += ["## How well it does", _scores(results), *_remarks(results)]
        parts += ["## How it was made", _made(results)]
    parts += ["## How to call it", _call(export)]
    card = "\n\n".join(parts) + "\n"
    return in_words_of_texts(card) if of_texts else card


def _title(results: RunResults) -> str:
    return f"{results.origin.get('name', 'A network')} adapted by {results.method}"


def _scores(results: RunResults) -> str:
    lines = [f"| tested on | {results.measure.title} | 95% interval | before training |"]
    lines.append("|---|---|---|---|")
    for test, one in results.scores.items():
        main = one.main
        values = (main.value, main.low, main.high, results.before.get(test))
        value, low, high, before = (
            "" if one is None else results.measure.number(one) for one in values
        )
        named = "held-out images of its own domain" if test == HOME else test
        lines.append(f"| {named} | {value} | {low} to {high} | {before} |")
    return "\n".join(lines)


def _remarks(results: RunResults) -> Sequence[str]:
    if results.elsewhere:
        return ()
    return ["It was tested on its own domain alone: nothing is known of how it does elsewhere."]


def _made(results: RunResults) -> str:
    options = ", ".join(f"{name} {value}" for name, value in results.options.items())
    counts = ", ".join(f"{count} {name}" for name, count in results.data.counts.items())
    lines = [
        f"- method: `{results.method}`{f' with {options}' if options else ''}, seed {results.seed}",
        f"- batch norms: {results.batchnorm}",
        f"- network: {results.origin.get('kind', '')} {results.origin.get('name', '')}",
        f"- images: {counts or 'not known'}",
    ]
    return "\n".join(lines)


def _call(export: Mapping[str, Any]) -> str:
    given, out = export["input"], export["output"]
    shape = " x ".join(map(str, given["shape"]))
    lines = [
        f"- file: `{export['file']}` ({export['format']})",
        f"- input `{given['name']}`: {shape}, {given['type']}: {given['values']}",
        *_made_into(given),
        f"- output `{out['name']}`: {' x '.join(out['axes'])}, in the order of the classes above",
    ]
    if out["unknown"]:
        lines.append(f"- {out['unknown']}")
    return "\n".join(lines)


def _made_into(given: Mapping[str, Any]) -> Sequence[str]:
    """Say how an image, or a text, is made into what goes in."""
    if "longest" in given:
        return (f"- longest: {given['longest']} ids, the rest of a text is left out",)
    return (
        f"- resize: {given['resize']}",
        f"- mean {given['mean']}, deviation {given['std']}, of values from 0 to 1",
    )

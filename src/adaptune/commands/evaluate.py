"""`adaptune evaluate`: a finished run on its own test sets, or on other data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.commands.open_data import mask_folders, task_of
from adaptune.commands.options import (
    Parser,
    add_json,
    add_masks,
    add_open_set,
    fabric_on,
    print_json,
    read_config,
)
from adaptune.data.domains import DomainData, Loading
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains, other_domains
from adaptune.data.words import named_folders
from adaptune.engine.evaluate import evaluate, sample_outputs
from adaptune.networks.network import Network
from adaptune.ops.rejection import UNKNOWN_ABOVE, calibrate_threshold, describe_threshold
from adaptune.report.terminal import Terminal
from adaptune.results.score import Measure, Scores
from adaptune.runs.folder import best_network
from adaptune.runtime.limits import MOST, check_range

AT_ONCE, AT_ONCE_OF_MASKS = 256, 8
"""Images at a time; features of every place take a few hundred times the memory of an image's."""

KINDS: dict[str, Any] = {
    "data": str,
    "domain": str,
    "source": list,
    "labels": list,
    "label_table": str,
    "target": str,
    "ood": list,
    "val_share": float | int,
    "test_share": float | int,
    "ood_images": str,
}
"""What a run's ``config.yaml`` says of its data, and as what."""


def run(words: Sequence[str]) -> None:
    """Score a network on test sets."""
    parser = Parser(prog="adaptune evaluate", description="Measure a finished run on data.")
    parser.add_argument("run", type=str, help="a run's folder, or one with a saved network")
    parser.add_argument(
        "--data",
        nargs="+",
        type=str,
        default=[],
        metavar="NAME=DIR",
        help="what to test on; by default the run's own test sets",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        between=(1, MOST),
        help=f"images at a time; by default {AT_ONCE}, or {AT_ONCE_OF_MASKS} where there are masks",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where")
    add_open_set(parser)
    parser.add_argument(
        "--unknown-above",
        type=float,
        help="test on an open set, with this as the uncertainty above which a prediction means "
        "unknown; by default it is the network's own, or else the least that keeps 95%% of the "
        "run's ID validation images known",
    )
    add_masks(parser)
    add_json(parser)
    given = parser.parse_args(list(words))
    check_range("--unknown-above", given.unknown_above, 0, 1, above=True, below=True)
    folder = Path(given.run)
    net = Network.load(best_network(folder))
    net.threshold, calibrates = _threshold(given, net)
    fabric = fabric_on(given.device)
    with Terminal() as terminal:
        usual = AT_ONCE_OF_MASKS if task_of(net).places else AT_ONCE
        loading = Loading(batch_size=given.batch_size or usual, track=terminal.track)
        data = _opened(folder, named_folders(given.data), net, loading, given)
        for note in data.notes:
            terminal.say(f"note: {note}")
        if calibrates and len(data.sets.get("val", ())):
            val = sample_outputs(net, data.scan("val"), fabric=fabric)
            net.threshold = calibrate_threshold(val.logits)
            terminal.say(f"note: {describe_threshold(net.threshold, len(val.y))}")
        scores: dict[str, Scores] = {}
        for name, rows in data.tests().items():
            scores[name] = evaluate(net, rows, task_of(net), fabric=fabric).scores
        for path, reason in data.problems.items():
            terminal.say(f"left out {path}: {reason}")
        terminal.scores(folder.name, scores)
    if given.json:
        told = {"network": str(folder), "scores": scores, "problems": data.problems}
        print_json(told | {"score": next((s.main.measure for s in scores.values()), Measure())})


def _threshold(given: Namespace, net: Network) -> tuple[float, bool]:
    """Say what the network's threshold is to be, and whether ID validation may tell a better one.

    It is one that rejects where the set is to be open.
    """
    if given.unknown_above is not None:
        return given.unknown_above, False
    opens = given.open_set and net.threshold == 1
    return UNKNOWN_ABOVE if opens else net.threshold, opens


def _opened(
    folder: Path, named: dict[str, Path], net: Network, loading: Loading, given: Namespace
) -> DomainData:
    """Open the run's own data, or the data that is named; keep trained subjects out of tests."""
    config = _settings(folder / "config.yaml")
    own = Path(config["data"]) if "data" in config else None
    common: dict[str, Any] = {
        "classes": net.classes,
        "loading": loading,
        "labels": task_of(net).labels,
        "masks": mask_folders(config.get("labels", [])) | mask_folders(given.labels),
        "table": given.label_table or config.get("label_table"),
        "open_set": net.threshold < 1,
    }
    if own is not None and own.exists():
        known = {field.name for field in fields(Shares)} & set(config)
        data = open_domains(
            own,
            named or named_folders(config.get("ood", [])),
            shares=Shares(**{name: config[name] for name in known}),
            domain=config.get("domain"),
            sources=config.get("source", []),
            target="" if named else config.get("target", ""),
            **common,
        )
        data = data.without_own_test() if named else data
    elif named:
        data = other_domains(named, **common)
    elif "data" not in config and (config.get("target") or config.get("ood")):
        ood = named_folders(config.get("ood", []))
        data = other_domains(ood, target=config.get("target", ""), **common)
    else:
        raise ValueError(
            f"{folder} does not know its data any more: name some with --data NAME=DIR"
        )
    return data.with_input(net.preprocess)


def _settings(file: Path) -> dict[str, Any]:
    """Read what a run was told about its data; a network without a run has no such file."""
    config = read_config(file) if file.is_file() else {}
    settings = {name: config[name] for name in KINDS if config.get(name) is not None}
    for name, value in settings.items():
        fits = isinstance(value, KINDS[name])
        listed = value if isinstance(value, list) else []
        if not fits or not all(isinstance(word, str) for word in listed):
            raise ValueError(
                f"{file} gives {value!r} for {name}, which no run does: take the file from a copy, "
                "or move it away and name the data with --data NAME=DIR"
            )
    return settings

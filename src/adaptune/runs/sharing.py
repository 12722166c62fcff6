"""Runs as folders for others: network, settings, results and a model card, on a hub or a disk."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from adaptune.networks.export import DESCRIPTION, FILES, export_network
from adaptune.networks.inputs import TOKENIZER
from adaptune.networks.network import Network
from adaptune.results.card import model_card
from adaptune.results.run import RunResults, read_results
from adaptune.runs.folder import best_network
from adaptune.runs.resume import PLACES
from adaptune.runtime.files import to_json, write_text

HUB = "hf:"
"""What stands before the name of a repository of the Hugging Face hub."""

CARD, RESULTS, CONFIG = "README.md", "results.json", "config.yaml"
SHARED = (FILES["safetensors"], "network.json", TOKENIZER, DESCRIPTION, RESULTS, CONFIG, CARD)
"""All that a folder for others may hold: nothing that could run code."""


def push_run(run: Path, place: str, *, public: bool = False) -> str:
    """Write what others need of a run, or of a saved network, into a folder or ``hf:REPO``.

    What names files and folders of this machine is left out of settings and results.

    Args:
        run: The run's folder.
        place: A folder that is new, empty or was pushed to before; or ``hf:OWNER/NAME``.
        public: Whether a repository that is made for it is open to all.

    Returns:
        Where it is.

    Raises:
        ValueError: If there is no network, the folder holds other things, or huggingface_hub is
            missing.
        OSError: If the hub refuses.
    """
    if not place.startswith(HUB):
        folder = Path(place)
        others = (
            sorted({one.name for one in folder.iterdir()} - {*SHARED}) if folder.is_dir() else []
        )
        if others or folder.is_file():
            raise ValueError(
                f"{folder} holds other things ({', '.join(others[:3]) or 'a file'}): name a new "
                "folder"
            )
        _write(run, folder)
        return str(folder)
    hub, name = _hub(), place.removeprefix(HUB)
    with TemporaryDirectory() as written:
        _write(run, Path(written))
        try:
            address = hub.create_repo(name, private=not public, exist_ok=True)
            hub.upload_folder(repo_id=name, folder_path=written)
        except Exception as error:  # the hub's own, and those of what it is reached by
            raise OSError(
                f"the hub did not take {name} ({error}): log in with `hf auth login`, or check the "
                "name"
            ) from error
    return str(address)


def pull_run(place: str, out: Path, *, revision: str | None = None) -> Network:
    """Bring what was pushed into a folder, and open its network.

    Args:
        place: A folder that was pushed to, or ``hf:OWNER/NAME``.
        out: The folder to write into.
        revision: Which version of a repository; by default its newest.

    Raises:
        ValueError: If it holds no network, or huggingface_hub is missing.
        OSError: If the hub does not give it.
    """
    if place.startswith(HUB):
        name = place.removeprefix(HUB)
        try:
            _hub().snapshot_download(
                name, revision=revision, local_dir=str(out), allow_patterns=list(SHARED)
            )
        except ValueError:
            raise
        except Exception as error:
            raise OSError(
                f"the hub did not give {name} ({error}): check name and revision, or log in with "
                "`hf auth login`"
            ) from error
    else:
        found = [file for file in (Path(place) / name for name in SHARED) if file.is_file()]
        if not found:
            raise ValueError(f"{place} is no folder that was pushed to: see adaptune push")
        out.mkdir(parents=True, exist_ok=True)
        for file in found:
            shutil.copyfile(file, out / file.name)
    return Network.load(out)


def _write(run: Path, folder: Path) -> None:
    """Write the folder for others."""
    net = Network.load(best_network(run))
    said = export_network(net, folder, "safetensors")
    results = run / RESULTS
    known = _without_places(read_results(results)) if results.is_file() else None
    write_text(folder / CARD, model_card(known, said))
    if known is not None:
        write_text(folder / RESULTS, json.dumps(to_json(known), indent=1) + "\n")
    if (run / CONFIG).is_file():
        settings = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
        write_text(folder / CONFIG, yaml.safe_dump(_names_alone(settings), sort_keys=False))


def _without_places(results: RunResults) -> RunResults:
    """Give results without what names files, or tells of this machine."""
    data = replace(results.data, notes=[], problems={})
    start = Path(results.start).name
    return replace(results, data=data, start=start, config=CONFIG, worst={}, machine={})


def _names_alone(settings: dict[str, Any]) -> dict[str, Any]:
    """Give settings in which places are known by their last names alone.

    >>> _names_alone({"data": "/home/me/photos", "ood": ["sketch=/home/me/s"], "lr": 0.1})
    {'data': 'photos', 'ood': ['sketch=s'], 'lr': 0.1}
    """

    def last(word: str) -> str:
        name, sign, place = word.rpartition("=")
        return f"{name}{sign}{Path(place).name}"

    def shown(value: Any) -> Any:
        return [last(str(one)) for one in value] if isinstance(value, list) else last(str(value))

    return {key: shown(one) if key in PLACES and one else one for key, one in settings.items()}


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError("the hub is reached by a package: pip install 'adaptune[hub]'") from error
    return huggingface_hub

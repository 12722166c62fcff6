"""`adaptune try`: show a finished run an image, and see what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_fabric import Fabric

from adaptune.commands.devices import add_device, fabric_on
from adaptune.commands.masks import add_tiles
from adaptune.commands.open_data import open_run_data, open_source_data, task_of, tiles_of
from adaptune.commands.options import Parser, add_port
from adaptune.commands.words import need_classes
from adaptune.data.domains import DomainData, Loading
from adaptune.data.file_rows import FileRows
from adaptune.data.names import printable
from adaptune.engine.batches import to_device
from adaptune.networks.inputs import need_images
from adaptune.networks.network import Network
from adaptune.report.terminal import Terminal
from adaptune.runs.folder import best_network
from adaptune.runs.masks import MaskMaker
from adaptune.serving.server import need_server, serve

if TYPE_CHECKING:
    from adaptune.serving.judging import Known

BATCH = 32


def run(words: Sequence[str]) -> None:
    """Serve a page that takes images until Ctrl-C."""
    parser = Parser(
        prog="adaptune try",
        description="Show a finished run an image on a page that this machine alone can open: its "
        "answer, how sure it is, the training images nearest to it, and whether it is far from all "
        "of them.",
    )
    parser.add_argument("run", type=str, help="a run's folder, or one with a saved network")
    add_port(parser)
    add_device(parser)
    add_tiles(parser)
    given = parser.parse_args(list(words))
    need_server()
    from adaptune.serving.judging import Judge
    from adaptune.serving.trying import MOST, trying_app

    folder = Path(given.run)
    instead = f"adaptune retrieve {folder} QUERIES --collection DOCUMENTS finds partners"
    net = need_classes(Network.load(best_network(folder)), instead)
    fabric = fabric_on(given.device)
    need_images(net.preprocess, "the page shows pictures")
    to_device(net.eval(), fabric)
    tiles = tiles_of(folder, given.tile, given.overlap)
    task = task_of(net, tiles)
    with Terminal() as terminal:
        known, why = _known(folder, net, fabric, terminal)
        if why:
            terminal.say(f"note: {why}")
        masks = MaskMaker(net, fabric, tiles) if task.places else None
        about = {
            "run": printable(folder),
            "classes": net.classes,
            "places": task.places,
            "why": why,
            **(known.about() if known else {}),
        }
        app = trying_app(Judge(net, task, fabric, known, masks), about)
        serve(app, port=given.port, most=MOST, say=terminal.say)


def _known(
    folder: Path, net: Network, fabric: Fabric, terminal: Terminal
) -> tuple[Known | None, str]:
    """Find features of what the run was trained on, kept in its folder; or say why there are none.

    That is its labelled images, or, of a run without any, its target.
    """
    from adaptune.serving.judging import Known
    from adaptune.serving.neighbours import FEW, MOST, find_neighbours, kept_neighbours, what_of

    loading = Loading(BATCH, track=terminal.track)
    try:
        data, labelled = _trained_on(folder, net, loading)
        rows = data.sets.get("train")
        if not isinstance(rows, FileRows):
            return None, "the run's training images are not there, so none can be shown"
        held = data.sets.get("val")
        beside = held.paths if isinstance(held, FileRows) else []
        of = what_of(best_network(folder), rows.paths, beside)
        trained, judged = (data.sample(split, MOST) for split in ("train", "val"))
        kept = kept_neighbours(
            folder / "neighbours.safetensors",
            of,
            partial(find_neighbours, net, trained, judged, fabric),
        )
    except (ValueError, OSError) as error:
        return None, f"the run's training images cannot be shown: {error}"
    if kept.limit is None:
        return Known(rows, kept, labelled), (
            f"it takes {FEW} validation images to tell what is out of the domain, and the run has "
            f"{len(kept.held)}"
        )
    return Known(rows, kept, labelled), ""


def _trained_on(folder: Path, net: Network, loading: Loading) -> tuple[DomainData, bool]:
    data = open_source_data(folder, net, loading)
    if "train" in data.sets:
        return data, True
    data = open_run_data(folder, net, loading, {})
    sets: dict[Any, Any] = {"train": data.target.rows} if len(data.target) else {}
    return replace(data, sets=sets, parts={}), False

"""Protocols name sources, methods and options that exist."""

import inspect
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import benchmarks.sources
from adaptune.data.domains import Loading
from adaptune.engine.method import refuse_task
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.runs.setup import Setup
from adaptune.tasks.segmentation import Segmentation

PAPER = ("cifar10", "domainnet40", "entity30", "fmow", "living17")
MASKS = ("voc", "cityscapes", "gta5-cityscapes", "synthia-cityscapes")
FOLDER = Path(benchmarks.sources.__file__).parents[1] / "protocols"
KEYS = {"about", "source", "source_options", "domains", "seeds"}
TABLES = {"setting", "plan", "loading", "variants", "grids"}


def read(name: str) -> dict:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


@pytest.fixture(params=("digits", "corruptions", *PAPER, *MASKS))
def protocol(request):
    return read(request.param)


def test_the_source_takes_the_options_and_every_table_its_fields(protocol):
    assert set(protocol) <= KEYS | TABLES
    assert protocol["about"].endswith(".")
    source = import_module(f"benchmarks.sources.{protocol['source']}")
    inspect.signature(source.open_source).bind(None, Path(), **protocol.get("source_options", {}))
    assert protocol["domains"]
    assert protocol["seeds"] == sorted(set(protocol["seeds"]))
    Setup(**protocol["setting"])
    Plan(**protocol["plan"])
    Loading(**protocol["loading"])


def test_variants_and_grids_name_methods_and_their_options(protocol):
    assert set(protocol.get("grids", {})) <= set(protocol["variants"])
    for name, variant in protocol["variants"].items():
        options = {key: value for key, value in variant.items() if key != "setting"}
        Setup(**protocol.get("setting", {}) | variant.get("setting", {}))
        known = inspect.signature(METHODS[options.pop("method")].__init__).parameters
        grid = protocol.get("grids", {}).get(name, {})
        assert set(options) | set(grid) <= {*known} - {"self", "net", "task"}
        assert not set(options) & set(grid), "a grid would overwrite an option"
        assert all(len(set(values)) == len(values) > 1 for values in grid.values())


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_protocols_compare_its_methods_from_a_file_of_weights(name):
    protocol = read(name)
    assert {"ft", "lp", "lp-ft", "daft", "daft-published"} <= set(protocol["variants"])
    assert protocol["setting"]["backbone"] == "resnet50"
    assert protocol["setting"]["weights"] not in (None, "none")
    assert protocol["loading"]["batch_size"] == 64
    assert protocol["plan"] == {
        "epochs": 50 if name in ("domainnet40", "fmow") else 20,
        "momentum": 0.9,
    }
    grids = protocol["grids"]
    assert (max(grids["ft"]["lr"]), min(grids["ft"]["lr"])) == (0.3, 1e-4)
    assert (max(grids["lp-ft"]["lr"]), min(grids["lp-ft"]["lr"])) == (1e-4, 3e-7)
    assert 3e-6 <= min(grids["daft-published"]["lr"]) <= max(grids["daft-published"]["lr"]) <= 1e-2
    assert sorted(grids["daft-published"]["head_lr"]) == [0.1, 0.3, 1.0, 3.0, 10.0]


@pytest.mark.parametrize("name", MASKS)
def test_protocols_of_masks_label_places_with_methods_that_do(name):
    protocol = read(name)
    assert protocol["setting"]["task"] == "segmentation"
    for one in protocol["variants"].values():
        refuse_task(METHODS[one["method"]], Segmentation)


@pytest.mark.parametrize("name", ["voc", "cityscapes"])
def test_on_the_papers_masks_its_methods_are_searched_at_its_rates(name):
    protocol, images = read(name), read("fmow")
    assert {"ft", "lp", "lp-ft", "daft", "daft-published"} <= set(protocol["variants"])
    for variant, grid in images["grids"].items():
        assert protocol["grids"][variant] == grid

"""One run that fails stops no other; what is done is not done again, in any number of processes."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaptune.data.domains import Loading
from adaptune.data.opening import open_domains
from adaptune.engine.plan import Plan
from adaptune.report.terminal import Terminal
from adaptune.results.run import RunResults, read_results
from adaptune.runs.setup import Setup
from adaptune.studies import grid
from adaptune.studies.grid import Cell, Failure, run_cells, spread

QUIET = Terminal(quiet=True)
SETTING = Setup(backbone="test_efficientnet", weights="none", image_size=32, crop=1.0)
OWN = {"lp": {"cs": 3}, "ft": {"lr": 0.01, "batchnorm": "train"}}


@pytest.fixture
def cells(photos, sketches, tmp_path):
    """A probe and a fine-tuning of one domain, each in its folder."""
    data = open_domains(photos, {"sketch": sketches}, loading=Loading(batch_size=16))

    def cell(method):
        folder, plan = tmp_path / "runs" / f"{method}-0", Plan(epochs=1)
        text = f"method: {method}\n"
        return Cell(folder, method, "photo", method, OWN[method], data, SETTING, plan, text)

    return [cell("lp"), cell("ft")]


def told(results: RunResults) -> RunResults:
    """What does not depend on the clock or on where the folder lies."""
    return replace(results, seconds=0.0, config="")


def saved(cell: Cell) -> RunResults:
    return read_results(cell.folder / "results.json")


class Ran(BaseException):
    """Says that a run was about to begin: no `Exception`, since a grid goes on after those."""


@pytest.fixture
def no_run(monkeypatch):
    def begin(run, *_, **__):
        raise Ran(run.folder.name)

    monkeypatch.setattr(grid, "experiment", begin)


def test_results_say_what_a_run_was_trained_on_and_with_in_the_order_of_the_cells(cells):
    cells = [replace(cells[0], name="lp (default)"), cells[1]]
    found, failures = run_cells(cells, jobs=1, terminal=QUIET)
    assert failures == []
    assert [(one.method, one.base, one.domain) for one in found] == [
        ("lp (default)", "lp", "photo"),
        ("ft", "ft", "photo"),
    ]
    assert [saved(cell) for cell in cells] == found
    assert found[0].elsewhere.keys() == {"sketch"}


def test_one_run_that_fails_stops_no_other_and_is_tried_again(cells, monkeypatch):
    begin = grid.experiment

    def fail(run, *given, **more):
        if run.folder.name == "lp-0":
            raise FloatingPointError("the term 'task' is nan")
        return begin(run, *given, **more)

    monkeypatch.setattr(grid, "experiment", fail)
    found, failures = run_cells(cells, jobs=1, terminal=QUIET)
    assert [one.method for one in found] == ["ft"]
    assert failures == [Failure("lp, photo, seed 0", "FloatingPointError: the term 'task' is nan")]
    assert not (cells[0].folder / "results.json").exists()
    monkeypatch.undo()
    assert [one.method for one in run_cells(cells, jobs=1, terminal=QUIET)[0]] == ["lp", "ft"]


def test_what_is_finished_is_not_run_again_but_other_settings_are(cells, monkeypatch):
    found, _ = run_cells(cells[:1], jobs=1, terminal=QUIET)
    monkeypatch.setattr(grid, "experiment", None)
    assert run_cells(cells[:1], jobs=1, terminal=QUIET) == (found, [])
    other = replace(cells[0], config="method: lp\ncs: 4\n")
    none, failures = run_cells([other], jobs=1, terminal=QUIET)
    assert none == []
    assert len(failures) == 1


def test_a_run_of_other_settings_takes_the_place_of_one_only_once_nothing_refuses_it(
    cells, monkeypatch
):
    run_cells(cells[:1], jobs=1, terminal=QUIET)
    folder = cells[0].folder
    before = {name: (folder / name).read_bytes() for name in ("config.yaml", "results.json")}
    other = replace(cells[0], config="method: lp\ncs: -4\n", options={"cs": -4})
    assert run_cells([other], jobs=1, terminal=QUIET)[1], "no probe has so few values"
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert cells[0].finished()

    def stop(run, *_, config, **__):
        run.begin(config, -1)
        raise Ran

    monkeypatch.setattr(grid, "experiment", stop)
    with pytest.raises(Ran):
        run_cells([other], jobs=1, terminal=QUIET)
    assert not (folder / "results.json").exists(), "an interrupted run should not look finished"
    assert other.begun()


def test_a_run_that_ended_before_it_was_told_where_it_stands_counts_as_finished(cells):
    (found,), _ = run_cells(cells[:1], jobs=1, terminal=QUIET)
    file = cells[0].folder / "results.json"
    alone = replace(found, domain="", base="").to_dict()
    assert not {"domain", "base"} & alone.keys()
    file.write_text(json.dumps(alone))
    assert run_cells(cells[:1], jobs=1, terminal=QUIET)[0] == [found]


def test_one_run_under_two_names_is_run_once(cells, monkeypatch):
    begin, ran = grid.experiment, []

    def count(run, *given, **more):
        ran.append(run.folder.name)
        return begin(run, *given, **more)

    monkeypatch.setattr(grid, "experiment", count)
    folder = cells[0].folder.parent / "lp-(default)-0"
    twin = replace(cells[0], name="lp (default)", folder=folder)
    found, _ = run_cells([cells[0], cells[1], twin], jobs=1, terminal=QUIET)
    assert ran == ["lp-0", "ft-0"]
    assert [one.method for one in found] == ["lp", "ft", "lp (default)"]
    assert saved(twin) == found[2]
    assert replace(found[2], method=found[0].method, config=found[0].config) == found[0]
    assert (folder / "best" / "network.json").exists()


@pytest.mark.usefixtures("no_run")
def test_what_is_no_error_of_a_run_stops_them_all(cells):
    with pytest.raises(Ran, match="lp-0"):
        run_cells(cells, jobs=1, terminal=QUIET)


def test_features_before_training_are_computed_once_for_all_runs_of_a_domain(cells, monkeypatch):
    monkeypatch.setattr(grid, "_BASELINE", {})
    seeded = replace(
        cells[0],
        folder=cells[0].folder.parent / "lp-1",
        plan=Plan(1, seed=1),
        config="method: lp\nseed: 1\n",
    )
    run_cells([*cells, seeded], jobs=1, terminal=QUIET)
    first, second = grid._BASELINE.values()
    assert first.keys() == second.keys() == {"id", "sketch"}
    assert not torch.equal(first["id"].sample.features, second["id"].sample.features), (
        "another seed has other random weights"
    )


def test_other_data_under_the_same_names_are_not_taken_for_those_seen_before(
    cells, photos, sketches, tmp_path
):
    run_cells(cells[:1], jobs=1, terminal=QUIET)
    data = open_domains(sketches, {"sketch": photos}, loading=Loading(batch_size=16))
    other = replace(cells[0], folder=tmp_path / "other", data=data)
    (found,), _ = run_cells([other], jobs=1, terminal=QUIET)
    for one in found.distortions.values():
        assert one["cosine"] == pytest.approx(1, abs=1e-5), "a probe moves no feature"


def halved(number: int, terminal: Terminal) -> int:
    """Work that a process can be sent."""
    del terminal
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def test_every_item_comes_back_under_its_number():
    done = dict(spread(halved, [4, 3, 8], jobs=1, terminal=QUIET, label="numbers"))
    assert done == {0: 2, 1: Failure("3", "ValueError: 3 is odd"), 2: 4}


def deadly(number, terminal):
    """Halve a number; 13 ends the process, as a system out of memory would."""
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return number / 2


def whose(item, terminal):
    """Name the process that works on an item, and how many threads it may take."""
    return os.getpid(), torch.get_num_threads()


def test_an_item_is_worked_on_by_a_new_process_that_takes_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    [(_, (process, threads))] = spread(whose, [1], jobs=2, terminal=QUIET, label="numbers")
    assert process != os.getpid()
    assert threads == 3


@pytest.fixture
def quick_processes(monkeypatch):
    """Processes that do not import everything anew, for what does not depend on how they begin."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: fork)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.usefixtures("quick_processes")
def test_a_process_that_is_killed_loses_its_own_item_alone():
    found = dict(spread(deadly, [4, 13, 3, 8], jobs=2, terminal=QUIET, label="numbers"))
    assert {number: found[number] for number in (0, 2, 3)} == {0: 2, 2: 1.5, 3: 4}
    assert found[1] == Failure("13", "its process was killed: is there memory?")


@pytest.mark.slow
def test_two_processes_give_what_one_gives(cells, tmp_path):
    alone, _ = run_cells(cells, jobs=1, terminal=QUIET)
    apart = [replace(cell, folder=Path(tmp_path / "two" / cell.method)) for cell in cells]
    nowhere = tmp_path / "two" / "broken"
    broken = replace(apart[0], folder=nowhere, method="none", config="method: none")
    together, failures = run_cells([broken, *apart], jobs=2, terminal=QUIET)
    assert [told(one) for one in together] == [told(one) for one in alone]
    assert [told(saved(cell)) for cell in apart] == [told(one) for one in alone]
    assert [failure.cell for failure in failures] == ["lp, photo, seed 0"]
    assert "KeyError" in failures[0].reason

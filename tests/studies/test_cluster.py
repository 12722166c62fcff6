"""Workers of dask run the cells of a comparison as this process does."""

import os
import signal
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adaptune.data.domains import DomainData, Loading
from adaptune.data.opening import open_domains
from adaptune.engine.plan import Plan
from adaptune.report.terminal import Terminal
from adaptune.runs.setup import Setup
from adaptune.studies import cluster
from adaptune.studies.grid import Cell, Failure, run_cells, spread

dask = pytest.importorskip("dask", reason="dask is not installed: pip install 'adaptune[dask]'")
distributed = pytest.importorskip("distributed", reason="pip install 'adaptune[dask]'")

QUIET = Terminal(quiet=True)
SETTING = Setup(backbone="test_efficientnet", weights="none", image_size=32, crop=1.0)


@dataclass
class Deadly(DomainData):
    """Data that kill the process that first tests on them."""

    mark: Path = Path()

    def tests(self):
        if not self.mark.exists():
            self.mark.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().tests()


def quarter(item: int, _: Terminal) -> float:
    return 12 / item


def opened(**more):
    options = {"dashboard_address": "127.0.0.1:0", "threads_per_worker": 1, "protocol": "tcp"}
    return distributed.LocalCluster(**{**options, **more})


def address(one) -> str:
    return one.scheduler_address.replace("tcp", "dask")


@pytest.fixture(scope="module")
def two():
    """A scheduler and two workers in this process."""
    with opened(n_workers=2, processes=False) as one:
        yield address(one)


def cells(data: DomainData, folder: Path) -> list[Cell]:
    found = []
    for seed in (0, 1):
        place, plan = folder / f"ft-{seed}", Plan(epochs=1, seed=seed)
        own, text = {"lr": 0.01, "batchnorm": "train"}, f"method: ft\nseed: {seed}\n"
        found.append(Cell(place, "ft", "photo", "ft", own, data.seeded(seed), SETTING, plan, text))
    return found


def test_one_that_fails_is_named_and_the_rest_goes_on(two):
    done = dict(spread(quarter, [4, 0, 3], jobs=1, terminal=QUIET, label="n", executor=two))
    assert (done[0], done[2]) == (3.0, 4.0)
    assert done[1] == Failure("0", "ZeroDivisionError: division by zero")


def test_workers_of_another_version_are_refused(two, monkeypatch):
    with pytest.raises(ValueError, match="that came later has adaptune"):
        cluster._alone(len, "ab", "0.0")
    monkeypatch.setattr(cluster, "version", own := cluster.version)
    first = [own("adaptune")]
    monkeypatch.setattr(cluster, "version", lambda name: first.pop() if first else "0.0.1")
    with pytest.raises(ValueError, match=r"worker tcp.* has adaptune 0.0.1 and this is"):
        cluster.count_workers(two)


def test_what_is_no_scheduler_or_has_no_worker_that_fits_is_said(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.3)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with pytest.raises(ValueError, match="no scheduler answers there within"):
        cluster.count_workers(f"dask://127.0.0.1:{port}")
    with pytest.raises(ValueError, match="dask://HOST:PORT, and got"):
        cluster.count_workers("here:1")
    for wrong, said in ((0, "has no workers: start some"), (2, "start them with --nthreads 1")):
        many = {"n_workers": min(wrong, 1), "threads_per_worker": wrong or 1}
        with opened(**many, processes=False) as one, pytest.raises(ValueError, match=said):
            cluster.count_workers(address(one))


@pytest.mark.slow  # workers are processes that import all of torch, thrice
def test_a_worker_that_is_killed_loses_nothing(photos, sketches, tmp_path):
    data = open_domains(photos, {"sketch": sketches}, loading=Loading(batch_size=16))
    alone, _ = run_cells(cells(data, tmp_path / "alone"), jobs=1, terminal=QUIET)
    mark = tmp_path / "killed"
    deadly = Deadly(**vars(data), mark=mark)
    with opened(n_workers=2, processes=True) as one:
        asked = cells(deadly, tmp_path / "apart")
        found, failures = run_cells(asked, jobs=1, terminal=QUIET, executor=address(one))
    assert mark.exists()
    assert failures == []
    told = [[replace(one, seconds=0.0, config="") for one in runs] for runs in (found, alone)]
    assert told[0] == told[1]


def test_commands_hand_their_runs_to_workers(two, own_photos, tiny, told, monkeypatch):
    monkeypatch.chdir(own_photos.parent)
    words = [*tiny, "--epochs=1", "--seeds=1", "--methods=lp", "--json"]
    code, plain, _ = told("compare", "photo", *words, "--out=here")
    assert code == 0
    code, apart, _ = told("compare", "photo", *words, "--out=there", "--executor", two)
    assert code == 0
    texts = [Path(one, "runs", "lp-0", "config.yaml").read_text() for one in ("here", "there")]
    assert texts[0] == texts[1]
    words = ["--method=ft", "--budget=2", "--epochs=1", *tiny]
    assert told("search", "photo", *words, "--out=found", "--executor", two)[0] == 0
    code, _, error = told("search", "photo", *words, "--out=x", "--executor", two, "--jobs=2")
    assert (code, "give one" in error) == (1, True)

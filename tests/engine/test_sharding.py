"""Weights in shards: two processes train as one does, each with half, and leave what one leaves.

Two real processes run once and leave what they found; each test looks at a part of it.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from toy import CLASSES, domains, network
from two import on_two

from adaptune.engine.descent import Descent
from adaptune.engine.loop import Epoch, fit
from adaptune.engine.plan import Plan
from adaptune.engine.sharding import ALONE, Sharding, blocks_of
from adaptune.methods.supervised.daft import DAFT
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.lp_ft import LinearProbeFineTune
from adaptune.methods.supervised.sam import SAM
from adaptune.runs.checkpoint import Checkpoints
from adaptune.runtime.processes import rank_and_world
from adaptune.tasks.classification import Classification
from adaptune.types import Needs

TASK = Classification(len(CLASSES))
HELD = partial(FineTune, batchnorm="eval")
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "ft": (FineTune, {}),
    "lp-ft": (partial(LinearProbeFineTune, cs=6, batchnorm="converted"), {}),
    "daft": (DAFT, {"clip": 0.1}),
    "by adamw": (
        partial(FineTune, lr=0.01),
        {"optimizer": "adamw", "weight_decay": 0.1, "clip": 0.1},
    ),
    "in parts": (HELD, {"accumulate": 3}),
    "averaged": (FineTune, {"average": "ema", "average_decay": 0.8, "interpolate": 0.5}),
}
UNEVEN = 15
"""Images in a batch, which two processes cannot share evenly."""


def begun(case: str, *, shard: bool, state: Any = None, **how: Any) -> tuple[Any, Any]:
    """Begin to train a case in float64; give the method and its epochs."""
    kind, plan = CASES[case]
    method = kind(network().double(), TASK).double()
    data = domains(2 * UNEVEN, batch_size=UNEVEN)
    for rows in (*data.sets.values(), *data.ood.values(), data.augmented):
        rows.data = [(x.double(), y) for x, y in rows.data]
    layout = "auto" if shard else "contiguous"
    chosen = Plan(epochs=2, layout=layout, shard=shard, **plan)
    return method, fit(method, data, chosen, state=deepcopy(state), **how)


def trained(case: str, **how: Any) -> dict:
    """Train a case to its end; give what the epochs and the network came to."""
    method, epochs = begun(case, **how)
    terms = [epoch.terms for epoch in epochs]
    return {"terms": terms, "state": method.state_dict()}


def paused(case: str, folder: Path, *, shard: bool) -> dict:
    """Train a case to the middle of its second epoch; leave a checkpoint, as a run does."""
    count = iter(range(10))
    method, epochs = begun(case, shard=shard, pause=lambda: next(count) == 1)
    for epoch in epochs:
        if not epoch.whole:
            if rank_and_world()[0] == 0:
                Checkpoints(folder).save(epoch.step, {"fit": epoch.state})
            return {"state": method.state_dict(), "step": epoch.step}
    raise AssertionError("no pause")


def resumed(case: str, folder: Path, *, shard: bool) -> dict:
    """Go on from the checkpoint that is in a folder."""
    found = Checkpoints(folder).newest()
    assert found is not None
    return trained(case, shard=shard, state=found.state["fit"])


def size(tensors: Any) -> int:
    """Count the bytes that this process has of tensors, of memory that several share once."""
    own = [one.to_local() if hasattr(one, "to_local") else one for one in tensors]
    kept = [one.untyped_storage() for one in own]
    return sum({one.data_ptr(): one.nbytes() for one in kept}.values())


def kept_here() -> dict:
    """Take a step in shards; count the bytes that a process keeps of what a step takes."""
    fabric = Fabric(accelerator="cpu", devices=1)
    method = FineTune(network(), TASK)
    every = size(method.parameters())
    sharding = Sharding(method, fabric, asked=True)
    state: dict[str, Any] = {"method": method.state_dict()}
    sharding.release(state)
    released = (size(method.parameters()), state)
    descend = Descent(sharding.trained, Plan(optimizer="adamw"), fabric)
    [batch, *_] = domains().batches(Needs(), 0)
    descend.at(0.5, rows=len(batch.labeled))
    sharding.trained.train()
    descend(partial(sharding.trained.objective, batch))
    moments = [
        one
        for state in descend.optimizer.state.values()
        for name, one in state.items()
        if name != "step"
    ]
    gradients = [one.grad for one in descend.params]
    own = size([*sharding.trained.parameters(), *gradients, *moments])
    return {"share": own / (4 * every), "released": released}


def of_two(folder: str) -> dict:
    warnings.filterwarnings("error", "FSDP")  # of answers that are views, whose hooks may be lost
    found: dict[str, Any] = {name: trained(name, shard=True) for name in CASES}
    for case in ("ft", "by adamw", "averaged"):
        found[f"pause of {case}"] = paused(case, Path(folder) / case, shard=True)
    found["from one"] = resumed("by adamw", Path(folder) / "alone", shard=True)
    return found | {"bytes": kept_here()}


def of_four(folder: str) -> dict:
    return {case: resumed(case, Path(folder) / case, shard=True) for case in ("ft", "by adamw")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("sharding")
    paused("by adamw", made / "alone", shard=False)
    return made


@pytest.fixture(scope="module")
def both(folder) -> list[dict]:
    """What each of two processes came to."""
    return on_two(partial(of_two, str(folder)), folder)


@pytest.fixture(scope="module")
def alone() -> dict:
    return {name: trained(name, shard=False) for name in CASES}


def close(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_in_shards_train_as_one_that_has_all_in_float64(both, alone, name):
    for one in both:
        close(one[name]["state"], alone[name]["state"])
        assert all(type(value) is torch.Tensor for value in one[name]["state"].values())
    assert both[0][name]["terms"] == both[1][name]["terms"]


def test_a_process_keeps_half_of_weights_gradients_and_moments(both):
    shares = [one["bytes"]["share"] for one in both]
    assert 1 <= sum(shares) < 1.05, "a row is filled up where rows are odd"
    assert max(shares) < 0.53
    assert all(one["bytes"]["released"] == (0, {}) for one in both)


@pytest.mark.parametrize("case", ["ft", "by adamw", "averaged"])
def test_what_two_processes_leave_goes_on_in_one(both, folder, alone, case):
    assert [one[f"pause of {case}"]["step"] for one in both] == [1, 1]
    close(resumed(case, folder / case, shard=False)["state"], alone[case]["state"])


def test_what_one_process_leaves_goes_on_in_two(both, alone):
    for one in both:
        close(one["from one"]["state"], alone["by adamw"]["state"])


@pytest.mark.slow
def test_what_two_processes_leave_goes_on_in_four(both, folder, alone, tmp_path):
    del both
    for one in on_two(partial(of_four, str(folder)), tmp_path, processes=4):
        for case, found in one.items():
            close(found["state"], alone[case]["state"])


def test_one_process_says_that_it_has_all():
    first: Epoch = next(begun("ft", shard=True)[1])
    assert ALONE in first.said


@pytest.mark.parametrize(
    ("kind", "plan", "fabric", "words"),
    [
        (SAM, {}, {}, "SAM asks more of its weights than"),
        (FineTune, {"compile": True}, {}, "leave one out"),
        (FineTune, {"layout": "channels_last"}, {}, "leave out --layout"),
        (FineTune, {}, {"precision": "16-mixed"}, "give --precision bf16-mixed"),
    ],
)
def test_what_cannot_be_sharded_is_refused(kind, plan, fabric, words, monkeypatch):
    chosen = Fabric(accelerator="cpu", devices=1)
    if fabric:
        monkeypatch.setattr(chosen.strategy.precision, "state_dict", lambda: {"scale": 1.0})
    with pytest.raises(ValueError, match=words):
        next(fit(kind(network(), TASK), domains(), Plan(shard=True, **plan), fabric=chosen))


def test_blocks_are_the_largest_items_of_lists_that_hold_an_eighth():
    layers = [torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)) for _ in range(3)]
    body = torch.nn.Sequential(*layers, torch.nn.LayerNorm(4))
    assert blocks_of(body) == [layer[0] for layer in layers]
    shared = torch.nn.Sequential(layers[0], layers[1])
    shared[1][0].weight = shared[0][0].weight
    assert blocks_of(shared) == []


def test_blocks_are_inside_of_lists_whose_items_hold_more():
    stages = [torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(9))) for _ in range(2)]
    body = torch.nn.ModuleList([torch.nn.ModuleDict({"layers": stage}) for stage in stages])
    assert blocks_of(body) == [layer for stage in stages for layer in stage]

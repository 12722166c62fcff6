"""Random settings, asked again when a run goes on: what its files claim is what trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from adaptune.commands import main
from adaptune.engine.descent import Descent
from adaptune.methods.supervised.ft import FineTune
from adaptune.runtime.files import read_lines

VALUES = {
    "lr": (0.02, 0.003, 0.5),
    "batchnorm": ("train", "eval"),
    "momentum": (0.9, 0.5),
    "weight_decay": (0.0, 0.01),
    "warmup": (0.0, 0.25),
    "clip": (None, 1.0),
    "accumulate": (1, 2),
    "average": ("none", "ema"),
    "interpolate": (1.0, 0.5),
    "seed": (0, 3),
    "batch_size": (16, 9),
}
"""Settings that decide what is trained, first what they are where nothing is said."""

OFF = {"average": "none", "interpolate": 1.0}
"""Settings of which a config says nothing where there is no average."""

FREE = {"workers": (0, 1), "cache": ("none", "ram"), "checkpoint_minutes": (10, 0)}

USUAL = {name: values[0] for name, values in VALUES.items()}


def some(values: dict[str, tuple]) -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in values.items()})


BEGUN = some(VALUES)
ASKED = st.lists(
    st.tuples(some(VALUES) | st.just({}), some(FREE), st.none() | st.integers(0, 3)), max_size=3
)

calm = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def trained(monkeypatch) -> list[dict]:
    """What each step was really taken with, seen from within the method."""
    seen: list[dict] = []
    begin, step = Descent.__init__, FineTune.step

    def beginning(descend, method, plan, fabric):
        begin(descend, method, plan, fabric)
        method.by = plan

    def watched(method, batch, descend):
        known = {name: getattr(method.by, name) for name in VALUES if hasattr(method.by, name)}
        rows = len(batch.labeled) * method.by.accumulate
        known |= {"lr": method.lr, "batchnorm": method.net.batchnorm, "batch_size": rows}
        seen.append(known | {"epochs": method.by.epochs})
        return step(method, batch, descend)

    monkeypatch.setattr(Descent, "__init__", beginning)
    monkeypatch.setattr(FineTune, "step", watched)
    return seen


def words(values: dict) -> list[str]:
    known = {name: value for name, value in values.items() if value is not None}
    return [f"--{name.replace('_', '-')}={value}" for name, value in known.items()]


def differ(one: dict, asked: dict) -> bool:
    """Tell whether something else is asked for; None cannot be said."""
    return any(value is not None and value != one[name] for name, value in asked.items())


def check(start: list[str], folder: Path, trained: list[dict], begun: dict, asked: list) -> None:
    trained.clear()
    shutil.rmtree(folder, ignore_errors=True)
    own, epochs, extended = USUAL | begun, 1, False
    assert main([*start, *words(begun), "--epochs=1", f"--out={folder}"]) == 0
    for values, free, more in asked:
        before = {name: (folder / name).read_bytes() for name in ("config.yaml", "results.json")}
        count = len(trained)
        given_ = words(values) + words(free) + words({"epochs": more})
        code = main(["fit", "--resume", f"--out={folder}", *given_])
        refused = differ(own, values) or (more is not None and more < epochs)
        assert code == refused
        if refused:
            assert len(trained) == count
            assert {name: (folder / name).read_bytes() for name in before} == before
        else:
            extended |= (more or epochs) > epochs
            epochs = more or epochs
    config = yaml.safe_load((folder / "config.yaml").read_text())
    results = json.loads((folder / "results.json").read_text())
    steps = {json.dumps({name: one[name] for name in sorted(VALUES)}) for one in trained}
    (step,) = map(json.loads, steps)
    step["batch_size"] = own["batch_size"] if own["accumulate"] > 1 else step["batch_size"]
    claimed = {name: config.get(name, OFF.get(name)) for name in VALUES}
    assert claimed == step == own
    assert results["options"] == {"lr": step["lr"], "batchnorm": step["batchnorm"]}
    assert results["seed"] == step["seed"]
    lines = [line["epoch"] for line in read_lines(folder / "metrics.jsonl")]
    assert config["epochs"] == epochs == lines[-1] == trained[-1]["epochs"]
    if not extended:
        same_as_config_alone(folder)


def same_as_config_alone(folder: Path) -> None:
    """A run that is made from the config alone has the same weights to the bit."""
    again = folder.with_name("again")
    shutil.rmtree(again, ignore_errors=True)
    assert main(["fit", f"--config={folder / 'config.yaml'}", f"--out={again}"]) == 0
    one, other = (load_file(each / "last" / "network.safetensors") for each in (folder, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def start(photos, tiny) -> list[str]:
    return ["fit", str(photos), *tiny[:-1], "--method=ft", "--lr=0.02", "--val-share=0.5"]


@settings(calm, max_examples=4)
@given(begun=BEGUN, asked=ASKED)
def test_what_a_run_claims_is_what_trained(start, tmp_path, trained, begun, asked):
    check([*start, "--batch-size=16"], tmp_path / "run", trained, begun, asked)


@pytest.mark.slow
@settings(calm, max_examples=100)
@given(begun=BEGUN, asked=ASKED)
def test_what_many_more_runs_claim_is_what_trained(start, tmp_path, trained, begun, asked):
    check([*start, "--batch-size=16"], tmp_path / "run", trained, begun, asked)

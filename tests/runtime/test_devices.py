"""What is done where there is no float64, on a pretended device that refuses it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from pretended import MPS, pretended_mps
from toy import CLASSES

from adaptune.runtime.devices import exact_device, to_float64
from adaptune.tasks.classification import Classification

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gpu.md"
TASK = Classification(len(CLASSES))


@pytest.fixture
def mps(monkeypatch):
    """Give a fabric of the pretended device."""
    fabric = Fabric(accelerator="cpu", devices=1)

    def place(strategy):
        return MPS if strategy is fabric.strategy else torch.device("cpu")

    monkeypatch.setattr(type(fabric.strategy), "root_device", property(place))
    seen = "lightning_fabric.fabric._has_meta_device_parameters_or_buffers"
    monkeypatch.setattr(seen, lambda optimizer: False)  # it takes what is pretended for meta
    state = torch.zeros(1)
    monkeypatch.setattr(torch.mps, "get_rng_state", state.clone)
    monkeypatch.setattr(torch.mps, "set_rng_state", state.copy_)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: None)
    with pretended_mps():
        yield fabric


def test_the_tests_that_the_page_on_gpus_names_are_there():
    items = re.findall(r"^- .*\n(?:  .*\n)*", PAGE.read_text(), re.MULTILINE)
    named = [
        (re.findall(r"`(tests/\S+\.py)`", item)[-1], name)
        for item in items
        for name in re.findall(r"`(test_\w+)`", item)
    ]
    assert len(named) > 10
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(), (file, name)


def test_the_pretended_device_refuses_float64_and_what_lies_elsewhere(mps):
    x = torch.ones(2, 2).to(MPS)
    for wrong in (x.double, lambda: x.sum(dtype=torch.float64), lambda: x + torch.ones(2, 2)):
        with pytest.raises((TypeError, RuntimeError), match="float64|same device"):
            wrong()
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(2, dtype=torch.float64, device=x.device)
    assert to_float64(x).dtype == torch.float64
    assert exact_device(x.device) == torch.device("cpu")

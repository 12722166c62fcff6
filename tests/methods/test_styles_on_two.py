"""Methods that lend styles between images do on two processes what they do on one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy import CLASSES, images, network
from two import on_two

from adaptune.data import DomainData, Loading, from_datasets
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.tasks.classification import Classification

OPTIONS = {
    "mixstyle": {"chance": 1.0, "pairs": "domains"},
    "iadg": {"styles": 4, "weight": 0.0},
    "dlif": {"temperature": 0.5},
    "deco": {},
}
UNEVEN = 15
"""Images in a batch, which two processes cannot share evenly."""


def data() -> DomainData:
    """Give two labelled domains in float64."""
    sets = [images(60), images(30, seed=1), images(30, seed=2)]
    sets[0].tensors[0][30:] += 0.4
    for one in sets:
        one.tensors = (one.tensors[0].double(), one.tensors[1])
    served = from_datasets(*sets, classes=CLASSES, loading=Loading(batch_size=UNEVEN))
    return replace(served, parts={"train": (30, 30)})


def learnt(name: str) -> dict[str, torch.Tensor]:
    task = Classification(len(CLASSES), domains=2)
    method = METHODS[name](network().double(), task, **OPTIONS[name]).double()
    for _ in fit(method, data(), Plan(epochs=1, seed=3, layout="channels_last")):
        pass
    return {key: value.clone() for key, value in method.state_dict().items()}


def everything() -> dict:
    return {name: learnt(name) for name in OPTIONS}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    return on_two(everything, tmp_path_factory.mktemp("styles"))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_is_that_of_one_process_and_the_same_bits_on_both(both, name):
    a, b = (one[name] for one in both)
    assert all(torch.equal(a[key], b[key]) for key in a)
    for key, value in learnt(name).items():
        if "pairs" not in key:  # which products a style moves is found with draws of each process
            torch.testing.assert_close(a[key], value, rtol=1e-9, atol=1e-9)

"""Two processes adapt to places as one does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dense_start import source_trained
from places import dense_network, drawn
from torch.utils.data import TensorDataset
from toy import CLASSES, tinted
from two import on_two

from adaptune.data import DomainData, Loading, from_datasets
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.tasks.segmentation import Segmentation

OPTIONS = {
    "shot": {},
    "osuda": {},
    "sfda-seg": {"of": "batch"},
    "adaptsegnet": {"hidden": 2, "weight": 1.0},
    "dacs": {"sure": 0.4},
    "idm": {"sure": 0.4, "grid": 4},
    "datr": {"kernel": 3, "supervised": 0},
    "samda": {"generic": "test_efficientnet", "generic_weights": "none", "generic_size": 32},
    "gprn": {"regions": "grid"},
}
UNEVEN = 15
"""Images in a batch, which two processes cannot share evenly."""


def data(domains: int) -> DomainData:
    """Give images of a source and a target; of two domains the last has five labelled ones."""
    x, y = drawn(45, seed=4)
    other, _ = drawn(45, seed=5)
    rows, target = (TensorDataset(one.double(), y) for one in (x, tinted(other, 0.5)))
    loading = Loading(batch_size=UNEVEN)
    found = from_datasets(
        *[rows] * 3, classes=CLASSES, labels="mask", target=target, loading=loading
    )
    return replace(found, parts={"train": (40, 5)} if domains > 1 else {})


def learnt(name: str) -> dict:
    kind = METHODS[name]
    net = dense_network() if kind.needs.labeled else source_trained()
    domains = kind.needs.domains
    method = kind(net.double(), Segmentation(len(CLASSES), domains), **OPTIONS[name]).double()
    plan = Plan(epochs=1, seed=3, layout="channels_last")
    terms = []
    for epoch in fit(method, data(domains), plan):
        method.double()  # what was registered for these data
        terms.append(epoch.terms)
    return {"state": {key: one.clone() for key, one in method.state_dict().items()}, "terms": terms}


def everything() -> dict:
    return {name: learnt(name) for name in OPTIONS}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    """What each of two processes came to."""
    return on_two(everything, tmp_path_factory.mktemp("places"), alone=source_trained)


@pytest.fixture(scope="module")
def alone() -> dict:
    return everything()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_is_that_of_one_process_and_the_same_bits_on_both(both, alone, name):
    a, b = (one[name] for one in both)
    assert a["terms"] == b["terms"]
    assert all(torch.equal(a["state"][key], b["state"][key]) for key in a["state"])
    torch.testing.assert_close(a["state"], alone[name]["state"], rtol=1e-9, atol=1e-9)

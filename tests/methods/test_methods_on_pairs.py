"""Methods of pairs: two processes do what one does, and what they leave is saved and opened."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pairs import LOOK, SPACE, TASK, TEXTS, Pairs, matches, pair_network
from toy import body, images
from two import on_two

from adaptune.data import DomainData, Loading, from_datasets
from adaptune.engine.loop import fit
from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.networks.joint import Joint
from adaptune.networks.network import Network
from adaptune.networks.text import text_architecture
from adaptune.types import Batch, Labeled

NAMES = [name for name, method in METHODS.items() if matches(method)]
UNEVEN = 15
"""Images in a batch, which two processes cannot share evenly."""


def made(name: str, net: Network) -> Method:
    return METHODS[name](net, replace(TASK, domains=METHODS[name].needs.domains))


def data(domains: int) -> DomainData:
    """Give pairs in float64, in which texts stand at several images."""
    pairs = Pairs(sources=domains, count=48 // domains)
    rows = torch.utils.data.TensorDataset(pairs.x.double(), pairs.y)
    loading = Loading(batch_size=UNEVEN)
    served = from_datasets(*[rows] * 3, classes=("text",), labels="text", loading=loading)
    return replace(served, parts={"train": tuple([48 // domains] * domains)})


def learnt(name: str) -> dict[str, torch.Tensor]:
    method = made(name, pair_network().double()).double()
    method.net.double()
    plan = Plan(epochs=1, seed=3, layout="contiguous")
    for _ in fit(method, data(method.needs.domains), plan):
        pass
    return {key: value.clone() for key, value in method.state_dict().items()}


def everything() -> dict:
    return {name: learnt(name) for name in NAMES}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    return on_two(everything, tmp_path_factory.mktemp("pairs"))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_that_of_one_process_and_the_same_bits_on_both(both, name):
    a, b = (one[name] for one in both)
    assert all(torch.equal(a[key], b[key]) for key in a)
    begun = pair_network().state_dict()
    found = learnt(name)
    torch.testing.assert_close(a, found, rtol=1e-9, atol=1e-9)
    assert any(not torch.equal(found[f"net.{key}"].float(), begun[key]) for key in begun)


def saveable() -> Network[Joint]:
    """Give a network whose tower can be built again by its description."""
    config = {"model_type": "ngrams", "pooling": "mean"}
    config |= {"settings": {"vocabulary": LOOK.vocabulary, "width": 5}}
    tower = text_architecture(config, LOOK).module
    net = pair_network()
    net.head = Joint(net.width, SPACE, LOOK, tower=tower, tower_width=5, config=config)
    return net


@pytest.mark.parametrize("name", NAMES)
def test_what_it_leaves_is_saved_and_says_the_same_when_it_is_opened(name, tmp_path):
    method = made(name, saveable())
    for _ in fit(method, Pairs(sources=method.needs.domains, count=48), Plan(epochs=1)):
        pass
    method.net.eval().save(tmp_path)
    again = Network.load(tmp_path, module=body()).eval()
    x, y = images(4).tensors[0], TEXTS
    torch.testing.assert_close(again(x), method.net(x))
    torch.testing.assert_close(again.partners(y), method.net.partners(y))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_pair_has_no_negatives_and_leaves_all_finite(name):
    method = made(name, pair_network())
    method.eval()
    domain = torch.tensor([method.needs.domains - 1])
    rows = Labeled(images(1).tensors[0], domain, domain, y=TEXTS[:1])
    terms = method.objective(Batch(rows)).terms
    assert all(torch.isfinite(one) for one in terms.values())

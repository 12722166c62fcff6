"""Batches of one image, whose batch norms have one value a channel: what to do is said."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from toy import CLASSES, classifies, images, network, teachers
from words import meets_words, words_of

from adaptune.data import Loading, from_datasets
from adaptune.data.annotators import OracleAnnotator
from adaptune.engine.loop import fit
from adaptune.engine.method import hyperparameters
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification

OPTIONS = {"lftl": {"ask": 3, "rounds": 1}}
LISTED = [name for name, one in METHODS.items() if one.setting != "test-time" and classifies(one)]


def flat() -> Network:
    """Give a network whose batch norm sees one value a channel of each image."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, 7))
    return Network.from_module(module, head="3", classes=CLASSES)


def trained(name: str, net: Network, count: int, batch_size: int, **plan) -> None:
    rows = images(count)
    loading = Loading(batch_size=batch_size)
    data = from_datasets(rows, rows, rows, classes=CLASSES, target=rows, loading=loading)
    data = replace(data, answers=OracleAnnotator(rows.tensors[1].tolist()))
    held = {"batchnorm": plan.pop("batchnorm")} if "batchnorm" in plan else {}
    kind, options = METHODS[name], OPTIONS.get(name, {}) | held
    net = words_of(net) if meets_words(kind) else net
    method = kind(net, Classification(len(CLASSES)), *teachers(kind), **options)
    for _ in fit(method, data, Plan(epochs=1, layout="contiguous", **plan)):
        pass


def outcome(name: str, *sizes, **plan) -> str:
    try:
        trained(name, flat(), *sizes, **plan)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize(("count", "batch_size"), [(9, 1), (1, 8)])
def test_a_batch_of_one_trains_or_is_told_what_to_do(name, count, batch_size):
    said = outcome(name, count, batch_size)
    assert "Expected more than 1 value" not in said
    assert not said or "give " in said or "needs" in said
    holdable = "batchnorm" in hyperparameters(METHODS[name])
    if "one value a channel" in said:
        assert "a larger --batch-size" in said
        assert ("--batchnorm eval" in said) == holdable


@pytest.mark.parametrize("name", ["ft", "shot"])
def test_what_is_said_helps(name):
    assert "one value a channel" in outcome(name, 9, 1)
    assert outcome(name, 9, 1, batchnorm="eval") == ""
    assert outcome(name, 9, 3) == ""


def test_parts_of_one_image_are_told_the_same():
    assert "with --accumulate, fewer parts" in outcome("ft", 9, 3, accumulate=3)
    assert outcome("ft", 9, 3, accumulate=1) == ""


@pytest.mark.parametrize("layout", ["auto", "contiguous"])
def test_the_trial_of_layouts_says_the_same(layout):
    module = nn.Sequential(nn.Conv2d(3, 8, 8), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 7))
    net = Network.from_module(module, head="3", classes=CLASSES)
    rows = images(4)
    data = from_datasets(rows, rows, rows, classes=CLASSES, loading=Loading(batch_size=1))
    with pytest.raises(ValueError, match="a batch norm in train mode got one value a channel"):
        list(fit(METHODS["ft"](net, Classification(3)), data, Plan(epochs=1, layout=layout)))


@pytest.mark.parametrize("name", ["daft", "glc"])
def test_one_image_in_all_is_too_few_in_words(name):
    with pytest.raises(ValueError, match="more"):
        trained(name, network(), 1, 8)

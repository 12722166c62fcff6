"""A hold keeps batch norms in eval mode whatever happens around them, and is told apart."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from adaptune.batchnorm.layers import batchnorms, describe_batchnorm, hold_batchnorm, other_norms


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Sequential(nn.BatchNorm2d(4))
    )


def flags(net: nn.Module) -> list[bool]:
    return [norm.training for _, norm in batchnorms(net)]


def moved(net: nn.Module) -> bool:
    """Whether a forward in the present mode changes any running statistic."""
    norms = [norm for _, norm in batchnorms(net)]
    before = [norm.running_mean.clone() for norm in norms]
    net(torch.randn(5, 3, 6, 6) + 3)
    return any(not torch.equal(a, norm.running_mean) for a, norm in zip(before, norms, strict=True))


def pickled(net: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(net))


def saved(net: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


class Wrapper(nn.Module):
    """What data parallel wrappers look like: one child named module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)


WRAPPERS = {
    "nothing": lambda net: net,
    "Sequential": nn.Sequential,
    "a module attribute": Wrapper,
    "DataParallel": nn.DataParallel,
    "compile": lambda net: torch.compile(net, backend="eager"),
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "deepcopy": copy.deepcopy,
    "a copy of a copy": lambda net: copy.deepcopy(copy.deepcopy(net)),
    "pickle": pickled,
    "torch.save": saved,
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_hold_survives_train_in_every_wrapper(wrap):
    net = network().train()
    assert moved(wrap(net).train()), "the check itself must see statistics that move"
    hold_batchnorm(net, "eval")
    outer = wrap(net)
    for _ in range(3):
        outer.eval()
        outer.train()
        assert flags(outer) == [False, False]
        assert not moved(outer)
    assert outer.training
    assert all(m.training for m in outer.modules() if isinstance(m, nn.Dropout))


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_hold_put_on_a_wrapper_reaches_what_it_wraps(wrap):
    outer = wrap(network())
    hold_batchnorm(outer, "eval")
    outer.train()
    assert not moved(outer)


def test_a_held_layer_answers_train_with_itself():
    net = network()
    hold_batchnorm(net, "eval")
    assert net[1].train() is net[1].train(False) is net[1]
    twin = copy.deepcopy(net)
    assert twin[1].train() is twin[1], "a copy must not talk to the original"


def test_holding_takes_effect_at_once_and_leaves_the_rest_in_train_mode():
    net = network().train()
    hold_batchnorm(net, "eval")
    assert flags(net) == [False, False]
    assert net.training
    assert net[2].training


@pytest.mark.parametrize("release", ["train", "converted"])
@pytest.mark.parametrize("times", [1, 2])
def test_release_gives_the_layers_back_however_often_they_were_held(release, times):
    net = network().train()
    for _ in range(times):
        hold_batchnorm(net, "eval")
    hold_batchnorm(net, release)
    assert flags(net) == [True, True]
    assert moved(net)
    assert flags(net.eval()) == [False, False]
    assert flags(net.train()) == [True, True]


def test_release_of_a_network_in_eval_mode_starts_no_training():
    net = network().eval()
    hold_batchnorm(net, "eval")
    hold_batchnorm(net, "train")
    assert flags(net) == [False, False]


def test_releasing_a_copy_leaves_the_original_held():
    net = network()
    hold_batchnorm(net, "eval")
    twin = copy.deepcopy(net).train()
    hold_batchnorm(twin, "train")
    assert flags(twin.train()) == [True, True]
    assert flags(net.train()) == [False, False]


def test_a_held_layer_still_learns():
    net = network().train()
    hold_batchnorm(net, "eval")
    net(torch.randn(4, 3, 6, 6)).square().mean().backward()
    assert net[1].weight.grad.abs().sum() > 0


def test_a_hold_adds_nothing_to_the_state_dict():
    net = network()
    keys = list(net.state_dict())
    hold_batchnorm(net, "eval")
    assert list(net.state_dict()) == keys


def test_gradient_and_statistics_are_described_separately():
    net = nn.Sequential(*(nn.BatchNorm1d(2) for _ in range(4)))
    net[1].requires_grad_(False)
    hold_batchnorm(net[2], "eval")
    hold_batchnorm(net[3].requires_grad_(False), "eval")
    states = describe_batchnorm(net)
    assert [state.learns for state in states] == [True, False, True, False]
    assert [state.follows for state in states] == [True, True, False, False]
    assert [state.held for state in states] == [False, False, True, True]
    assert [(state.name, state.kind, state.channels) for state in states][0] == (
        "0",
        "BatchNorm1d",
        2,
    )


@pytest.mark.parametrize(
    ("settings", "follows", "says"),
    [
        ({}, True, ""),
        ({"momentum": None}, True, ""),
        ({"momentum": 0.0}, False, "momentum is 0"),
        ({"track_running_stats": False}, False, "keeps no running statistics"),
    ],
)
def test_what_is_described_is_what_a_training_step_does(settings, follows, says):
    norm = nn.BatchNorm2d(3, **settings).train()
    [state] = describe_batchnorm(norm)
    before = copy.deepcopy(norm.running_mean)
    norm(torch.randn(8, 3, 2, 2) + 1)
    assert state.follows == follows == (before is not None and not norm.running_mean.equal(before))
    assert says in " ".join(state.notes)
    assert bool(state.notes) == bool(says)


def test_a_layer_used_twice_is_one_layer():
    norm = nn.BatchNorm1d(2)
    assert [name for name, _ in batchnorms(nn.Sequential(norm, nn.ReLU(), norm))] == ["0"]


def test_other_norms_are_named_once_and_batch_norms_not_at_all():
    class NormFreeNet(nn.Sequential):
        """A block whose name speaks of norms is none."""

    net = nn.Sequential(nn.LayerNorm(2), nn.BatchNorm1d(2), nn.LayerNorm(3), nn.InstanceNorm2d(2))
    assert other_norms(NormFreeNet(net)) == ["InstanceNorm2d", "LayerNorm"]

"""ViDA: adapters of two ranks that change nothing at first, and fold in the end."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from streams import TASK, answers, batch_of, gain, noisy, rows_of
from torch import nn
from toy import CLASSES, body, trained

from adaptune.methods.test_time import vida
from adaptune.methods.test_time.vida import ViDA, parted
from adaptune.networks.layers.two_ranks import TwoRanks, add_two_ranks, pairs_of
from adaptune.networks.network import Network


@pytest.fixture
def net():
    return trained(lr=0.1, epochs=8)


def module() -> nn.Sequential:
    """Give a network with convolutions and a linear layer below its head."""
    torch.manual_seed(0)
    layers = [*list(body())[:4], nn.Conv2d(12, 16, 1, stride=2), nn.BatchNorm2d(16), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, 3)]
    return nn.Sequential(*layers)


@pytest.fixture
def pointed():
    return Network.from_module(module(), head="11", classes=CLASSES)


def filled(net: Network) -> Network:
    """Give adapters that add something."""
    torch.manual_seed(1)
    for pair in pairs_of(net):
        for up in pair.up:
            up.data.copy_(torch.randn_like(up))
        pair.scales.copy_(torch.tensor([0.7, 1.3]))
    return net


def test_injection_changes_nothing_to_the_bit(pointed):
    x = noisy(6)[0]
    before = pointed.eval()(x)
    assert add_two_ranks(pointed.body, low=1, high=128) == ["0", "3", "4", "9"]
    assert torch.equal(pointed(x), before)
    ranks = [[len(down) for down in pair.down] for pair in pairs_of(pointed)]
    assert ranks == [[1, 8], [1, 12], [1, 12], [1, 9]]


def test_a_pair_adds_what_the_formula_says_in_float64():
    torch.manual_seed(0)
    layer = nn.Linear(5, 4).double()
    pair = TwoRanks(layer, low=1, high=3)
    for up in pair.up:
        up.data.copy_(torch.randn_like(up))
    pair.scales.copy_(torch.tensor([0.4, 1.6]))
    x = torch.randn(7, 5).double()
    wanted = layer(x) + 0.4 * (x @ pair.down[0].T) @ pair.up[0].T
    wanted = wanted + 1.6 * (x @ pair.down[1].T) @ pair.up[1].T
    torch.testing.assert_close(pair(x), wanted)


def test_what_is_saved_is_plain_and_computes_the_same(pointed, tmp_path):
    plain = deepcopy(pointed)
    method = ViDA(pointed, TASK)
    filled(pointed).save(tmp_path)
    loaded = Network.load(tmp_path, module=module())
    assert list(loaded.state_dict()) == list(plain.state_dict())
    x = noisy(6)[0]
    assert torch.allclose(loaded.eval()(x), method.net.eval()(x), atol=1e-5)
    assert not torch.allclose(loaded(x), plain.eval()(x), atol=1e-2)


@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_scales_flip_exactly_at_the_threshold(pointed, monkeypatch, spread):
    copies = []
    monkeypatch.setattr(
        vida, "random_view", lambda x: copies.append(None) or len(copies) * spread * x
    )
    x = noisy(8)[0].double()
    method = ViDA(pointed.double(), TASK, views=4).double().eval()
    with torch.no_grad():
        said = [method(k * spread * x) for k in (1, 2, 3, 4)]
    mean = sum(said) / 4
    u = 0.1 * float((sum((one - mean).square() for one in said) / 3).mean())
    for threshold, high in ((u * (1 + 1e-9), 1 - u), (u * (1 - 1e-9), 1 + u)):
        copies.clear()
        method.threshold = threshold
        method.balance(x)
        wanted = torch.tensor([2 - high, high], dtype=torch.float64)
        for pair in (*pairs_of(method.net), *pairs_of(method.teacher)):
            torch.testing.assert_close(pair.scales, wanted)


def test_no_scale_falls_below_0(pointed):
    method = ViDA(pointed, TASK, threshold=0.1)
    with torch.no_grad():
        method.teacher.head.weight.mul_(1e4)
        method.balance(noisy(8)[0])
    for pair in pairs_of(method.net):
        assert pair.scales[0] == 0
        assert pair.scales[1] > 2


def test_the_term_is_the_mean_of_both_cross_entropies_in_float64(pointed):
    method = ViDA(pointed.double(), TASK).double().eval()
    filled(method.net)
    with torch.no_grad():
        found = method.objective(batch_of(noisy(10)[0].double()))
        with vida.mixed_statistics(0.0):
            p = method.net(noisy(10)[0].double()).softmax(1)
    q = found.logits.softmax(1)
    wanted = -((q * p.log()).sum(1) / 2 + (p * q.log()).sum(1) / 2).mean()
    assert float(found.total) == pytest.approx(float(wanted))
    torch.testing.assert_close(found.logits, method(noisy(10)[0].double()))


def test_the_teacher_follows_adapters_and_weights_at_rates_of_their_own(pointed):
    method = ViDA(pointed, TASK, decay=0.9, adapter_decay=0.5)
    before = [deepcopy(one) for one in parted(method.teacher)]
    for one in method.net.parameters():
        one.data.add_(1.0)
    method.follow()
    for means, was, share in zip(parted(method.teacher), before, (0.5, 0.1), strict=True):
        for mean, old in zip(means, was, strict=True):
            torch.testing.assert_close(mean, old + share)


def test_running_statistics_stay_and_without_a_rate_all_but_adapters(net):
    method = ViDA(net, TASK, body_lr=0.0, lr=0.1, views=2)
    before = deepcopy(method.state_dict())
    answers(method, rows_of(noisy(32)[0], 16))
    after = method.state_dict()
    moved = {key for key, value in after.items() if not value.equal(before[key])}
    assert moved
    assert not any("running" in key or "base" in key or "head" in key for key in moved)
    assert all("up" in key or "down" in key or "scales" in key for key in moved)


def test_it_is_right_more_often_than_the_network_that_it_began_as(net):
    assert gain(ViDA(deepcopy(net), TASK, views=2), net) > 15


def test_what_cannot_be_is_refused():
    plain = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    net = Network.from_module(plain, head="2", classes=CLASSES)
    with pytest.raises(ValueError, match="none below its head"):
        ViDA(net, TASK)
    with pytest.raises(ValueError, match="ranks are from 1 up"):
        ViDA(trained(), TASK, low=0)

"""Features of inner layers: what is kept, with which gradient, and what is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy import body

from adaptune.ops.inner import tapped


def test_what_is_kept_is_what_the_layer_gave_and_carries_gradients():
    net = body().double()
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    with tapped(net, ["1", "5"]) as inner:
        out = net(x)
    first = net[1](net[0](x))
    assert torch.equal(inner["1"], first)
    assert torch.equal(inner["5"], net[:6](x))
    told = torch.autograd.grad(inner["5"].square().sum(), net[0].weight)[0]
    again = torch.autograd.grad(net[:6](x).square().sum(), net[0].weight)[0]
    assert torch.allclose(told, again, rtol=1e-10)
    assert torch.equal(out, net(x))


def test_an_activation_in_place_does_not_change_what_was_kept():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    x = torch.randn(9, 3)
    with tapped(net, ["0"]) as inner:
        net(x)
    assert torch.equal(inner["0"], net[0](x))
    assert (inner["0"] < 0).any()


def test_the_latest_pass_counts_and_the_module_itself_can_be_asked():
    net = body().eval()
    one, two = torch.randn(2, 4, 3, 8, 8)
    with tapped(net, ["", "0", "0"]) as inner:
        net(one)
        out = net(two)
    assert torch.equal(inner[""], out)
    assert torch.equal(inner["0"], net[0](two))


def test_no_hook_is_left_whatever_happens():
    net = body()
    with pytest.raises(RuntimeError), tapped(net, ["0", "3"]):
        net(torch.zeros(1, 1))
    assert not any(one._forward_hooks for one in net.modules())
    said = "no layer 9, stem: its blocks are 0, 1"
    with pytest.raises(ValueError, match=said), tapped(net, ["0", "9", "stem"]):
        pass
    assert not any(one._forward_hooks for one in net.modules())


def test_the_first_of_several_tensors_is_kept():
    class Pair(nn.Module):
        def forward(self, x):
            return x + 1, x + 2

    net = nn.Sequential(Pair())
    with tapped(net, ["0"]) as inner:
        net(torch.zeros(1))
    assert inner["0"].tolist() == [1.0]

"""Styles of maps, and rows that lend them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy import body

from adaptune.networks.network import Network
from adaptune.networks.stages import stage_maps
from adaptune.ops.inner import altered, tapped
from adaptune.ops.mixing import drawn_partners, row_draws
from adaptune.ops.style import channel_axis, mixed_style, restyle, style


def maps(*shape: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return 3 * torch.randn(*shape, generator=random).double() + 1


def test_style_is_the_formula_in_float64_on_either_axis():
    found = maps(2, 3, 4, 5)
    mean, deviation = style(found)
    for row in range(2):
        for channel in range(3):
            places = found[row, channel].flatten()
            middle = sum(places) / 20
            spread = (sum((one - middle) ** 2 for one in places) / 20 + 1e-5) ** 0.5
            assert mean[row, channel].item() == pytest.approx(middle.item())
            assert deviation[row, channel].item() == pytest.approx(spread.item())
    tokens = found.flatten(2).transpose(1, 2)
    assert channel_axis(tokens, 3) == channel_axis(found.movedim(1, -1), 3) == -1
    for one, other in zip(style(tokens, -1), (mean, deviation), strict=True):
        assert torch.allclose(one.flatten(), other.flatten())


def test_maps_that_take_a_style_have_it_and_keep_their_content():
    own, other = maps(2, 3, 4, 4), 5 * maps(2, 3, 6, 6) - 9
    new = restyle(own, style(own), style(other))
    for one, two in zip(style(new), style(other), strict=True):
        assert torch.allclose(one, two, atol=1e-4)
    plain = [nn.functional.instance_norm(one) for one in (own, new)]
    assert torch.allclose(*plain, atol=1e-4)
    whole = mixed_style(style(own), style(other), torch.tensor([1.0, 1.0]))
    assert torch.allclose(restyle(own, style(own), whole), own)


def test_features_without_places_have_no_style():
    with pytest.raises(ValueError, match="needs maps"):
        channel_axis(torch.zeros(4, 3), 3)


def test_partners_are_others_of_the_asked_groups_and_do_not_depend_on_the_order():
    index = torch.arange(12) + 5
    domain, y = index % 3, (index - 5) // 6
    torch.manual_seed(3)
    found = drawn_partners(index, other=domain, same=y)
    assert (domain[found] != domain).all()
    assert (y[found] == y).all()
    order = torch.randperm(12)
    torch.manual_seed(3)
    again = drawn_partners(index[order], other=domain[order], same=y[order])
    assert torch.equal(index[order][again], index[found][order])
    assert (drawn_partners(index) != torch.arange(12)).all()
    assert torch.equal(drawn_partners(index, other=y * 0), torch.arange(12))


def test_each_row_that_fits_is_as_likely():
    torch.manual_seed(0)
    index, group = torch.arange(5), torch.tensor([0, 1, 1, 1, 0])
    drawn = torch.stack([drawn_partners(index, other=group)[0] for _ in range(1500)])
    shares = torch.bincount(drawn, minlength=5) / 1500
    assert torch.allclose(shares, torch.tensor([0, 1, 1, 1, 0]) / 3, atol=0.05)


def test_draws_may_be_of_another_distribution():
    torch.manual_seed(0)
    drawn = row_draws(torch.arange(500), 1, torch.randn)
    assert drawn.min() < -1


def test_what_layers_give_is_changed_while_the_block_lasts_and_what_is_kept_with_it():
    net, x = body().eval(), torch.randn(2, 3, 8, 8)
    plain = net(x)
    with altered(net, {"1": lambda one: 2 * one}), tapped(net, ["1"]) as inner:
        changed = net(x)
    assert torch.equal(inner["1"], 2 * net[1](net[0](x)))
    assert torch.equal(changed, net[2:](inner["1"]))
    assert torch.equal(net(x), plain)

    class Two(nn.Module):
        def forward(self, x):
            return x, "more"

    two = nn.Sequential(Two())
    with altered(two, {"0": torch.neg}):
        assert two(x)[1] == "more"
        assert torch.equal(two(x)[0], -x)
    with pytest.raises(ValueError, match="has no layer 77"), altered(net, {"77": torch.neg}):
        pass


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet", "test_vit"])
def test_the_blocks_of_stages_give_maps_of_their_width(name):
    size = 160 if name == "test_vit" else 64
    net = Network.from_timm(name, ("a", "b"), size=size if name == "test_vit" else None)
    found = stage_maps(net.body)
    with tapped(net.body, [one for one, _ in found]) as inner:
        net(torch.randn(2, 3, size, size))
    for one, width in found:
        assert inner[one].shape[channel_axis(inner[one], width)] == width
    if name == "resnet18":
        assert found == [("layer1.1", 64), ("layer2.1", 128), ("layer3.1", 256), ("layer4.1", 512)]

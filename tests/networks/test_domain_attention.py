"""Attention of two domains: where it goes, the gate, the paths."""

from __future__ import annotations

import math

import pytest
import torch
from toy import CLASSES, network

from adaptune.networks.backbones import open_backbone
from adaptune.networks.layers.domain_attention import (
    DomainAttention,
    attentions,
    decide,
    gap,
    measure_channels,
    pool_channels,
    source_first,
    steadiness,
)
from adaptune.networks.network import Network

X = torch.randn(4, 3, 64, 64)


def stirred(net: Network) -> Network:
    """Let attention and corrections do something, with paths of their own in every module."""
    with torch.no_grad():
        for one in attentions(net):
            for layer in (one.target, one.excite):
                layer.weight.normal_()
            one.separate.fill_(True)
        net.head.features[2].weight.normal_()
        net.head.logits[2].weight.normal_()
    return net


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 8),
        ("test_efficientnet", 5),
        ("test_vit", 6),
        ("convnext_atto", 4),
        ("densenet121", 5),
        ("torchvision/resnet18", 20),
    ],
)
def test_it_goes_into_any_network_changes_nothing_at_first_and_loads_again(name, count, tmp_path):
    net = open_backbone(name, CLASSES, weights="none").eval()
    x = X if name != "test_vit" else torch.randn(4, 3, net.preprocess.size, net.preprocess.size)
    before = net(x)
    net.operate("domain-attention")
    net.eval()
    assert len(attentions(net)) == count
    assert torch.allclose(net(x), before, atol=1e-6)
    stirred(net).save(tmp_path)
    again = Network.load(tmp_path).eval()
    assert not torch.allclose(net(x), before, atol=1e-3)
    assert torch.equal(again(x), net(x))


def test_in_residual_blocks_it_weighs_the_branch_before_the_sum():
    net = open_backbone("resnet18", CLASSES, weights="none")
    net.operate("domain-attention")
    block = net.body.layer2[0]
    assert isinstance(block.se, DomainAttention)
    assert block.se.channels == 128


def test_a_body_without_a_place_for_it_is_refused():
    net = Network.from_module(torch.nn.Sequential(torch.nn.Linear(4, 2)), head="0", classes="ab")
    with pytest.raises(ValueError, match="behind the stages"):
        net.operate("domain-attention")


class TestGate:
    def seen(self, source: torch.Tensor, target: torch.Tensor) -> DomainAttention:
        attention = DomainAttention(8).train()
        with source_first(attention, len(source)):
            attention(torch.cat([source, target]))
        decide(attention)
        return attention

    def gap(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return gap(*steadiness(self.seen(source, target).seen))

    def test_identical_inputs_share_and_so_do_scaled_ones_but_a_shift_separates(self):
        torch.manual_seed(0)
        x = torch.rand(16, 8, 4, 4)
        assert self.gap(x, x) == 0
        assert not self.seen(x, x).separate
        assert self.gap(10 * x, 30 * x) < 0.02
        assert not self.seen(10 * x, 30 * x).separate
        assert self.seen(x, x + 1).separate

    def test_the_gap_is_the_formula_in_float64_also_for_negative_means(self):
        torch.manual_seed(0)
        s, t = torch.randn(9, 5).double() + 1, torch.randn(7, 5).double() - 2

        def ratio(x):
            flat = x.flatten().tolist()
            mean = sum(flat) / len(flat)
            spread = sum((v - mean) ** 2 for v in flat) / (len(flat) - 1)
            return mean / math.sqrt(spread + 1e-5)

        expected = math.tanh(abs(ratio(s) - ratio(t)) / abs(ratio(t)))
        found = gap(*(steadiness(measure_channels(x)) for x in (s, t)))
        assert found.item() == pytest.approx(expected, rel=1e-9)
        parts = [torch.stack([measure_channels(x[:2]), measure_channels(x[2:])]) for x in (s, t)]
        assert gap(*(steadiness(pool_channels(x)) for x in parts)).item() == pytest.approx(
            expected, rel=1e-9
        )
        assert found > 0.2

    def test_eval_mode_leaves_the_gate_alone(self):
        attention = DomainAttention(8).eval()
        attention(torch.rand(4, 8, 2, 2))
        assert not attention.seen.any()


@pytest.mark.parametrize("separate", [False, True])
def test_one_pass_of_both_domains_is_one_pass_of_each(separate):
    net = network()
    net.operate("domain-attention")
    net.hold_batchnorm("eval")
    stirred(net).train()
    for one in attentions(net):
        one.separate.fill_(separate)
    source, target = torch.randn(6, 3, 8, 8), torch.randn(6, 3, 8, 8)
    with source_first(net.body, 6):
        both = net.body(torch.cat([source, target]))
        seen = [one.seen.clone() for one in attentions(net)]
        for one in attentions(net):
            one.seen.zero_()
        ours = net.body(source)
    theirs = net.body(target)
    assert torch.allclose(both, torch.cat([ours, theirs]), atol=1e-6)
    for one, was in zip(attentions(net), seen, strict=True):
        assert torch.allclose(one.seen, was, rtol=1e-4)
    shared = torch.allclose(net.body(source), ours, atol=1e-6)
    assert shared != separate

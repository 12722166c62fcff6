"""Heads read axis 1, fold, and keep the names and the bits that linear layers have."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toy import Toy, body, domains, network

from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.methods.supervised.daft import DAFT
from adaptune.networks.heads import Readout
from adaptune.networks.network import Network
from adaptune.ops.conditioning import Spread, scatter
from adaptune.ops.rows import rows
from adaptune.runs.setup import open_session


def standardized(width: int = 4, outputs: int = 3) -> Readout:
    head = Readout(width, outputs)
    head.standardize(torch.randn(width), torch.rand(width) + 0.5, 2.0)
    return head


def test_a_fresh_readout_is_a_linear_layer_to_the_bit_and_draws_as_many_numbers():
    torch.manual_seed(3)
    plain, after = nn.Linear(5, 4), torch.rand(1)
    torch.manual_seed(3)
    head, again = Readout(5, 4), torch.rand(1)
    x = torch.randn(7, 5)
    assert torch.equal(head(x), plain(x))
    assert torch.equal(again, after)
    plain.load_state_dict(head.state_dict())
    head.load_state_dict(plain.state_dict())


def test_a_standardised_head_keeps_what_it_standardises_by_in_its_state():
    head = standardized()
    assert list(head.state_dict()) == ["weight", "bias", "mean", "deviation", "curvature"]
    assert list(head.fold().state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("head", [Readout(4, 3), standardized()], ids=["raw", "standardised"])
def test_a_place_of_dense_features_is_read_as_a_row_is(head):
    features = torch.randn(2, 4, 3, 5)
    dense = head(features)
    assert dense.shape == (2, 3, 3, 5)
    assert torch.allclose(rows(dense), head(rows(features)), atol=1e-6)
    assert torch.allclose(head.convolution()(features), dense, atol=1e-5)
    assert torch.allclose(head.fold()(features), dense, atol=1e-5)


def test_standardised_rows_are_read_by_the_formula_to_the_bit():
    head, x = standardized(), torch.randn(6, 4)
    wanted = F.linear((x - head.mean) / head.deviation, head.weight, head.bias)
    assert torch.equal(head(x), wanted)


def test_what_dense_features_spread_is_what_their_places_do():
    features, spread = torch.randn(6, 4, 2, 3), Spread()
    for part in features.split(4):
        spread(None, part)
    whole, found = scatter(rows(features)), spread.pooled()
    assert found.count == whole.count == 36
    assert torch.allclose(found.products, whole.products)


def test_a_network_makes_heads_of_as_many_outputs_at_random():
    net = network()
    fresh = net.fresh_head()
    assert fresh.weight.shape == net.head.weight.shape
    assert not torch.equal(fresh.weight, net.head.weight)


def dense_network() -> Network[Readout]:
    module = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1))
    return Network.from_module(module, head="2", classes=["a", "b"])


def test_a_network_that_ends_with_a_convolution_predicts_places_and_opens_in_its_module(tmp_path):
    net, x = dense_network(), torch.randn(2, 3, 8, 8)
    net.head.standardize(torch.randn(6), torch.rand(6) + 0.5, 1.0)
    output = net(x)
    assert output.shape == (2, 2, 8, 8)
    plain = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 2, 1))
    plain.load_state_dict(net.plain_state())
    assert torch.allclose(plain(x), output, atol=1e-5)
    net.save(tmp_path)
    again = Network.load(tmp_path, module=nn.Sequential(*plain))
    assert torch.allclose(again(x), output, atol=1e-5)


@pytest.mark.parametrize("name", ["daft", "lp", "lp-ft"])
def test_a_head_that_a_method_cannot_use_is_refused_in_words(name):
    class Changed(Toy):
        def network(self, classes):
            net = network()
            net.operate("domain-heads", domains=2)
            return net

    with pytest.raises(ValueError, match="head is a Readout, and this one's is a DomainHeads"):
        open_session(METHODS[name], {}, domains(), Changed(), Plan())
    assert open_session(METHODS["ft"], {}, domains(), Changed(), Plan()).net.head.own


def test_a_network_saved_after_daft_is_plain(tmp_path):
    session = open_session(DAFT, {}, domains(), Toy(), Plan(epochs=1))
    list(session.epochs())
    assert "head.mean" in session.net.state_dict()
    session.net.save(tmp_path)
    assert "head.mean" not in Network.load(tmp_path, module=body()).state_dict()

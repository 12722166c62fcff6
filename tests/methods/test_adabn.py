"""AdaBN: batch norms have the target's statistics, and nothing else has moved."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from toy import CLASSES, TwoDomains, trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.batchnorm.renewal import renew_statistics
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.source_free.adabn import AdaBN
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


@pytest.fixture
def net():
    return trained(lr=0.1, epochs=8)


def adapted(net: Network, data: TwoDomains, **options: bool) -> Network:
    method = AdaBN(deepcopy(net), TASK, **options)
    (epoch,) = fit(method, data, Plan())
    assert epoch.notes["statistics"] == {"images": len(data.target), "layers": ["1", "4"]}
    return method.net


@torch.no_grad()
def at_once(net: Network, x: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Give each batch norm's statistics over all images, behind layers that have theirs."""
    found, x = [], x.double()
    for layer in deepcopy(net.body).double():
        if isinstance(layer, nn.BatchNorm2d):
            values = x.transpose(0, 1).flatten(1)
            layer.running_mean, layer.running_var = values.mean(1), values.var(1)
            found.append((values.mean(1), values.var(1)))
        x = layer.eval()(x)
    return found


@pytest.mark.parametrize("size", [5, 24, 96])
def test_exact_statistics_are_those_of_all_images_at_once_in_float64(net, size):
    data = TwoDomains(tint=1.0, batch_size=size)
    own = adapted(net, data, exact=True)
    for (_, norm), (mean, variance) in zip(batchnorms(own), at_once(net, data.target), strict=True):
        assert torch.allclose(norm.running_mean.double(), mean, rtol=1e-5, atol=1e-5)
        assert torch.allclose(norm.running_var.double(), variance, rtol=1e-5)


def test_in_one_pass_those_of_the_first_layer_are(net):
    data = TwoDomains(tint=1.0, batch_size=7)
    _, norm = next(batchnorms(adapted(net, data)))
    mean, variance = at_once(net, data.target)[0]
    assert torch.allclose(norm.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
    assert torch.allclose(norm.running_var.double(), variance, rtol=1e-5)


def test_in_one_pass_over_one_batch_all_are(net):
    data = TwoDomains(tint=1.0, batch_size=96)
    one, each = (list(batchnorms(adapted(net, data, exact=exact))) for exact in (False, True))
    for (_, found), (_, wanted) in zip(one, each, strict=True):
        assert torch.allclose(found.running_var, wanted.running_var, rtol=1e-3)


@pytest.mark.parametrize("exact", [False, True])
def test_running_statistics_alone_move(net, exact):
    own = adapted(net, TwoDomains(tint=1.0), exact=exact)
    before = net.state_dict()
    moved = {key for key, value in own.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {f"body.{at}.running_{kind}" for at in (1, 4) for kind in ("mean", "var")}


@pytest.mark.parametrize("exact", [False, True])
def test_it_is_right_on_the_target_more_often_than_the_source(net, exact):
    data = TwoDomains(tint=1.0)
    assert data.accuracy(adapted(net, data, exact=exact)) > data.accuracy(net) + 20


@pytest.mark.parametrize("exact", [False, True])
def test_a_target_without_images_is_refused(net, exact):
    with pytest.raises(ValueError, match="images of the target"):
        renew_statistics(net.body, lambda: [], exact=exact)


def test_layers_that_are_never_reached_or_by_one_value_keep_what_they_have():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

        def forward(self, x):
            return self.used(x)

    module = Aside()
    assert renew_statistics(module, lambda: [torch.ones(1, 2)]).layers == ()
    assert renew_statistics(module, lambda: [torch.ones(3, 2)]).layers == ("used",)
    assert module.training
    assert module.unused.running_var.tolist() == [1, 1]


def test_images_that_are_not_finite_are_refused():
    norm = nn.BatchNorm1d(1)
    with pytest.raises(ValueError, match="not finite"):
        renew_statistics(norm, lambda: [torch.tensor([[1.0], [torch.nan]])])
    assert norm.running_mean.item() == 0

"""SoMA: which components learn, that nothing changes at first, and what is saved."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn
from toy import CLASSES, body, domains, network

from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.soma import SoMA
from adaptune.networks.layers.lora import add_minor_components, fold_adapters
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification

pytest.importorskip("peft")
TASK = Classification(len(CLASSES))


def flat(layer: nn.Module) -> torch.Tensor:
    return layer.weight.detach().flatten(1)


@pytest.mark.parametrize("layer", [nn.Linear(9, 6), nn.Conv2d(4, 10, 3), nn.Conv2d(12, 5, 1)])
def test_what_learns_is_the_product_of_the_smallest_components_in_float64(layer):
    plain = nn.Sequential(layer).double()
    whole = flat(layer).clone()
    add_minor_components(plain, ["0"], rank=3)
    left, sizes, right = torch.linalg.svd(whole, full_matrices=False)
    a, b = (plain[0].get_parameter(f"lora_{one}.default.weight").flatten(1) for one in "AB")
    minor = sum(sizes[-i] * torch.outer(left[:, -i], right[-i]) for i in (1, 2, 3))
    torch.testing.assert_close(b @ a, minor, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(flat(plain[0].get_base_layer()), whole - minor)
    assert b.norm().item() == pytest.approx(a.norm().item()), "each has the root of the values"
    assert torch.linalg.matrix_rank(flat(plain[0].get_base_layer())) == min(whole.shape) - 3
    free = {name for name, one in plain.named_parameters() if one.requires_grad}
    names = {"0.lora_A.default.weight", "0.lora_B.default.weight", "0.base_layer.bias"}
    assert free == names


def test_at_first_nothing_changes_and_folded_it_is_the_same_plain_network():
    net, x = network().double().eval(), torch.randn(4, 3, 8, 8).double()
    wanted = net(x)
    method = SoMA(net, TASK, rank=4).double().eval()
    torch.testing.assert_close(method(x), wanted, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        for name, one in net.named_parameters():
            if "lora_" in name:
                one.add_(0.1 * torch.randn_like(one))
    folded = fold_adapters(net.body)
    assert [type(one) for one in folded] == [type(one) for one in body()[:-1]] + [type(folded[-1])]
    torch.testing.assert_close(net.head(folded(x)), method(x), rtol=1e-10, atol=1e-12)
    assert not torch.allclose(method(x), wanted)


def test_a_layer_with_fewer_components_has_them_all_and_early_layers_have_none():
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4)) for _ in range(6)))
    net = Network.from_module(nn.Sequential(layers, nn.Linear(4, 3)), head="1", classes="abc")
    method = SoMA(net, TASK, rank=16)
    assert len(method.adapted) == 4, "the first third of six has none"
    adapter = net.body.get_submodule(method.adapted[0])
    assert adapter.lora_A["default"].weight.shape == (4, 4)
    assert adapter.scaling["default"] == 1
    assert flat(adapter.get_base_layer()).abs().max() < 1e-5


def test_the_decay_is_half_the_squared_norm_of_what_learns_along_a_cosine():
    method = SoMA(network(), TASK, rank=2, decay=0.2).double().eval()
    batch = next(iter(domains().batches(method.needs, 0)))
    object.__setattr__(batch.labeled, "x", batch.labeled.x.double())
    object.__setattr__(batch, "progress", 0.3)
    squares = sum(
        one.square().sum().item()
        for name, one in method.named_parameters()
        if "lora_" in name or name.endswith("head.weight")
    )
    wanted = 1e-5 + (0.2 - 1e-5) / 2 * (1 + math.cos(0.3 * math.pi))
    terms = method.objective(batch).terms
    assert terms["decay"].item() == pytest.approx(wanted / 2 * squares)
    logs = method.net(batch.labeled.x).log_softmax(1)
    picked = logs[torch.arange(len(batch.labeled)), batch.labeled.y]
    assert terms["task"].item() == pytest.approx(-picked.mean().item())


def test_it_learns_while_what_is_frozen_and_batch_norms_stay():
    method = SoMA(network(), TASK, rank=4, lr=0.03)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    start = evaluate(method, domains().scan("test"), TASK).scores.main.value
    for _ in fit(method, domains(), Plan(epochs=8)):
        pass
    moved = {key for key, value in method.state_dict().items() if not value.equal(before[key])}
    learnt = {key for key in before if "lora_" in key or "head" in key or "base_layer.bias" in key}
    assert moved == learnt
    assert evaluate(method, domains().scan("test"), TASK).scores.main.value > max(85, start + 10)


def test_what_is_saved_opens_in_plain_timm(tmp_path):
    module = timm.create_model("test_efficientnet", num_classes=3)
    net = Network.from_module(module, head="classifier", classes="abc")
    method = SoMA(net, TASK).eval()
    with torch.no_grad():
        for name, one in net.named_parameters():
            if "lora_" in name:
                one.add_(0.05 * torch.randn_like(one))
    net.save(tmp_path)
    plain = timm.create_model("test_efficientnet", num_classes=3)
    state = load_file(tmp_path / "network.safetensors")
    plain.load_state_dict(state)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(plain.eval()(x), method(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"rank": 0}, {"frozen": 1.0}, {"decay": -0.1}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match="rank is a number from 1 up"):
        SoMA(network(), TASK, **options)

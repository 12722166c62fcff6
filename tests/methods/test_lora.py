"""LoRA: what layers compute and what learns, and that a plain network is saved."""

from __future__ import annotations

import importlib.util
import json

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from toy import CLASSES, body, domains, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.descent import trainable
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.lora import LoRA
from adaptune.methods.supervised.lp import LinearProbe
from adaptune.networks.layers.lora import adaptable, add_lora, fold_adapters
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification

pytest.importorskip("peft")
TASK = Classification(len(CLASSES))


@torch.no_grad()
def stirred(model: nn.Module) -> nn.Module:
    """Give every adapter something to add."""
    for name, one in model.named_parameters():
        if "lora_" in name:
            one.copy_(0.3 * torch.randn_like(one))
    return model


def images(double: bool = False) -> torch.Tensor:
    x = next(iter(domains().scan("test"))).x
    return x.double() if double else x


def test_a_layer_adds_a_product_of_low_rank_to_its_weight_by_the_formula_in_float64():
    method = stirred(LoRA(network(), TASK, rank=2, alpha=5.0).double().eval())
    plain, x = network().double().eval().body, images(double=True)
    state = method.net.body.state_dict()
    with torch.no_grad():
        for at in (0, 3):
            a, b = (state[f"{at}.lora_{name}.default.weight"] for name in "AB")
            assert a.shape[0] == b.shape[1] == 2
            product = torch.einsum("or,rihw->oihw", b[:, :, 0, 0], a)
            plain[at].weight += 5.0 / 2 * product
        wanted = F.linear(plain(x), method.net.head.weight, method.net.head.bias)
        torch.testing.assert_close(method(x), wanted, rtol=1e-10, atol=1e-12)


def test_at_first_it_computes_what_the_pretrained_network_does():
    x = images()
    method = LoRA(network(), TASK).eval()
    assert torch.equal(method.net.body(x), network().eval().body(x))


@pytest.mark.parametrize("policy", ["eval", "train"])
def test_adapters_and_head_learn_and_nothing_else_does_but_statistics_on_demand(policy):
    method = LoRA(network(), TASK, batchnorm=policy)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    for _ in fit(method, domains(), Plan(epochs=2)):
        pass
    moved = {key for key, value in method.state_dict().items() if not value.equal(before[key])}
    learnt = {key for key in before if "lora_" in key or "head" in key}
    running = {
        f"net.{name}.{key}"
        for name, norm in batchnorms(method.net)
        for key, _ in norm.named_buffers()
    }
    assert moved == (learnt | running if policy == "train" else learnt)
    assert len(trainable(method.net)) == len(learnt)


def test_what_is_saved_is_the_plain_network_with_corrections_in_its_weights(tmp_path):
    method = stirred(LoRA(network(), TASK).eval())
    method.net.save(tmp_path)
    assert json.loads((tmp_path / "network.json").read_text())["format"] == 1
    plain = body()
    plain.load_state_dict(
        load_file(tmp_path / "network.safetensors")
        | {"8.bias": torch.zeros(7)}
        | {"8.weight": torch.zeros(7, 12)}
    )
    again = Network.load(tmp_path, module=body()).eval()
    torch.testing.assert_close(again(images()), method(images()))
    assert method.net.plain_body() is not method.net.body
    assert again.plain_body() is again.body
    assert any("lora_" in key for key in method.state_dict()), "saving takes nothing from it"


def test_only_layers_whose_corrections_fold_are_adapted_in_whatever_network():
    layers = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, dilation=2, padding=2),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(8, 4, 1),
        nn.Flatten(),
        nn.Linear(4 * 36, 5),
    )
    x = torch.randn(2, 4, 16, 16)
    assert add_lora(layers, rank=3, alpha=3.0) == ["0", "4", "6"]
    stirred(layers)
    folded = fold_adapters(layers)
    torch.testing.assert_close(folded(x), layers(x))
    assert [type(one) for one in folded[:5]] == [nn.Conv2d] * 5
    assert not adaptable(nn.MultiheadAttention(4, 2).out_proj), "it is never called"


@pytest.mark.parametrize("policy", ["eval", "converted"])
def test_the_head_is_the_linear_probe_on_demand(policy):
    method = LoRA(network(), TASK, head="probe", batchnorm=policy, cs=8)
    notes = method.prepare(domains())
    probe = LinearProbe(network(), TASK, cs=8)
    probe.prepare(domains())
    assert notes["adapted"] == ["0", "3"]
    assert ("batchnorm" in notes or "conversion" in notes) == (policy == "converted")
    torch.testing.assert_close(method.net.head.weight, probe.net.head.weight)


def test_a_finished_run_opens_in_plain_timm_and_says_how_far_adapted_layers_moved(
    photos, tiny, tmp_path, told
):
    words = ["fit", photos, "--method", "lora", *tiny, "--epochs", "1", "--select", "last"]
    code, _, error = told(*words, "--lr", "0.1", "--out", tmp_path / "run")
    assert code == 0, error
    state = load_file(tmp_path / "run" / "best" / "network.safetensors")
    timm.create_model("test_efficientnet", num_classes=3).load_state_dict(state)
    changes = json.loads((tmp_path / "run" / "results.json").read_text())["changes"]
    moved = {one["layer"]: one["change"] for one in changes if one["kind"] == "convolution"}
    layers = dict(timm.create_model("test_efficientnet").named_modules())
    assert all((change > 0) == (layers[name].groups == 1) for name, change in moved.items())
    assert len(moved) == sum(isinstance(one, nn.Conv2d) for one in layers.values())


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"need peft: pip install 'adaptune\[peft\]'"):
        LoRA(network(), TASK)


def test_a_network_without_a_layer_to_adapt_is_refused():
    net = Network.from_module(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), head="1", classes="ab")
    with pytest.raises(ValueError, match="the network has none below its head"):
        LoRA(net, TASK)


@pytest.mark.parametrize("options", [{"rank": 0}, {"alpha": 0.0}, {"alpha": float("inf")}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match="numbers above 0"):
        LoRA(network(), TASK, **options)

"""Networks of places: a linear head on the stages of a pretrained model, saved and opened again."""

from __future__ import annotations

import json

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.networks.architectures import WholeImage
from adaptune.networks.backbones import open_backbone
from adaptune.networks.network import Network
from adaptune.types import Labeled

NAMES = ("sky", "sea", "land")


def network(name: str = "test_efficientnet", **options) -> Network:
    torch.manual_seed(0)
    return open_backbone(name, NAMES, **{"weights": "none", "size": 64, "stride": 8, **options})


def images(count: int = 2, side: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("stride", [4, 8, 32])
def test_its_features_are_those_of_timms_stages_on_the_finest_grid(stride):
    net = network(stride=stride).eval()
    plain = timm.create_model("test_efficientnet", features_only=True).eval()
    plain.load_state_dict(net.body.state_dict())
    stages = [f for f in plain(images()) if 64 // f.shape[2] >= stride]
    size = stages[0].shape[2:]
    wanted = [F.interpolate(f, size, mode="bilinear", align_corners=False) for f in stages]
    features = net.body(images())
    torch.testing.assert_close(features, torch.cat(wanted, 1))
    assert features.shape == (2, net.width, 64 // stride, 64 // stride)
    assert net(images()).shape == (2, 3, 64 // stride, 64 // stride)
    assert isinstance(net.preprocess, WholeImage)


def test_a_head_on_stages_put_together_is_the_sum_of_heads_on_each_brought_to_the_grid():
    net = network().double().eval()
    plain = timm.create_model("test_efficientnet", features_only=True, out_indices=(2, 3, 4))
    plain.load_state_dict(net.body.state_dict())
    stages = plain.double().eval()(images().double())
    parts = net.head.weight.split([f.shape[1] for f in stages], 1)
    maps = [torch.einsum("kd,ndhw->nkhw", w, f) for w, f in zip(parts, stages, strict=True)]
    grid = [F.interpolate(one, (8, 8), mode="bilinear", align_corners=False) for one in maps]
    wanted = sum(grid) + net.head.bias[:, None, None]
    torch.testing.assert_close(net(images().double()), wanted)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_convnext"])
def test_a_saved_network_opens_again_and_says_what_it_is(name, tmp_path):
    net = network(name)
    net.head.standardize(torch.randn(net.width), torch.rand(net.width) + 0.5, 1.0)
    net.hold_batchnorm("eval")
    net.save(tmp_path)
    said = json.loads((tmp_path / "network.json").read_text())
    assert said["format"] == 5
    assert said["origin"] == {"kind": "timm-features", "name": name, "head": "readout"}
    again = Network.load(tmp_path)
    assert isinstance(again.preprocess, WholeImage)
    assert (again.preprocess.size, again.classes, again.batchnorm) == (64, NAMES, "eval")
    torch.testing.assert_close(again.eval()(images()), net.eval()(images()), rtol=1e-4, atol=1e-5)
    assert said["config"] == again.config == net.config


def test_a_saved_network_opens_in_plain_timm_and_torch(tmp_path):
    net = network("test_resnet").eval()
    net.save(tmp_path)
    state = load_file(tmp_path / "network.safetensors")
    stages = json.loads((tmp_path / "network.json").read_text())["config"]["stages"]
    body = timm.create_model("test_resnet", features_only=True, out_indices=stages)
    body.load_state_dict({k: v for k, v in state.items() if not k.startswith("readout.")})
    head = nn.Conv2d(state["readout.weight"].shape[1], 3, 1)
    head.load_state_dict({k: state[f"readout.{k}"] for k in ("weight", "bias")})
    found = body.eval()(images())
    size = found[0].shape[2:]
    together = torch.cat([F.interpolate(f, size, mode="bilinear") for f in found], 1)
    torch.testing.assert_close(head(together), net(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [{}, {"stages": []}, {"stages": ["2"]}, {"stages": [2], "x": 1}])
def test_a_record_that_is_damaged_is_refused(wrong, tmp_path):
    network().save(tmp_path)
    file = tmp_path / "network.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"config": wrong}))
    with pytest.raises(ValueError, match="config should be the numbers of stages"):
        Network.load(tmp_path)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_convnext"])
def test_weights_of_the_whole_model_fill_the_stages_by_name(name, tmp_path):
    torch.manual_seed(3)
    sized = {"img_size": 64} if "vit" in name else {}
    whole = timm.create_model(name, **sized)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    net = network(name, weights=tmp_path / "w.safetensors")
    own, given = net.body.state_dict(), whole.state_dict()
    assert any("weight" in key for key in own)
    values = {tuple(v.flatten()[:50].tolist()) for v in given.values()}
    assert all(tuple(v.flatten()[:50].tolist()) in values for v in own.values())
    del given[next(key for key in given if "blocks" in key)]
    save_file(given, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match="weights are missing"):
        network(name, weights=tmp_path / "less.safetensors")


def test_built_in_weights_give_the_features_that_the_classifier_has():
    net = network("efficientnet-lite0", weights=None, stride=32).eval()
    whole = open_backbone("efficientnet-lite0", NAMES).body.eval()
    stages = whole.blocks(whole.bn1(whole.conv_stem(images())))
    torch.testing.assert_close(net.body(images()), stages)
    assert net.preprocess.mean == (127 / 255,) * 3


def test_conversion_leaves_the_outputs_of_places_alone():
    net = network("test_resnet").double()
    x = images(12).double() + 0.3
    row = torch.arange(12)
    with torch.no_grad():
        before = net.eval()(x)
    report = convert_batchnorm(net.body, [Labeled(x, row, row, y=row)])
    with torch.no_grad():
        after = net.eval()(x)
    assert float((after - before).abs().max() / before.abs().max()) < 1e-9
    assert len(report.layers) > 5


def test_names_that_cannot_keep_places_are_refused_in_words():
    with pytest.raises(ValueError, match="gives one output an image here"):
        network("torchvision/resnet18")
    with pytest.raises(ValueError, match="no timm|timm has no model"):
        network("no-such-net")
    with pytest.raises(ValueError, match="give another --stride"):
        network(stride=64)

"""`convert` writes weights that open in plain timm and compute what they did before."""

import json

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from adaptune.data.domains import Loading
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains
from adaptune.networks.network import Preprocess

NAMES = ["test_efficientnet", "test_resnet"]


def plain(name: str, file=None) -> torch.nn.Module:
    net = timm.create_model(name, pretrained=False, num_classes=0)
    if file is not None:
        net.load_state_dict(load_file(file))
    return net.eval()


@torch.no_grad()
def jump(net: torch.nn.Module, x: torch.Tensor) -> float:
    """Measure how far outputs move when batch norms go from eval to train mode."""
    frozen, fresh = net.eval()(x), net.train()(x)
    return float((fresh - frozen).norm() / frozen.norm())


@pytest.fixture(params=NAMES)
def trained(request, tmp_path):
    """A name and a file of weights whose batch norms have seen other data."""
    torch.manual_seed(0)
    net = timm.create_model(request.param, pretrained=False)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
    save_file(net.state_dict(), tmp_path / "own.safetensors")
    torch.save(net.state_dict(), tmp_path / "own.pth")
    without_head = plain(request.param)
    own = without_head.state_dict()
    without_head.load_state_dict({key: net.state_dict()[key] for key in own})
    return request.param, tmp_path / "own.pth", without_head


def test_converted_weights_open_in_timm_and_give_the_same_outputs(trained, photos, tmp_path, told):
    name, weights, before = trained
    out = tmp_path / "deep" / "converted.safetensors"
    words = ["--backbone", name, "--weights", weights, "--image-size", 32, "--crop", 1]
    code, printed, _ = told("convert", photos, *words, "--out", out, "--json")
    assert code == 0
    after = plain(name, out)
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(after(images), before(images), rtol=1e-4, atol=1e-5)
    told_so = json.loads(printed)
    assert told_so["out"] == str(out)
    assert told_so["problems"] == {}
    assert 0 <= told_so["relative"] < 1e-4


def test_converted_statistics_are_those_of_the_training_images(trained, photos, tmp_path, told):
    name, weights, before = trained
    out = tmp_path / "converted.safetensors"
    words = ["--backbone", name, "--weights", weights, "--image-size", 32, "--crop", 1]
    assert told("convert", photos, *words, "--out", out)[0] == 0
    net = plain(name, out)
    loading = Loading(batch_size=1000)
    settings = timm.data.resolve_data_config(model=net)
    look = Preprocess(32, settings["mean"], settings["std"], settings["interpolation"], 1.0)
    data = open_domains(photos, shares=Shares(0.1, 0.0), loading=loading)
    (rows,) = data.with_input(look, "none").scan("train")
    assert jump(net, rows.x) < 0.02 < 0.2 < jump(before, rows.x)

"""Exported networks answer as the network does, whatever runs them."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from adaptune.networks import export
from adaptune.networks.export import Served, export_network
from adaptune.networks.network import Network, Preprocess, WholeImage


def small(look: Preprocess | None = None) -> Network:
    """A convolution, a batch norm with statistics of its own, and a head on the mean of places."""
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()]
    places = isinstance(look, WholeImage)
    tail = (
        [nn.Conv2d(6, 3, 1)] if places else [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)]
    )
    module = nn.Sequential(*body, *tail)
    norm = module[1]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    look = look or Preprocess(size=12, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    return Network.from_module(
        module, head=str(len(module) - 1), classes=["a", "b", "c"], preprocess=look
    )


def opened(file):
    """What a file computes, by the library that is meant to run it."""
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return lambda x: torch.from_numpy(session.run(None, {"pixels": x.numpy()})[0])
    if file.suffix == ".ts":
        with pytest.warns(FutureWarning):
            return torch.jit.load(str(file))
    return torch.export.load(str(file)).module()


@pytest.mark.parametrize("form", ["onnx", "torchscript", "torch-export"])
def test_a_file_answers_as_the_network_does_to_batches_of_any_size(form, tmp_path):
    net = small().eval()
    net.threshold = 0.9
    said = export_network(net, tmp_path, form)
    assert said["difference"] < 1e-6
    assert said == json.loads((tmp_path / "export.json").read_text())
    call = opened(tmp_path / said["file"])
    for count in (1, 4):
        pixels = torch.randint(256, (count, 3, 12, 12)).float()
        look = net.preprocess
        mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (look.mean, look.std))
        with torch.no_grad():
            expected = net.with_unknown(net((pixels / 255 - mean) / std))
        torch.testing.assert_close(call(pixels), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (4, 4)


def test_batch_norms_are_folded_in_onnx(tmp_path):
    import onnx

    export_network(small(), tmp_path, "onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "network.onnx").graph.node}
    assert "Conv" in kinds
    assert "BatchNormalization" not in kinds


def test_weights_are_those_of_a_saved_network(tmp_path):
    net = Network.from_timm("test_resnet", ["a", "b"], size=32)
    said = export_network(net, tmp_path, "safetensors")
    assert said["difference"] == 0
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(Network.load(tmp_path).eval()(x), net.eval()(x))


def test_answers_of_places_keep_their_axes(tmp_path):
    net = small(WholeImage(size=12, crop=1.0))
    said = export_network(net, tmp_path, "torchscript")
    assert said["output"]["axes"] == ["batch", "class", "down", "right"]
    assert opened(tmp_path / "network.ts")(torch.zeros(1, 3, 12, 12)).shape == (1, 3, 10, 10)


def test_what_answers_otherwise_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(export._WRITERS, "onnx", lambda served, x, file: lambda x: served(x) + 1)
    with pytest.raises(ValueError, match="answers otherwise than the network does"):
        export_network(small(), tmp_path, "onnx")
    assert not (tmp_path / "export.json").exists()


def test_a_served_network_stays_in_eval_mode():
    served = Served(small().train())
    x = torch.zeros(2, 3, 12, 12)
    torch.testing.assert_close(served(x)[:1], served(x[:1]))


def test_weights_that_only_their_maker_can_open_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a module of your own"):
        export_network(small(), tmp_path, "safetensors")
    assert not (tmp_path / "export.json").exists()

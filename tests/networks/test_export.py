"""Exported networks answer as the network does, whatever runs them."""

from __future__ import annotations

import json

import pytest
import torch
from texts import encoder
from torch import nn

from adaptune.data.inputs import input_of
from adaptune.networks import export
from adaptune.networks.backbones import open_backbone
from adaptune.networks.export import export_network
from adaptune.networks.network import Network, Preprocess, WholeImage
from adaptune.networks.served import Served


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
        (given,) = session.get_inputs()
        return lambda x: torch.from_numpy(session.run(None, {given.name: x.numpy()})[0])
    if file.suffix == ".ts":
        with pytest.warns(FutureWarning):
            return torch.jit.load(str(file))
    return torch.export.load(str(file)).module()


def need_no_batch_norm(file):
    import onnx

    kinds = {node.op_type for node in onnx.load(file).graph.node}
    assert "Conv" in kinds
    assert "BatchNormalization" not in kinds


@pytest.mark.parametrize("form", ["onnx", "torchscript", "torch-export"])
def test_a_file_answers_as_the_network_does_to_batches_of_any_size_norms_folded_in_onnx(
    form, tmp_path
):
    net = small().eval()
    net.threshold = 0.9
    said = export_network(net, tmp_path, form)
    assert said["difference"] < 1e-6
    assert said == json.loads((tmp_path / "export.json").read_text())
    call = opened(tmp_path / said["file"])
    if form == "onnx":
        need_no_batch_norm(tmp_path / "network.onnx")
    for count in (1, 4):
        pixels = torch.randint(256, (count, 3, 12, 12)).float()
        look = net.preprocess
        mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (look.mean, look.std))
        with torch.no_grad():
            expected = net.with_unknown(net((pixels / 255 - mean) / std))
        torch.testing.assert_close(call(pixels), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (4, 4)


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
    monkeypatch.setitem(export._WRITERS, "onnx", lambda own, x, axes, file: lambda x: own(x) + 1)
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


TEXTS = ["a good film", "the music was sad and dull again", "bad"]


def own_ids(tokenizer, pad: int) -> torch.Tensor:
    """Give ids of texts as somebody without adaptune makes them."""
    from tokenizers import Tokenizer

    parsed = Tokenizer.from_file(str(tokenizer))
    parsed.enable_padding(pad_id=pad)
    return torch.tensor([one.ids for one in parsed.encode_batch(TEXTS)])


def test_an_encoder_of_texts_answers_ids_of_any_length_with_its_tokenizer_beside(tmp_path):
    folder = encoder(tmp_path / "bert", num_hidden_layers=1, pad_token_id=1)  # so that 0 is a word
    net = open_backbone(f"hf:{folder}", ["a", "b"]).eval()
    net.threshold = 0.9
    said = export_network(net, tmp_path / "out", "onnx")
    assert said["difference"] < 1e-6
    assert (said["input"]["pad"], said["input"]["longest"]) == (1, net.preprocess.length)
    call = opened(tmp_path / "out" / said["file"])
    own = own_ids(tmp_path / "out" / said["input"]["tokenizer"], 1)
    x = torch.stack([input_of(net.preprocess).given(text) for text in TEXTS])
    with torch.no_grad():
        expected = net.with_unknown(net(x))
    for ids in (own, torch.nn.functional.pad(own, (0, 3), value=1)):
        torch.testing.assert_close(call(ids), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(call(own[2:, :3]), expected[2:], rtol=1e-4, atol=1e-5)


def test_hashed_words_are_exported_with_words_of_how_they_are_hashed(tmp_path):
    from zlib import crc32

    net = open_backbone("ngrams", ["a", "b"], length=16).eval()
    said = export_network(net, tmp_path, "torch-export")
    assert not (tmp_path / "tokenizer.json").exists()
    assert "CRC-32 modulo (vocabulary - 1)" in said["input"]["values"]
    words = ["good", "film", "good film"]
    ids = [1 + crc32(one.encode()) % (said["input"]["vocabulary"] - 1) for one in words]
    x = input_of(net.preprocess).given("Good film")[None]
    with torch.no_grad():
        expected = net(x)
    torch.testing.assert_close(opened(tmp_path / "network.pt2")(torch.tensor([ids])), expected)


def test_weights_of_texts_have_their_tokenizer_and_torchscript_is_refused(tmp_path):
    net = open_backbone(f"hf:{encoder(tmp_path / 'bert')}", ["a", "b"])
    assert export_network(net, tmp_path / "out", "safetensors")["difference"] == 0
    assert (tmp_path / "out" / "tokenizer.json").read_text() == net.preprocess.tokenizer
    with pytest.raises(ValueError, match="would keep the length of one text"):
        export_network(net, tmp_path / "out", "torchscript")

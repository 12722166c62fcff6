"""Half of a batch norm's channels are normalised image by image, in early layers of any network."""

from __future__ import annotations

from copy import deepcopy

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torchvision import models

from adaptune.batchnorm.layers import batchnorms, hold_batchnorm
from adaptune.networks.layers.instance_batchnorm import InstanceBatchNorm, first_norms, split_norms


def seen(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Give a batch norm that has learnt and has seen images."""
    torch.manual_seed(1)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.normal_(norm.bias)
    for _ in range(20):
        norm(2 * torch.randn(8, norm.num_features, 4, 4) + 1)
    return norm.eval()


def images(channels: int) -> torch.Tensor:
    return torch.randn(6, channels, 5, 5, generator=torch.Generator().manual_seed(2))


KINDS = [lambda: nn.BatchNorm2d(6), lambda: nn.BatchNorm2d(7), lambda: BatchNormAct2d(9)]


@pytest.mark.parametrize("kind", KINDS)
def test_gain_and_shift_of_an_images_channel_change_nothing_in_the_first_half_alone(kind):
    norm = InstanceBatchNorm(seen(kind()))
    x = images(norm.instance.num_features + norm.batch.num_features)
    gain, shift = 1 + torch.rand(*x.shape[:2], 1, 1), torch.randn(*x.shape[:2], 1, 1)
    moved = (norm(gain * x + shift) - norm(x)).detach().abs()
    half = norm.instance.num_features
    assert (moved[:, :half].amax((0, 2, 3)) / norm.instance.weight).max() < 2e-5
    assert moved[:, half:].mean() > 0.1


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_second_half_does_what_it_did(kind, training):
    old = seen(kind()).train(training)
    new = InstanceBatchNorm(deepcopy(old))
    x = images(old.num_features)
    half = old.num_features // 2
    torch.testing.assert_close(new(x)[:, half:], old(x)[:, half:])
    torch.testing.assert_close(new.batch.running_var, old.running_var[half:])


def test_the_first_half_keeps_the_mean_and_variance_that_batch_norm_would_give():
    old = seen(nn.BatchNorm2d(6)).train()
    x = images(6) * torch.rand(6, 6, 1, 1).add(0.5) + torch.randn(6, 6, 1, 1)
    was, now = (out(x).detach()[:, :3] for out in (old, InstanceBatchNorm(old)))
    torch.testing.assert_close(now.mean((0, 2, 3)), was.mean((0, 2, 3)))
    torch.testing.assert_close(now.var((0, 2, 3)), was.var((0, 2, 3)), rtol=1e-3, atol=0)


def test_no_parameter_is_won_or_lost_and_the_first_half_has_no_statistics():
    norm = seen(nn.BatchNorm2d(7)).double()
    norm.bias.requires_grad_(False)
    new = InstanceBatchNorm(norm)
    assert sum(p.numel() for p in new.parameters()) == 14
    assert torch.equal(torch.cat([new.instance.weight, new.batch.weight]), norm.weight)
    assert {name for name, _ in new.named_buffers()} == {
        "batch.running_mean",
        "batch.running_var",
        "batch.num_batches_tracked",
    }
    assert new.instance.weight.dtype == torch.float64
    assert not new.instance.bias.requires_grad
    assert new.batch.weight.requires_grad


def test_a_held_policy_holds_the_second_half():
    net = nn.Sequential(nn.BatchNorm2d(4))
    split_norms(net, 1)
    hold_batchnorm(net, "eval")
    assert [(name, norm.training) for name, norm in batchnorms(net.train())] == [("0.batch", False)]


NETWORKS = {
    "resnet18": "layer1.0.bn1 layer1.1.bn1 layer2.0.bn1 layer2.1.bn1",
    "efficientnet_lite0": "blocks.0.0.bn1 blocks.1.0.bn1 blocks.1.1.bn1",
    "mobilenetv3_small_100": "blocks.0.0.bn1 blocks.1.0.bn1 blocks.1.1.bn1",
    "torchvision/resnet18": "layer1.0.bn1 layer1.1.bn1 layer2.0.bn1 layer2.1.bn1",
    "torchvision/mobilenet_v2": "features.1.conv.0.1 features.2.conv.0.1 features.3.conv.0.1",
    "torchvision/vgg11_bn": "features.1 features.5",
}


def built(name: str) -> nn.Module:
    if name.startswith("torchvision/"):
        return models.get_model(name.removeprefix("torchvision/"), weights=None)
    return timm.create_model(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_norm_of_each_block_in_the_first_stages_is_split(name):
    net = built(name).eval()
    count = sum(p.numel() for p in net.parameters())
    assert split_norms(net, 2) == NETWORKS[name].split()
    split = [key for key, layer in net.named_modules() if isinstance(layer, InstanceBatchNorm)]
    assert split == NETWORKS[name].split()
    assert count == sum(p.numel() for p in net.parameters())
    assert net(torch.randn(1, 3, 64, 64)).isfinite().all()


def test_three_stages_of_a_resnet_are_the_papers():
    found = [(name, stage) for name, _, stage in first_norms(built("resnet18"))]
    assert found == [(f"layer{i}.{j}.bn1", i) for i in (1, 2, 3, 4) for j in (0, 1)]


def test_a_blocks_shortcut_is_left_alone():
    names = [name for name, *_ in first_norms(built("torchvision/regnet_y_400mf"))]
    assert names[0] == "trunk_output.block1.block1-0.f.a.1"
    assert not any(".proj" in name for name in names)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)),
        nn.Sequential(nn.BatchNorm2d(1)),
        nn.Sequential(nn.BatchNorm1d(4)),
        nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)),
    ],
)
def test_a_network_without_such_norms_is_refused(net):
    with pytest.raises(ValueError, match="no batch norm could be split"):
        split_norms(net, 3)

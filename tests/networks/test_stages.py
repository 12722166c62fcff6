"""Every layer of any body is in one group, and groups are what people call stages."""

from __future__ import annotations

from functools import cache

import pytest
from torch import nn
from toy import CLASSES, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.networks.backbones import open_backbone
from adaptune.networks.network import Network
from adaptune.networks.stages import group_parameters, layer_groups

NETWORKS = {
    "tf_efficientnet_lite0": 5,
    "resnet18": 5,
    "torchvision/mobilenet_v2": 5,
    "test_vit": 5,
    "torchvision/squeezenet1_1": 4,
}


@cache
def body(name: str) -> nn.Module:
    return open_backbone(name, CLASSES, weights="none").body


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_and_every_batch_norm_is_in_one_group(name):
    groups = layer_groups(body(name))
    assert len(groups) == NETWORKS[name]
    listed = [id(one) for group in group_parameters(body(name), groups) for one in group]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(one) for one in body(name).parameters()}
    names = [one for group in groups for one in group]
    assert len(names) == len(set(names))
    assert {one for one, _ in batchnorms(body(name))} <= set(names)


def test_the_stages_of_known_networks_begin_where_images_get_smaller():
    def begin(name: str) -> list[str]:
        return [group[0] for group in layer_groups(body(name))]

    assert begin("resnet18") == ["conv1", *(f"layer{n}.0.conv1" for n in range(1, 5))]
    lite = [f"blocks.{n}.0.conv_pw" for n in (1, 2, 3, 5)]
    assert begin("tf_efficientnet_lite0") == ["conv_stem", *lite]
    mobile = [f"features.{n}.conv.0.0" for n in (2, 4, 7, 14)]
    assert begin("torchvision/mobilenet_v2") == ["features.0.0", *mobile]


def test_what_a_transformer_has_itself_is_in_its_first_group_and_its_last_norm_in_the_last():
    groups = layer_groups(body("test_vit"))
    assert groups[0][0] == ""
    assert "patch_embed.proj" in groups[0]
    assert "norm" in groups[-1] or "fc_norm" in groups[-1]


def test_many_blocks_of_one_resolution_are_shared_out_evenly():
    groups = layer_groups(nn.Sequential(*(nn.Linear(2, 2) for _ in range(12))))
    assert [len(group) for group in groups] == [3, 2, 3, 2, 2]
    assert sum(groups, []) == [str(number) for number in range(12)]


def test_a_batch_norm_is_in_the_group_of_the_layer_before_it_with_weights_or_without():
    assert layer_groups(network().body) == [["0", "1"], ["3", "4"]]
    plain = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))
    assert layer_groups(plain) == [["0", "1"], ["2"]]


def test_a_network_within_a_module_is_opened_and_a_shared_layer_is_in_one_group():
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(*(nn.Linear(9, 9) for _ in range(3)))
            self.inner.append(self.inner[0])
            self.tied = nn.Linear(9, 9, bias=False)
            self.tied.weight = self.inner[1].weight

    groups = layer_groups(Wrapped())
    assert groups == [["inner.0"], ["inner.1"], ["inner.2"], ["tied"]]
    assert [len(one) for one in group_parameters(Wrapped(), groups)] == [2, 2, 2, 0]


def test_a_body_without_layers_has_no_groups():
    net = Network.from_module(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), head="1", classes="ab")
    assert layer_groups(net.body) == []

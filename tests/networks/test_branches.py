"""A second branch of a network: what stays to the bit, what answers, and what is written."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from toy import body, trained

from adaptune.networks.layers.branches import chosen, last_parts
from adaptune.networks.network import Network


def moved(net: Network) -> Network:
    """Move everything of a network that can learn."""
    with torch.no_grad():
        for one in net.parameters():
            if one.requires_grad:
                one.add_(0.1 * torch.randn_like(one))
    return net


@pytest.mark.parametrize(
    "name",
    ["test_efficientnet", "test_resnet", "test_vit", "test_convnext", "mobilenetv3_small_050"],
)
def test_features_and_logits_of_the_clean_branch_stay_to_the_bit(name):
    torch.manual_seed(0)
    net = Network.from_timm(name, ["a", "b", "c"]).eval()
    size = net.preprocess.size
    x = torch.randn(3, 3, size, size)
    with torch.no_grad():
        features = net.body(x)
        logits = net.head(features)
        both = deepcopy(net)
        both.operate("two-branches", stages=1)
        seen = both.train().eval().body(x)
        assert torch.equal(seen, torch.cat([features, features], 1))
        torch.testing.assert_close(both(x), logits)
        seen = moved(both).body(x)
        assert torch.equal(seen[:, : net.width], features)
        assert not torch.allclose(seen[:, net.width :], features)
        assert torch.equal(both.head.each(seen)[:, 0], logits)


def test_what_lies_before_the_branches_runs_once():
    net = trained()
    net.operate("two-branches", stages=1)
    counts = {}
    for name in ("0", "3.kept", "3.tuned"):
        layer = net.body.body.get_submodule(name)
        layer.register_forward_hook(lambda _, x, __, name=name: counts.update({name: len(x[0])}))
    net(torch.randn(5, 3, 8, 8))
    assert counts == {"0": 5, "3.kept": 5, "3.tuned": 5}


def test_a_saved_network_answers_by_itself(tmp_path):
    net = trained()
    net.operate("two-branches", stages=1)
    moved(net).eval().save(tmp_path)
    again = Network.load(tmp_path, module=body()).eval()
    x = torch.randn(6, 3, 8, 8)
    torch.testing.assert_close(again(x), net(x))
    assert again.surgery == [{"name": "two-branches", "arguments": {"stages": 1}}]


def test_any_number_of_rows_is_exported():
    net = trained()
    net.operate("two-branches", stages=1)
    net, rows = moved(net).eval(), torch.export.Dim("rows")
    x = torch.randn(5, 3, 8, 8)
    told = torch.export.export(net, (x[:2],), dynamic_shapes=({0: rows},)).module()
    torch.testing.assert_close(told(x), net(x))


def test_the_head_with_the_least_entropy_and_distance_answers():
    torch.manual_seed(1)
    logits = 2 * torch.randn(40, 3, 4, dtype=torch.float64)
    picks = []
    for row in logits:
        p = [one.exp() / one.exp().sum() for one in row]
        score = [-(q * q.log()).sum() + (p[2] * (p[2] / q).log()).sum() for q in p]
        picks.append(min(range(3), key=score.__getitem__))
    assert chosen(logits).tolist() == picks
    assert set(picks) == {0, 1, 2}
    maps = logits.view(5, 8, 3, 4).permute(0, 2, 3, 1)
    assert torch.equal(chosen(maps), torch.tensor(picks).view(5, 8))


def test_stages_that_there_are_not_are_refused():
    net = trained()
    with pytest.raises(ValueError, match="a second branch of 1 to 1: got 2 stages"):
        net.operate("two-branches", stages=2)
    assert last_parts(Network.from_timm("resnet18", ["a", "b"]).body, 2) == ["layer3", "layer4"]

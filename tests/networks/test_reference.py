"""Networks that are looked at: what they see, that they stay, and that nothing keeps them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from toy import CLASSES, network

from adaptune.networks.network import Network, Preprocess
from adaptune.networks.reference import Reference

LOOK = Preprocess(size=8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.5))


def reference(**look) -> Reference:
    net = network().double()
    net.preprocess = replace(LOOK, **look)
    return Reference(net, LOOK)


def pixels(size: int = 8) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.rand(5, 3, size, size, generator=random, dtype=torch.float64)


def normalised(x: torch.Tensor, look: Preprocess) -> torch.Tensor:
    mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (look.mean, look.std))
    return (x - mean) / std


def test_it_sees_the_same_pixels_in_its_own_size_and_normalisation():
    one = reference(size=16, mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.2), interpolation="bicubic")
    x = pixels()
    larger = F.interpolate(x, (16, 16), mode="bicubic", antialias=True).clamp(0, 1)
    seen = one.seen(normalised(x, LOOK))
    assert torch.allclose(seen, normalised(larger, one.net.preprocess), atol=1e-12)
    assert torch.allclose(one(normalised(x, LOOK)), one.net(seen), atol=1e-12)


def test_of_another_normalisation_alone_no_pixel_is_moved():
    one = reference(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert torch.allclose(one.seen(normalised(pixels(), LOOK)), pixels(), atol=1e-12)


def test_of_the_same_look_the_input_is_passed_on():
    x = normalised(pixels(), LOOK)
    assert reference().seen(x) is x
    assert reference(crop=0.5).seen(x) is x


def test_inputs_that_are_no_images_are_refused_where_they_would_have_to_be_made_again():
    with pytest.raises(ValueError, match="these inputs are .5, 4.: give one with the prep"):
        reference(size=16)(torch.zeros(5, 4, dtype=torch.float64))


def test_it_stays_in_eval_mode_and_is_no_part_of_what_it_is_put_into():
    holder = torch.nn.Module()
    holder.teacher = reference()
    holder.train()
    assert not any(one.training for one in holder.teacher.net.modules())
    assert not any(one.requires_grad for one in holder.teacher.net.parameters())
    assert not list(holder.parameters()) + list(holder.buffers())
    assert not holder.state_dict()
    before = deepcopy(holder.teacher.net.state_dict())
    out = holder.teacher(normalised(pixels(), LOOK))
    assert not out.requires_grad
    after = holder.teacher.net.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_it_moves_with_what_it_is_put_into():
    holder = torch.nn.ModuleList([reference()])
    holder.float()
    assert {one.dtype for one in holder[0].net.parameters()} == {torch.float32}
    copied = deepcopy(holder).double()
    assert {one.dtype for one in holder[0].net.parameters()} == {torch.float32}
    assert {one.dtype for one in copied[0].net.parameters()} == {torch.float64}


def test_classes_are_matched_by_name_and_what_is_missing_is_said():
    one, x = reference(), normalised(pixels(), LOOK)
    turned = one.matched(["blue", "red"])
    assert turned.classes == ("blue", "red")
    assert torch.equal(turned(x), one(x)[:, [CLASSES.index("blue"), CLASSES.index("red")]])
    assert one.matched(CLASSES).columns == []
    with pytest.raises(ValueError, match="does not know pink: it has the classes red, green"):
        one.matched(["red", "pink"])


def test_a_reference_is_of_a_network_as_it_is_saved(tmp_path):
    net = Network.from_timm("test_efficientnet", ["a", "b"], size=32)
    net.save(tmp_path)
    loaded = Network.load(tmp_path)
    one = Reference(loaded, loaded.preprocess)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(one(x), net.eval()(x))

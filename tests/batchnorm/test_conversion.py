"""Conversion takes the data's statistics into the batch norms and leaves the function alone."""

import copy
import json

import pytest
import timm
import torch
from normed import images, inputs_of, randomised, small, statistics
from torch import nn

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.batchnorm.layers import batchnorms

SMALL = {
    "resnet50": 32,
    "mobilenetv3_large_100": 64,
    "tf_efficientnet_lite0": 64,
    "densenet121": 64,
    "regnety_002": 64,
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# The formula and the function


def test_every_layer_gets_the_formula_against_its_original_statistics():
    net = small().double()
    x = images(precision=torch.float64)
    old, given = copy.deepcopy(net), inputs_of(net, [x])
    report = convert_batchnorm(net, x.split(7))
    assert report.converted == 3
    for (name, before), (_, after) in zip(batchnorms(old), batchnorms(net), strict=True):
        rows = given[name].transpose(0, 1).flatten(1)
        v_t, m_t = torch.var_mean(rows, dim=1)
        g, b, m_s, v_s = before.weight, before.bias, before.running_mean, before.running_var
        root = torch.sqrt(v_s + before.eps)
        expected = {
            "bias": b + g * (m_t - m_s) / root,
            "weight": g * torch.sqrt(v_t + before.eps) / root,
            "running_mean": m_t,
            "running_var": v_t,
        }
        for key, value in expected.items():
            torch.testing.assert_close(getattr(after, key).data, value.data, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("precision", "close"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_conversion_leaves_the_function_alone(name, precision, close):
    net = randomised(timm.create_model(name, num_classes=7)).to(precision)
    x, other = images(6, SMALL[name], precision), torch.randn(2, 3, SMALL[name], SMALL[name])
    other = other.to(precision) * 4
    with torch.no_grad():
        before, old = [net(x), net(other)], statistics(net)
        report = convert_batchnorm(net, x.split(3))
        after = [net(x), net(other)]
    assert report.converted == len(report.layers) == len(old) // 2
    assert all(not torch.allclose(a, b) for a, b in zip(old, statistics(net), strict=True))
    for a, b in zip(before, after, strict=True):
        assert (a - b).abs().max() <= close * a.abs().max()
    assert 0 < report.relative <= close


def test_the_certificate_sees_a_function_that_changed():
    net, x = small(), images(8)
    state, calls = net.state_dict(), []

    def drifting(model, batch):
        calls.append(None)
        return model(batch) + len(calls)

    report = convert_batchnorm(net, [x], forward=drifting)
    assert report.change == pytest.approx(1, abs=1e-3)
    assert 0 < report.relative < report.change
    assert state.keys() == net.state_dict().keys()


def test_train_mode_starts_at_the_function_of_eval_mode():
    net, x = small().double(), images(precision=torch.float64)
    converted = copy.deepcopy(net)
    convert_batchnorm(converted, [x])
    with torch.no_grad():
        goal = net(x)
        before, after = ((one.train()(x) - goal).abs().max() for one in (net, converted))
    assert after < 0.2 * before


def test_converted_statistics_are_those_that_train_mode_measures():
    net = randomised(nn.Sequential(nn.BatchNorm2d(3, momentum=None))).double()
    again, x = copy.deepcopy(net), images(precision=torch.float64)
    convert_batchnorm(net, [x])
    again[0].reset_running_stats()
    again.train()(x)
    for own, measured in zip(statistics(net), statistics(again), strict=True):
        torch.testing.assert_close(own, measured)
    assert net[0].num_batches_tracked == again[0].num_batches_tracked == 1


def test_converting_again_on_the_same_data_moves_nothing():
    net, x = small().double(), images(precision=torch.float64)
    first = convert_batchnorm(net, x.split(5))
    state = copy.deepcopy(net.state_dict())
    second = convert_batchnorm(net, x.split(5))
    assert min(layer.shift for layer in first.layers) > 0.05
    assert max(layer.shift for layer in second.layers) < 1e-9
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, state[key])


def test_shift_is_in_units_of_the_old_deviation():
    for precision in (torch.float32, torch.float64):
        norm = nn.BatchNorm1d(2, eps=0.0).to(precision).eval()
        norm.running_mean += torch.tensor([1.0, 0.0])
        norm.running_var *= 4
        x = torch.tensor([[4.0, -1.0], [6.0, 3.0]])  # means 5 and 1: shifts 4/2 and 1/2
        assert convert_batchnorm(norm, [x]).layers[0].shift == pytest.approx(1.25)


# Pooling


def test_the_order_of_the_images_does_not_matter():
    x = images(60)
    shuffled = x[torch.randperm(60)]
    net = small()

    def measured(rows, pooling):
        twin = copy.deepcopy(net)
        convert_batchnorm(twin, rows.split(6), pooling=pooling)
        return statistics(twin)

    for a, b in zip(measured(x, "exact"), measured(shuffled, "exact"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    by_order, by_chance = (measured(rows, "batch")[1] for rows in (x, shuffled))
    assert (by_order < 0.7 * by_chance).any(), "the reference arithmetic depends on the order"


def test_exact_pooling_gives_every_value_one_voice_whatever_the_batches():
    net, x = small(), images(23)
    twin = copy.deepcopy(net)
    convert_batchnorm(net, [x])
    convert_batchnorm(twin, x.split([1, 20, 2]))
    for a, b in zip(statistics(net), statistics(twin), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_batch_pooling_is_the_arithmetic_of_the_reference():
    net, x = small().double(), images(precision=torch.float64)
    parts = x.split([4, 10, 10])
    given = [inputs_of(net, [part]) for part in parts]
    report = convert_batchnorm(net, parts, pooling="batch")
    assert report.pooling == "batch"
    for name, norm in batchnorms(net):
        rows = [one[name].transpose(0, 1).flatten(1) for one in given]
        mean = torch.stack([row.mean(1) for row in rows]).mean(0)
        variance = torch.stack([row.var(1) for row in rows]).mean(0)
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)
    assert [layer.count for layer in report.layers] == [24 * 36, 24 * 16, 24]


# The report


def test_the_report_prints_what_happened_to_each_layer():
    net = randomised(nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False)))
    x = torch.cat([torch.randn(20, 2), torch.zeros(20, 1)], dim=1)
    report = convert_batchnorm(net, [x], missing_affine="skip")
    first, second, third = str(report).splitlines()
    assert first.startswith("1 of 2 batch norms converted on 20 examples; largest output change ")
    assert second.startswith("  converted 0 (BatchNorm1d, 3): shift ")
    assert second.endswith(", 20 values a channel, 1 dead channels")
    assert third == (
        "  skipped   1 (BatchNorm1d, 3): has no weight or bias to absorb the change (affine=False)"
    )


def test_the_report_is_json():
    net = small()
    report = convert_batchnorm(net, images().split(6))
    told = json.loads(json.dumps(report.to_dict()))
    assert (told["converted"], told["batches"], told["examples"]) == (3, 4, 24)
    assert told["change"] == report.change
    assert [layer["name"] for layer in told["layers"]] == ["1", "4", "9"]
    assert [layer["count"] for layer in told["layers"]] == [24 * 36, 24 * 16, 24]


def test_dead_channels_are_listed_by_number():
    norm = nn.BatchNorm2d(4)
    x = torch.randn(8, 4, 3, 3)
    x[:, 1], x[:, 3] = 5.0, x[:, 3] * 1e-4
    [layer] = convert_batchnorm(norm, [x]).layers
    assert layer.dead == (1, 3)


def test_the_pass_ends_when_every_channel_is_known_and_says_how_well():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    random = torch.Generator().manual_seed(0)
    batches = [torch.randn(8, 3, 4, 4, generator=random) for _ in range(64)]
    whole, part = copy.deepcopy(net), copy.deepcopy(net)
    everything = convert_batchnorm(whole, batches, tolerance=1e-9)
    report = convert_batchnorm(part, batches, tolerance=0.08)
    assert everything.batches == 64
    assert everything.error > 1e-9
    assert report.batches in (16, 32)
    assert 0 < report.error <= 0.08
    alone = copy.deepcopy(net)
    convert_batchnorm(alone, batches[: report.batches])
    assert torch.equal(alone[1].running_var, part[1].running_var)
    gap = (part[1].running_mean - whole[1].running_mean).abs() / whole[1].running_var.sqrt()
    assert float(gap.max()) < 4 * report.error


def test_data_that_come_sorted_do_not_end_the_pass():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
    batches = [torch.randn(8, 2) + 10 * (number >= 48) for number in range(64)]
    report = convert_batchnorm(
        net, sorted(batches, key=lambda batch: -float(batch.mean())), tolerance=0.05
    )
    assert report.batches == 64


def test_a_channel_that_hardly_varies_need_not_be_known_better_than_its_epsilon():
    norm = nn.BatchNorm1d(1, eps=1.0).eval()
    batches = [torch.zeros(8, 1) for _ in range(32)]
    batches[5] = torch.tensor([[1e-3]] + [[0.0]] * 7)  # seen once: its variance is not known at all
    assert convert_batchnorm(norm, batches, tolerance=0.01).batches == 16

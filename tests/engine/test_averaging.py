"""What a plan hands back of the weights that are trained, and that training goes on as if not."""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm
from toy import CLASSES, TwoDomains, domains, network, trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.averaging import Averaging, training_images
from adaptune.engine.evaluate import sample_outputs
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.source_free.shot import SHOT
from adaptune.methods.supervised.daft import DAFT
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.lp import LinearProbe
from adaptune.methods.supervised.lp_ft import LinearProbeFineTune
from adaptune.methods.unsupervised.dann import DANN
from adaptune.networks.network import Network
from adaptune.runs.checkpoint import pack, unpack
from adaptune.tasks.classification import Classification
from adaptune.types import Needs

TASK = Classification(len(CLASSES))
EMA = {"average": "ema", "average_decay": 0.8}
SWA = {"average": "swa", "average_from": 0.5}
PLANS = {
    "ema": EMA,
    "swa": SWA,
    "interpolated": {"interpolate": 0.4},
    "interpolated ema": {**EMA, "interpolate": 0.4},
}


def plan(**more) -> Plan:
    return Plan(**{"epochs": 4, "layout": "channels_last", **more})


def weights(method) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in method.net.named_parameters()}


def statistics(method) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{what}": getattr(norm, what).clone()
        for name, norm in batchnorms(method.net)
        for what in ("running_mean", "running_var")
    }


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def exact(kind=FineTune, **options):
    """Give a method in float64, and its data."""
    method, data = kind(network().double(), TASK, **options).double(), domains(64)
    for rows in (*data.sets.values(), *data.ood.values(), data.augmented):
        rows.data = [(x.double(), y) for x, y in rows.data]
    return method, data


def seen(method, data, chosen: Plan):
    """Train; give the weights after each step and at each epoch's end, and those handed back."""
    steps, handed = [], []
    step = method.step

    def watched(batch, descend):
        done = step(batch, descend)
        steps.append(weights(method))
        return done

    method.step = watched
    for epoch in fit(method, data, chosen):
        handed.append(weights(method))
        start = handed[0]
        assert epoch.number or same(start, weights(method))
    return start, steps, handed


def close(found, wanted) -> None:
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one, rtol=1e-12, atol=1e-13)


def line(start, end, share):
    return {name: (1 - share) * start[name] + share * end[name] for name in start}


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("kind", [FineTune, LinearProbeFineTune, DAFT])
def test_ema_follows_every_step_by_its_formula_in_float64(kind, share):
    method, data = exact(kind)
    start, steps, handed = seen(method, data, plan(**EMA, interpolate=share))
    average, found = start, []
    for t, after in enumerate(steps):
        decay = min(0.8, (1 + t) / (10 + t))
        average = {name: decay * average[name] + (1 - decay) * after[name] for name in average}
        found.append(average)
    assert len(steps) == 16
    for epoch in (1, 2, 3, 4):
        close(handed[epoch], line(start, found[4 * epoch - 1], share))
    assert not same(handed[4], steps[-1])


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_swa_is_the_mean_of_the_ends_of_the_epochs_of_the_last_share_in_float64(share):
    method, data = exact()
    start, steps, handed = seen(method, data, plan(**SWA, interpolate=share))
    ends = steps[3::4]
    for epoch in (1, 2, 3, 4):
        counted = ends[1:epoch] or [ends[epoch - 1]]  # from epoch 2 of 4 on
        mean = {name: sum(one[name] for one in counted) / len(counted) for name in start}
        close(handed[epoch], line(start, mean, share))


def test_interpolated_weights_are_on_the_line_from_what_prepare_left_in_float64():
    method, data = exact(LinearProbeFineTune)
    start, steps, handed = seen(method, data, plan(interpolate=0.5))
    assert start["head.weight"].abs().sum() > 0  # the probe's
    for epoch in (1, 2, 3, 4):
        close(handed[epoch], line(start, steps[4 * epoch - 1], 0.5))


def test_the_rate_stays_what_it_is_where_swa_begins():
    fall, held = Plan(), Plan(average="swa", average_from=0.75)
    for at in (0.0, 0.3, 0.75):
        assert held.share(at) == fall.share(at)
    assert held.share(0.9) == held.share(1.0) == fall.share(0.75)
    late = Plan(average="swa", average_from=0.1, warmup=0.5)
    assert late.share(0.25) == 0.5
    assert late.share(0.9) == 1.0


@pytest.mark.parametrize("chosen", [p for p in PLANS.values() if "swa" not in p.values()])
def test_training_goes_on_as_if_nothing_was_handed_back(chosen):
    plain, judged = FineTune(network(), TASK), FineTune(network(), TASK)
    _, without, _ = seen(plain, domains(64), plan())
    _, steps, handed = seen(judged, domains(64), plan(**chosen))
    assert all(map(same, without, steps))
    assert not any(map(same, handed[1:], steps[3::4]))


def measured(method, batches) -> dict[str, torch.Tensor]:
    """Give the statistics of what reaches each batch norm, all of which normalise by the batch."""
    kept: dict[str, list[torch.Tensor]] = {}
    for x in batches:
        for place, layer in method.net.body.named_children():
            if isinstance(layer, torch.nn.BatchNorm2d):
                kept.setdefault(f"body.{place}", []).append(x)
                x = batch_norm(x, None, None, layer.weight, layer.bias, training=True)
            else:
                x = layer(x)
    found = {}
    for name, parts in kept.items():
        values = torch.cat([x.transpose(0, 1).flatten(1) for x in parts], 1).double()
        found[f"{name}.running_mean"], found[f"{name}.running_var"] = values.mean(1), values.var(1)
    return found


@pytest.mark.parametrize("chosen", PLANS.values(), ids=PLANS)
def test_statistics_are_those_of_a_pass_over_the_training_images_by_what_is_handed_back(chosen):
    method, data = exact(batchnorm="train")
    *_, last = fit(method, data, plan(**chosen, epochs=2))
    with torch.no_grad():
        wanted = measured(method, [rows.x for rows in data.scan("train", shuffled=True)])
    close(statistics(method), wanted)
    for name, one in wanted.items():
        assert not torch.allclose(last.state["method"][f"net.{name}"], one)
    batches = {int(norm.num_batches_tracked) for _, norm in batchnorms(method.net)}
    assert batches == {30 + 8}  # those that the network had seen, and the steps


def test_where_a_method_learns_from_two_sides_a_batch_of_the_pass_has_both():
    method, data = DANN(network(), TASK, hidden=16), TwoDomains()
    list(fit(method, data, plan(**EMA, epochs=1)))
    sides = zip(data.scan("train"), data.unlabeled(), strict=True)
    with torch.no_grad():
        wanted = measured(method, [torch.cat([one.x, other.x]) for one, other in sides])
    for name, one in statistics(method).items():
        torch.testing.assert_close(one.double(), wanted[name], rtol=1e-4, atol=1e-4)


def test_without_the_source_the_pass_is_over_the_target():
    method, data = SHOT(trained(), TASK), TwoDomains()
    list(fit(method, data, plan(**EMA, epochs=1)))
    with torch.no_grad():
        wanted = measured(method, [rows.x for rows in data.unlabeled()])
    for name, one in statistics(method).items():
        torch.testing.assert_close(one.double(), wanted[name], rtol=1e-4, atol=1e-4)


def test_the_side_that_has_fewer_begins_again():
    class Uneven(TwoDomains):
        def unlabeled(self, *, shuffled: bool = False):
            assert shuffled
            return list(super().unlabeled())[:3]

    data = Uneven(count=96, batch_size=24)
    rows = list(training_images(data, Needs(unlabeled=True)))
    assert [len(x) for x in rows] == [48] * 4
    assert torch.equal(rows[3], torch.cat([data.x[72:], data.target[:24]]))
    assert len(list(training_images(data, Needs(labeled=False, unlabeled=True)))) == 3


def without_batch_norm() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 7))
    return Network.from_module(module, head="3", classes=CLASSES)


@pytest.mark.parametrize(
    "made",
    [
        partial(FineTune, network(), TASK, batchnorm="eval"),
        partial(FineTune, without_batch_norm(), TASK),
    ],
    ids=["held", "none"],
)
def test_where_no_batch_norm_follows_no_pass_is_taken_and_statistics_stay(made, monkeypatch):
    method, data = made(), domains()
    before = statistics(method)
    monkeypatch.setattr(data, "scan", lambda *_, **__: pytest.fail("a pass was taken"))
    list(fit(method, data, plan(**EMA, interpolate=0.5, epochs=2)))
    assert same(statistics(method), before)


@pytest.mark.parametrize("policy", ["train", "eval", "converted"])
def test_interpolation_by_0_gives_the_predictions_of_the_start(policy):
    method, data, found = FineTune(network(), TASK, batchnorm=policy), domains(), []
    for _ in fit(method, data, plan(**EMA, interpolate=0.0, epochs=2)):
        found.append(sample_outputs(method, data.scan("test")).logits)
    assert all(torch.equal(one, found[0]) for one in found)


def test_interpolation_by_1_is_a_run_without_it_and_takes_no_copy_and_no_pass(monkeypatch):
    assert Plan(interpolate=1.0) == Plan()
    method, data = FineTune(network(), TASK), domains()
    monkeypatch.setattr(data, "scan", lambda *_, **__: pytest.fail("a pass was taken"))
    monkeypatch.setattr(Averaging, "_copies", lambda *_, **__: pytest.fail("a copy was taken"))
    for epoch in fit(method, data, plan(epochs=1)):
        assert "average" not in epoch.state
        assert same(epoch.state["method"], method.state_dict())


def stopped(chosen: Plan, at: int) -> dict:
    """Give what is saved after ``at`` steps, of which an epoch has 4, and all but its last ask."""
    asks = count(1)
    pauses = fit(
        FineTune(network(), TASK),
        domains(),
        chosen,
        pause=lambda: next(asks) == at - (at - 1) // 4,
    )
    for one in pauses:
        if at == (4 * one.number if one.whole else 4 * (one.number - 1) + one.step):
            return unpack(pack(one.state), Path("kept"))
    raise AssertionError(f"there was no stop after {at} steps")


def alike(one, other) -> bool:
    """Tell whether two trees hold the same values, tensors to the bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("chosen", PLANS.values(), ids=PLANS)
def test_a_resumed_run_is_the_unbroken_one_to_the_bit(chosen):
    whole = FineTune(network(), TASK)
    epochs = list(fit(whole, domains(), plan(**chosen)))
    for at in (0, 4, 7, 10):
        method = FineTune(network(3), TASK)
        state = stopped(plan(**chosen), at)
        later = list(fit(method, domains(), plan(**chosen), state=state))
        assert [one.terms for one in later] == [one.terms for one in epochs[at // 4 + 1 :]]
        assert alike(later[-1].state, epochs[-1].state)
        assert same(method.state_dict(), whole.state_dict())


def test_going_on_from_the_end_gives_what_was_handed_back_there():
    whole, method = FineTune(network(), TASK), FineTune(network(3), TASK)
    *_, last = fit(whole, domains(), plan(**EMA))
    assert not list(fit(method, domains(), plan(**EMA), state=last.state))
    assert same(method.state_dict(), whole.state_dict())


def test_a_state_without_an_average_is_refused_in_words():
    *_, last = fit(FineTune(network(), TASK), domains(), plan(epochs=1))
    with pytest.raises(ValueError, match="knows no average of weights.*go on without --average"):
        list(fit(FineTune(network(), TASK), domains(), plan(**EMA), state=last.state))


def test_a_pause_hands_back_what_is_trained_and_an_epoch_what_is_averaged():
    plain, judged = FineTune(network(), TASK), FineTune(network(), TASK)
    runs = [
        fit(method, domains(), chosen, pause=lambda: True)
        for method, chosen in ((plain, plan(epochs=1)), (judged, plan(**EMA, epochs=1)))
    ]
    for one, other in zip(*runs, strict=True):
        assert same(one.state["method"], other.state["method"])
        assert same(weights(plain), weights(judged)) == (not (one.number and one.whole))


def test_what_trains_nothing_is_not_touched():
    plain, judged = LinearProbe(network(), TASK), LinearProbe(network(), TASK)
    list(fit(plain, domains(), plan()))
    assert len(list(fit(judged, domains(), plan(**EMA, interpolate=0.5)))) == 1
    assert same(plain.state_dict(), judged.state_dict())


def test_a_plan_without_an_average_is_called_what_it_was_before_there_were_any():
    assert repr(Plan()) == (
        "Plan(epochs=10, momentum=0.9, weight_decay=0.0, warmup=0.0, clip=None, accumulate=1, "
        "layout='auto', compile=False, sync_batchnorm=True, on_nonfinite='stop', "
        "checkpoint_minutes=10.0, seed=0)"
    )
    assert repr(Plan(interpolate=0.5)).endswith("average_from=0.5, interpolate=0.5)")

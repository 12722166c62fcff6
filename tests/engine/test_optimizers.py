"""AdamW beside SGD, rates that decay by layers, and the schedules of a plan."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from lightning_fabric import Fabric
from toy import CLASSES, domains, network

from adaptune.commands.settings import settings_by_method
from adaptune.engine.descent import Descent
from adaptune.engine.loop import _in_parts, fit
from adaptune.engine.optimizers import refuse_plan
from adaptune.engine.plan import Plan, power_share
from adaptune.methods.supervised.daft import DAFT
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.gradual_unfreezing import GradualUnfreezing
from adaptune.networks.layer_groups import layer_shares
from adaptune.networks.network import Network
from adaptune.studies.search import space
from adaptune.tasks.classification import Classification
from adaptune.types import Between, Group

TASK = Classification(len(CLASSES))
FABRIC = Fabric(accelerator="cpu", devices=1)
ADAMW = Plan(epochs=2, optimizer="adamw", weight_decay=0.1)


def tuned(plan: Plan, **more) -> FineTune:
    method = FineTune(network(), TASK, lr=0.003)
    for _ in fit(method, domains(64), plan, **more):
        pass
    return method


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def timm_network(name: str, **options) -> Network:
    return Network.from_timm(name, ["cat", "dog"], **options)


def test_three_steps_are_adamws_in_float64():
    method = FineTune(network(), TASK, lr=0.01, batchnorm="eval").double()
    batch = next(iter(domains().batches(method.needs, 0)))
    object.__setattr__(batch.labeled, "x", batch.labeled.x.double())
    params = dict(method.net.named_parameters())
    own = {name: one.detach().clone() for name, one in params.items()}
    first = {name: torch.zeros_like(one) for name, one in own.items()}
    second = {name: torch.zeros_like(one) for name, one in own.items()}
    descend = Descent(method.train(), Plan(optimizer="adamw", weight_decay=0.1), FABRIC)
    for step in range(1, 4):
        loss = method.objective(batch).total
        grads = torch.autograd.grad(loss, list(params.values()))
        for (name, w), g in zip(own.items(), grads, strict=True):
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g * g
            mean, square = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
            decay = 0.1 if w.ndim > 1 else 0.0
            own[name] = w - 0.01 * decay * w - 0.01 * mean / (square.sqrt() + 1e-8)
        descend.at(0.0, len(batch.labeled))
        descend(lambda: method.objective(batch))
    for name, one in params.items():
        torch.testing.assert_close(one.detach(), own[name], rtol=1e-10, atol=1e-12)


def test_norms_biases_and_what_timm_names_do_not_decay():
    net = timm_network("test_vit", size=32)
    method = FineTune(net, Classification(2))
    optimizer = Descent(method, ADAMW, FABRIC).optimizer
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    still = {name for name, one in net.named_parameters() if decays[id(one)] == 0}
    own = {name for name, one in net.named_parameters() if one.ndim <= 1}
    assert still == own | {"body.pos_embed", "body.cls_token"} & dict(net.named_parameters()).keys()
    assert "body.pos_embed" in still
    groups = Descent(method, Plan(weight_decay=0.1), FABRIC).optimizer.param_groups
    assert [one["weight_decay"] for one in groups] == [0.1]


@pytest.mark.parametrize("pauses", [1, 3])
def test_a_run_with_adamw_that_goes_on_is_the_one_that_never_stopped(pauses):
    plan = Plan(epochs=2, optimizer="adamw", weight_decay=0.1, clip=0.5)
    whole = tuned(plan)
    method, left = FineTune(network(), TASK, lr=0.003), iter(range(pauses))
    for epoch in fit(method, domains(64), plan, pause=lambda: next(left, None) == pauses - 1):
        if not epoch.whole:
            state = deepcopy(epoch.state)
            break
    again = FineTune(network(1), TASK, lr=0.003)
    for _ in fit(again, domains(64), plan, state=state):
        pass
    assert equal(again, whole)


def test_parts_of_a_batch_are_one_step_of_adamw():
    def stepped(accumulate: int) -> FineTune:
        method = FineTune(network(), TASK, lr=0.01, batchnorm="eval").double()
        batch = next(iter(domains().batches(method.needs, 0)))
        object.__setattr__(batch.labeled, "x", batch.labeled.x.double())
        plan = Plan(accumulate=accumulate, optimizer="adamw")
        descend = Descent(method.train(), plan, FABRIC)
        for _ in range(2):
            descend.at(0.0, len(batch.labeled))
            _in_parts(method, batch, descend)
        return method

    for one, other in zip(stepped(1).parameters(), stepped(3).parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_late_a_step_of_adamw_that_is_not_finite_is_left_out(monkeypatch):
    def broken() -> FineTune:
        method, taken = FineTune(network(), TASK, lr=0.003), iter(range(100))
        objective = method.objective

        def breaking(batch):
            done = objective(batch)
            bad = torch.is_grad_enabled() and next(taken) == 1
            done.terms["task"] = done.terms["task"] * (math.nan if bad else 1.0)
            return done

        method.objective = breaking
        plan = Plan(epochs=1, optimizer="adamw", on_nonfinite="skip", layout="contiguous")
        *_, last = fit(method, domains(64), plan)
        assert last.skipped == 1
        return method

    made, at_once = Descent._optimizer, broken()

    def late(self, parts):
        self.late = True
        return made(self, parts)

    monkeypatch.setattr(Descent, "_optimizer", late)
    for one, other in zip(broken().parameters(), at_once.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_rate_by_curvature_is_refused_for_adamw_before_the_data_are_read():
    with pytest.raises(ValueError, match="conditioned head .* --head published or one-rate"):
        next(fit(DAFT(network(), TASK), None, Plan(optimizer="adamw")))
    refuse_plan(DAFT(network(), TASK, head="published"), Plan(optimizer="adamw"))
    with pytest.raises(ValueError, match="conditioned head"):
        Plan(optimizer="adamw").rate(Group(torch.nn.Identity(), 0.1, trust=0.1))


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet", "test_efficientnet"])
def test_rates_by_layers_are_timms(name):
    import timm
    from timm.optim import param_groups_layer_decay

    net = timm_network(name)
    theirs = timm.create_model(name, num_classes=2)
    names = {id(one): key for key, one in theirs.named_parameters()}
    expected = {
        names[id(one)]: group["lr_scale"]
        for group in param_groups_layer_decay(theirs, layer_decay=0.75)
        for one in group["params"]
    }
    shares = layer_shares(net, 0.75)
    assert {key: shares[one] for key, one in net.body.named_parameters()} == {
        key: value for key, value in expected.items() if not key.startswith(net.origin.head + ".")
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_layers_learn_at_their_shares_of_the_methods_rate(optimizer):
    net = timm_network("test_resnet")
    method = FineTune(net, Classification(2), lr=0.01)
    descend = Descent(method, Plan(layer_decay=0.5, optimizer=optimizer), FABRIC)
    descend.at(0.5)
    rates = {p: g["lr"] for g in descend.optimizer.param_groups for p in g["params"]}
    shares = layer_shares(net, 0.5)
    assert rates.keys() == set(net.parameters())
    for one in net.parameters():
        assert rates[one] == pytest.approx(0.005 * shares.get(one, 1.0))


def test_layers_without_groups_or_with_rates_of_their_own_are_refused():
    plan = Plan(layer_decay=0.75)
    with pytest.raises(ValueError, match="timm's groups of layers, and .* has none"):
        refuse_plan(FineTune(network(), TASK), plan)
    gradual = GradualUnfreezing(timm_network("test_resnet"), Classification(2))
    with pytest.raises(ValueError, match="GradualUnfreezing has rates of its own for"):
        refuse_plan(gradual, plan)


def test_power_is_the_papers_formula_and_its_slope_is_b():
    rate, a, b = 0.02, 4.0, -0.51  # in tokens
    plan = Plan(schedule="power", power_a=a / rate, power_b=b, cooldown=0.1)
    for batch, steps in ((64, 4000), (1024, 100_000)):
        images = float(batch * steps)
        for step in range(0, int(0.9 * steps), steps // 13):
            n = batch * (step + 1)
            ours = rate * plan.share(step / steps, batch=batch, images=images)
            assert ours == pytest.approx(min(rate, batch * a * n**b), rel=1e-9)
    early, late = (power_share(n, 64, 1.0, b) for n in (1e5, 1e6))
    assert math.log(late / early) / math.log(10) == pytest.approx(b)


def test_powers_prefix_is_the_same_for_any_length_and_larger_batches_learn_faster():
    plan = Plan(schedule="power")
    short = [plan.share(s / 100, batch=32, images=3200.0) for s in range(90)]
    long = [plan.share(s / 1000, batch=32, images=32000.0) for s in range(90)]
    assert short == pytest.approx(long)
    assert power_share(1e6, 64, 1.0, -0.51) == pytest.approx(2 * power_share(1e6, 32, 1.0, -0.51))


@pytest.mark.parametrize("schedule", ["cosine", "power", "constant", "linear"])
def test_schedules_are_continuous_and_rise_in_the_warm_up(schedule):
    plan = Plan(schedule=schedule, warmup=0.2)
    shares = [plan.share(s / 2000, batch=32, images=64000.0) for s in range(2001)]
    assert shares[0] == 0
    assert all(0 <= one <= 1 for one in shares)
    assert max(abs(b - a) for a, b in zip(shares, shares[1:], strict=False)) < 0.01
    assert shares[200] == pytest.approx(shares[400] / 2)
    assert shares[-1] == pytest.approx(1.0 if schedule == "constant" else 0.0)


def test_a_run_by_power_knows_its_images():
    seen = []

    class Watching(Descent):
        def at(self, progress, rows, steps):
            super().at(progress, rows, steps)
            seen.append(self.optimizer.param_groups[0]["lr"])

    import adaptune.engine.loop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptune.engine.loop, "Descent", Watching)
        data = domains(64)
        rows = next(iter(data.batches(FineTune.needs, 0))).labeled
        tuned(Plan(epochs=2, schedule="power", power_a=0.2))
    size = len(rows)
    for step, rate in enumerate(seen[: int(0.9 * len(seen))]):
        share = min(1.0, size * 0.2 * (size * (step + 1)) ** -0.51)
        assert rate == pytest.approx(0.003 * share)


def test_what_is_usual_stays_out_of_settings():
    usual = Plan().settings()
    assert not usual.keys() & {"optimizer", "layer_decay", "schedule", "power_a", "cooldown"}
    power = Plan(schedule="power", optimizer="adamw", layer_decay=0.75).settings()
    assert power.keys() - usual.keys() == {
        *("schedule", "power_a", "power_b", "cooldown", "optimizer", "layer_decay")
    }


def test_a_rate_that_is_not_told_is_a_hundredth_for_adamw_and_one_that_is_stays():
    own, plans = settings_by_method(["ft", "lp-ft"], ["ft.optimizer=adamw", "lp-ft.lr=0.02"])
    assert own["ft"]["lr"] == 0.0003
    assert plans["ft"] == {"optimizer": "adamw"}
    assert own["lp-ft"]["lr"] == 0.02
    assert settings_by_method(["ft"], ["ft.lr=0.03"], "adamw")[0]["ft"]["lr"] == 0.03
    assert space("ft", None, "adamw")["lr"] == Between(1e-5, 1e-2)
    assert space("ft", ["weight_decay"], "adamw") == space("ft", ["weight_decay"])

"""How steps are taken: in parts, in which layout, compiled, and checked late."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn
from toy import CLASSES, body, domains, network

import adaptune.engine.loop
from adaptune.engine import warmup
from adaptune.engine.batches import DataOnDevice, layout_of
from adaptune.engine.descent import Descent
from adaptune.engine.evaluate import sample_outputs
from adaptune.engine.loop import fit
from adaptune.engine.nonfinite import NonFiniteError
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.daft import DAFT
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))
FABRIC = Fabric(accelerator="cpu", devices=1)


@pytest.fixture(autouse=True)
def _layouts_tried(monkeypatch):
    """Take the times that tests make up as they are."""
    monkeypatch.setattr(warmup, "BRIEF", 0.01)


def tuned(plan: Plan, method: nn.Module | None = None, **more) -> nn.Module:
    method = method or FineTune(network(), TASK, batchnorm="eval")
    for _ in fit(method, domains(64), plan, **more):
        pass
    return method


@pytest.fixture
def late(monkeypatch):
    """Check steps late and leave them out on the device, as on a GPU."""

    class Late(Descent):
        def _optimizer(self, parts):
            self.late = True
            return super()._optimizer(parts)

    monkeypatch.setattr(adaptune.engine.loop, "Descent", Late)


def breaking(method: nn.Module, *steps: int) -> nn.Module:
    """Break what these of a method's steps ask for, counted from 0."""
    objective, taken = method.objective, iter(range(1000))

    def broken(batch):
        done = objective(batch)
        bad = torch.is_grad_enabled() and next(taken) in steps
        done.terms["task"] = done.terms["task"] * (float("nan") if bad else 1.0)
        return done

    method.objective = broken
    return method


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("parts", [2, 3, 16, 99])
def test_without_batch_norm_parts_add_up_to_the_whole_batch(parts):
    def stepped(accumulate: int) -> nn.Module:
        method = FineTune(network(), TASK, batchnorm="eval").double()
        batch = next(iter(domains().batches(method.needs, 0)))
        object.__setattr__(batch.labeled, "x", batch.labeled.x.double())
        plan = Plan(accumulate=accumulate, clip=0.1)
        descend = Descent(method.train(), plan, FABRIC)
        for _ in range(3):
            descend.at(0.0, len(batch.labeled))
            adaptune.engine.loop._in_parts(method, batch, descend)
        return method

    whole, cut = stepped(1).state_dict(), stepped(parts).state_dict()
    for key, value in whole.items():
        torch.testing.assert_close(cut[key], value, rtol=1e-12, atol=1e-14)


def test_terms_of_parts_are_reported_as_those_of_the_whole_batch():
    seen = []
    for parts in (1, 3):
        method = FineTune(network(), TASK, batchnorm="eval")
        *_, last = fit(method, domains(64), Plan(epochs=2, accumulate=parts))
        seen.append(last.terms["task"])
    assert seen[1] == pytest.approx(seen[0], rel=1e-5)


def test_parts_with_batch_norms_in_train_mode_are_warned_of_once():
    def said(policy: str, parts: int) -> list[str]:
        method = FineTune(network(), TASK, batchnorm=policy)
        epochs = list(fit(method, domains(64), Plan(epochs=2, accumulate=parts)))
        return [one for epoch in epochs for one in epoch.said if "one part" in one]

    assert len(said("train", 2)) == 1
    assert said("eval", 2) == said("train", 1) == []


def test_moving_twice_a_batch_in_parts_is_refused():
    class Twice(FineTune):
        def step(self, batch, descend):
            super().step(batch, descend)
            return super().step(batch, descend)

    tuned(Plan(epochs=1), Twice(network(), TASK))
    with pytest.raises(ValueError, match="Twice moves more than once a batch"):
        tuned(Plan(epochs=1, accumulate=2), Twice(network(), TASK))


def test_a_batch_has_at_least_one_part():
    with pytest.raises(ValueError, match="--accumulate must be at least 1: got 0"):
        Plan(accumulate=0)


def test_a_fault_in_any_part_stops_the_step():
    with pytest.raises(NonFiniteError, match="the term 'task' is nan in epoch 1, step 2"):
        tuned(Plan(epochs=1, accumulate=2), breaking(FineTune(network(), TASK), 2))


@pytest.mark.usefixtures("late")
def test_steps_checked_late_are_those_checked_at_once(monkeypatch):
    plan = Plan(epochs=3, on_nonfinite="skip")
    late = tuned(plan)
    monkeypatch.undo()
    for one, other in zip(late.parameters(), tuned(plan).parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("step", [0, 3, 7])
def test_late_a_step_that_is_not_finite_stops_the_run_where_it_was(step, momentum):
    plan = Plan(epochs=2, momentum=momentum)
    stopped = breaking(FineTune(network(), TASK), step)
    whole = breaking(FineTune(network(), TASK))
    place = f"epoch {step // 4 + 1}, step {step % 4 + 1}. "
    with pytest.raises(NonFiniteError, match=place) as error:
        tuned(plan, stopped)
    assert len(error.value.rows) == 16
    epochs = fit(whole, domains(64), plan, pause=lambda: True)
    reached = [deepcopy(whole.state_dict()) for epoch in epochs]
    for name, one in stopped.named_parameters():
        assert torch.allclose(one, reached[step][name], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("parts", [1, 2])
def test_late_a_step_that_is_not_finite_is_left_out_without_a_trace_and_counted(parts):
    plan = Plan(epochs=2, on_nonfinite="skip", accumulate=parts)
    method = breaking(FineTune(network(), TASK), 0, 4 * parts + 1)
    epochs = list(fit(method, domains(64), plan))
    assert [epoch.skipped for epoch in epochs] == [0, 1, 1]
    assert all(map(torch.isfinite, map(torch.tensor, (e.terms["task"] for e in epochs[1:]))))
    assert all(bool(value.isfinite().all()) for value in method.state_dict().values())


@pytest.mark.usefixtures("late")
def test_a_run_checked_late_goes_on_to_the_bit():
    whole, resumed = DAFT(network(), TASK), DAFT(network(), TASK)
    states = [deepcopy(e.state) for e in fit(whole, domains(), Plan(epochs=2), pause=lambda: True)]
    tuned_on = fit(resumed, domains(), Plan(epochs=2), state=states[2])
    for _ in tuned_on:
        pass
    assert same(whole, resumed)


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_begun_on_the_cpu_goes_on_checked_late(request, number):
    whole, resumed = FineTune(network(), TASK), breaking(FineTune(network(), TASK), 0)
    plan = Plan(epochs=2, on_nonfinite="skip")
    states = [deepcopy(epoch.state) for epoch in fit(whole, domains(64), plan)]
    request.getfixturevalue("late")
    before = states[number]["method"]
    epochs = fit(resumed, domains(64), plan, state=states[number], pause=lambda: True)
    assert next(epochs).skipped == 1
    for name, one in resumed.named_parameters():
        assert torch.equal(one, before[name])
    for _ in epochs:
        pass
    assert all(bool(value.isfinite().all()) for value in resumed.state_dict().values())


def scaled(size: float = 2.0**16) -> Fabric:
    """Give a fabric of 16-mixed on the CPU, whose scaler of float16 begins at ``size``."""
    scaler = torch.amp.GradScaler("cpu", init_scale=size)
    precision = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    return Fabric(accelerator="cpu", devices=1, plugins=[precision])


def test_steps_whose_gradients_are_scaled_for_float16_are_those_of_float32():
    plan = Plan(epochs=2, clip=0.5)
    for one, other in zip(
        tuned(plan, fabric=scaled()).parameters(), tuned(plan).parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=2e-3)


def test_a_scaler_whose_gradients_overflow_leaves_the_step_out_and_its_state_is_kept():
    method, rows = FineTune(network(), TASK, batchnorm="eval"), domains(64)
    descend, before = (
        Descent(method.train(), Plan(), scaled(2.0**40)),
        deepcopy(method.state_dict()),
    )
    batch = next(iter(rows.batches(method.needs, 0)))
    descend(partial(method.objective, batch))
    assert all(torch.equal(one, before[name]) for name, one in method.state_dict().items())
    state = descend.state_dict()
    assert state["scaler"]["scale"] == 2.0**39
    resumed = Descent(method, Plan(), scaled())
    resumed.load_state_dict(state)
    assert resumed.state_dict()["scaler"] == state["scaler"]


def test_gradients_whose_norm_is_not_finite_are_named():
    method = FineTune(network(), TASK)
    method.net.head.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteError, match=r"1 tensors, such as net\.head\.weight"):
        tuned(Plan(epochs=1), method)


@pytest.mark.parametrize(("slower", "layout"), [(1.1, "channels_last"), (1.5, "contiguous")])
def test_the_layout_is_the_faster_one_and_kept_when_a_run_goes_on(monkeypatch, slower, layout):
    times = {"channels_last": slower, "contiguous": 1.0}
    monkeypatch.setattr(warmup, "_seconds", lambda *given: times[given[-1]])
    method = FineTune(network(), TASK)
    first, last = fit(method, domains(64), Plan(epochs=1))
    assert first.notes["layout"] == layout
    assert f"images lie {layout.replace('_', ' ')}" in first.said[0]
    assert layout_of(method) is {"contiguous": torch.contiguous_format}.get(
        layout, torch.channels_last
    )
    monkeypatch.setattr(warmup, "_seconds", lambda *_: pytest.fail("it was tried already"))
    resumed = FineTune(network(), TASK)
    list(fit(resumed, domains(64), Plan(epochs=2), state=last.state))
    assert resumed.net.layout == layout
    sample_outputs(resumed, domains().scan("val"))
    convolution = resumed.net.body[3].weight
    assert convolution.is_contiguous() == (layout == "contiguous")


def test_a_busy_moment_does_not_change_the_layout(monkeypatch):
    times = iter([2.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(warmup, "_seconds", lambda *_: next(times))
    first, *_ = fit(FineTune(network(), TASK), domains(64), Plan(epochs=1))
    assert first.notes["layout"] == "channels_last"


def test_a_layout_that_is_given_is_not_tried(monkeypatch):
    monkeypatch.setattr(warmup, "_seconds", lambda *_: pytest.fail("it was given"))
    method = tuned(Plan(epochs=1, layout="contiguous"))
    assert layout_of(method) is torch.contiguous_format


def test_trying_layouts_leaves_no_trace():
    method = FineTune(network(), TASK)
    method.net.body.append(nn.Dropout(0.5))
    method.eval()
    data = DataOnDevice(domains(), method, FABRIC)
    before, random = deepcopy(method.state_dict()), torch.get_rng_state()
    warmup.choose_layout(method, next(iter(data.batches(method.needs, 0))), FABRIC)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(map(torch.equal, before.values(), method.state_dict().values()))
    assert not any(module.training for module in method.modules())
    assert all(parameter.grad is None for parameter in method.parameters())


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no compiler was found\nat all")

    monkeypatch.setattr(warmup, "one_pass", refuse)
    method = FineTune(network(), TASK)
    plan = Plan(epochs=1, compile=True, layout="channels_last")
    first, last = fit(method, domains(64), plan)
    assert "not compiled: no compiler was found (torch.compile needs a C++" in first.said[-1]
    assert last.terms["task"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_a_compiled_run_is_the_same_run_and_is_saved_the_same(tmp_path):
    plain, compiled = (FineTune(network(), TASK) for _ in range(2))
    losses = []
    for method, on in ((plain, False), (compiled, True)):
        epochs = []
        for epoch in fit(method, domains(64), Plan(epochs=2, compile=on)):
            epochs.append(epoch)
            outputs = sample_outputs(method, domains(64).scan("val"))
        losses.append([epoch.terms["task"] for epoch in epochs[1:]])
        method.net.save(tmp_path / str(on))
    assert epochs[0].said[-1].startswith("compiled in")
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert list(plain.state_dict()) == list(compiled.state_dict())
    loaded = Network.load(tmp_path / "True", module=body())
    torch.testing.assert_close(
        sample_outputs(loaded, domains(64).scan("val")).logits, outputs.logits
    )

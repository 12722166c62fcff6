from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from lightning_fabric import Fabric
from torch.nn.utils import parameters_to_vector
from toy import CLASSES, Toy, body, domains, images, network

from adaptune.data import Loading, from_datasets
from adaptune.engine.batches import layout_of
from adaptune.engine.descent import Descent
from adaptune.engine.evaluate import evaluate, sample_outputs
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.network import Network
from adaptune.runs.setup import open_session
from adaptune.tasks.classification import Classification
from adaptune.types import Group, Objective

TASK = Classification(len(CLASSES))
FABRIC = Fabric(accelerator="cpu", devices=1)


def test_the_rate_falls_along_a_cosine_step_by_step_after_a_linear_rise():
    method = FineTune(network(), TASK, lr=0.5)
    seen = []

    class Watching(Descent):
        def at(self, progress, rows, steps):
            super().at(progress)
            seen.append((progress, self.optimizer.param_groups[0]["lr"]))

    import adaptune.engine.loop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptune.engine.loop, "Descent", Watching)
        for _ in fit(method, domains(64), Plan(epochs=2, warmup=0.25)):
            pass
    steps = torch.arange(8) / 8
    fall = 0.25 * (1 + torch.cos(torch.pi * (steps - 0.25) / 0.75))
    wanted = torch.where(steps < 0.25, 0.5 * steps / 0.25, fall)
    assert [p for p, _ in seen] == steps.tolist()
    assert torch.allclose(torch.tensor([rate for _, rate in seen]), wanted, atol=1e-6)


def test_an_epoch_reports_the_mean_of_its_terms():
    method = FineTune(network(), TASK, lr=0.0, batchnorm="eval")
    epochs = list(fit(method, domains(64), Plan(epochs=1)))
    assert [epoch.number for epoch in epochs] == [0, 1]
    x, y = images(64).tensors
    loss = torch.nn.functional.cross_entropy(method.eval().net(x), y).detach()
    assert epochs[1].terms["task"] == pytest.approx(float(loss), rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_what_to_try():
    method = FineTune(network(), TASK, lr=1e25)
    with pytest.raises(FloatingPointError, match="rate may be too high"):
        list(fit(method, domains(), Plan(epochs=4)))


def test_no_batch_is_an_error_that_says_so():
    empty = torch.utils.data.TensorDataset(torch.empty(0, 3, 8, 8), torch.empty(0, dtype=int))
    data = from_datasets(empty, empty, empty, classes=CLASSES)
    with pytest.raises(ValueError, match="gave no batch"):
        list(fit(FineTune(network(), TASK), data, Plan(epochs=1)))


def test_evaluating_gives_every_row_once_with_the_features_of_the_body():
    net, data = network(), domains()
    net.train()
    outputs = sample_outputs(net, data.scan("test"))
    x, y = images(30, seed=2).tensors
    assert net.training
    net.eval()
    assert torch.equal(outputs.y, y)
    assert outputs.index.tolist() == list(range(30))
    assert torch.allclose(outputs.features, net.body(x), atol=1e-5)
    assert torch.allclose(outputs.logits, net(x), atol=1e-5)


def test_evaluating_an_empty_set_gives_no_rows_and_scoring_it_says_so():
    assert len(sample_outputs(network(), []).y) == 0
    with pytest.raises(ValueError, match="no example could be scored"):
        evaluate(network(), [], TASK)


def test_images_go_channels_last_through_convolutions_only():
    assert layout_of(network()) is torch.channels_last
    seen = []
    net = network()
    net.body[0].register_forward_pre_hook(
        lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    sample_outputs(net, domains().scan("val"))
    assert all(seen)


def test_clipping_bounds_the_step():
    method = FineTune(network(), TASK, lr=1.0)
    before = parameters_to_vector(method.parameters()).detach().clone()
    descent = Descent(method, Plan(clip=1e-3), FABRIC)
    method.train().step(next(iter(domains().batches(method.needs, 0))), descent)
    after = parameters_to_vector(method.parameters()).detach()
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=0.02)


def test_trust_bounds_how_far_a_gradient_moves_each_tensor_in_float64():
    method = FineTune(network(), TASK).double()
    layer = method.net.head
    with torch.no_grad():
        layer.bias.zero_()
    method.groups = lambda: [Group(layer, 100.0, trust=0.01)]
    descend = Descent(method, Plan(momentum=0.0), FABRIC)
    weight = layer.weight.detach().clone()
    descend(lambda: Objective({"pull": 3 * layer.weight.sum() + layer.bias.sum()}, weight))
    torch.testing.assert_close((layer.weight - weight).norm(), 0.01 * weight.norm())
    torch.testing.assert_close(layer.bias.norm(), torch.tensor(0.01 * 1e-3 * 3**0.5).double())
    weight = layer.weight.detach().clone()
    descend(lambda: Objective({"pull": 1e-6 * layer.weight.sum()}, weight))
    torch.testing.assert_close(layer.weight, weight - 1e-4)  # short gradients pass as they are


def test_dropout_goes_on_where_it_stopped():
    def dropping() -> FineTune:
        net = network()
        net.body.append(torch.nn.Dropout(0.5))
        return FineTune(net, TASK)

    whole, resumed = dropping(), dropping()
    states = [deepcopy(epoch.state) for epoch in fit(whole, domains(), Plan(epochs=3))]
    torch.rand(7)  # what a process did in between must not matter
    for _ in fit(resumed, domains(), Plan(epochs=3), state=states[1]):
        pass
    assert all(map(torch.equal, whole.state_dict().values(), resumed.state_dict().values()))


def test_naming_a_module_moves_that_module_alone():
    method = FineTune(network(), TASK, lr=0.1)
    descent = Descent(method, Plan(), FABRIC)
    batch = next(iter(domains().batches(method.needs, 0)))
    body_before = [p.clone() for p in method.net.body.parameters()]
    head_before = method.net.head.weight.clone()
    method.train()
    descent(lambda: method.objective(batch), method.net.head)
    assert all(map(torch.equal, body_before, method.net.body.parameters()))
    assert not torch.equal(head_before, method.net.head.weight)


def test_bfloat16_autocast_trains_and_evaluates_in_float32_outputs():
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    method = FineTune(network(), TASK, lr=0.05)
    losses = [
        e.terms["task"] for e in fit(method, domains(), Plan(epochs=4), fabric=fabric) if e.terms
    ]
    assert losses[-1] < losses[0]
    assert (
        sample_outputs(method, domains().scan("val"), fabric=fabric).logits.dtype == torch.float32
    )


def test_any_dataset_of_pairs_can_be_trained_on():
    data = from_datasets(
        images(40), images(9), images(9), classes=CLASSES, loading=Loading(batch_size=8)
    )
    net = Network.from_module(body(), head="8", classes=CLASSES)
    first, *_, last = fit(FineTune(net, TASK), data, Plan(epochs=6))
    assert first.number == 0
    assert last.terms["task"] < 1.0


@pytest.mark.parametrize("name", ["alpha-bn", "tent"])
def test_what_adapts_to_streams_is_not_trained_and_says_what_to_run(name):
    with pytest.raises(ValueError, match="run adaptune stream RUN DIR"):
        open_session(METHODS[name], {}, domains(), Toy(), Plan())

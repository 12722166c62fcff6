"""DAFT against its formulas."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from toy import CLASSES, domains, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.descent import Descent
from adaptune.engine.evaluate import sample_outputs
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.methods.supervised.daft import DAFT
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.lp_ft import LinearProbeFineTune
from adaptune.networks.heads import Readout
from adaptune.networks.probe_start import ProbeStart
from adaptune.ops.probe import cross_validated_probe
from adaptune.tasks.classification import Classification
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, Domains, Labeled

TASK = Classification(len(CLASSES))


def everything(data: Domains) -> torch.Tensor:
    return torch.cat([rows.x for rows in data.scan("train")])


def test_prepare_leaves_the_features_alone_and_sets_pooled_statistics():
    method, data = DAFT(network(), TASK), domains()
    x = everything(data)
    method.eval()
    before = method.net.body(x)
    first = method.net.body[0](x).double()
    method.prepare(data)
    assert torch.allclose(method.net.body(x), before, rtol=1e-4, atol=1e-5)
    norm = method.net.body[1]
    assert torch.allclose(norm.running_mean.double(), first.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(norm.running_var.double(), first.var((0, 2, 3)), rtol=1e-5)


def test_the_conditioned_head_follows_its_formula_in_float64():
    method, data = DAFT(network(), TASK, k=0.5, floor=0.05), domains()
    features = method.net.eval().body(everything(data)).detach().double()
    method.prepare(data)
    mean, deviation = features.mean(0), features.std(0, unbiased=False)
    deviation = deviation.clamp_min(0.05 * deviation.mean())
    z = (features - mean) / deviation
    curvature = 0.5 * torch.linalg.eigvalsh(z.T @ z / len(z)).max()
    head = method.net.head
    assert torch.allclose(head.mean.double(), mean, rtol=1e-4, atol=1e-6)
    assert torch.allclose(head.deviation.double(), deviation, rtol=1e-4)
    assert float(head.curvature) == pytest.approx(float(curvature), rel=1e-4)
    rate = Descent(method, Plan(momentum=0.9), _fabric()).rates[1]
    assert rate == pytest.approx(0.5 * 0.1 * 2 / float(curvature), rel=1e-4)


def test_the_curvature_bounds_the_loss_of_the_head_everywhere():
    method, data = DAFT(network(), TASK), domains()
    method.prepare(data)
    method.eval()
    head = deepcopy(method.net.head).double()
    features = method.net.body(everything(data)).double().detach()
    y = torch.cat([rows.y for rows in data.scan("train")])
    z = (features - head.mean) / head.deviation

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(z @ weight.view(3, -1).T, y)

    for scale in (0.0, 0.1, 1.0):
        weight = scale * torch.randn(3 * z.shape[1], dtype=torch.float64)
        hessian = torch.autograd.functional.hessian(loss, weight)
        largest = torch.linalg.eigvalsh(hessian).max()
        assert float(largest) <= float(head.curvature) * (1 + 1e-6)


def test_the_first_step_is_momentum_descent_on_the_cross_entropy_in_float64():
    method, data = DAFT(network(), TASK, lr=0.02).double(), domains()
    rows = next(iter(data.scan("train")))
    rows = type(rows)(x=rows.x.double(), y=rows.y, domain=rows.domain, index=rows.index)
    twin = deepcopy(method)
    descent = Descent(method, Plan(), _fabric())
    descent.at(0.0)
    method.train().step(Batch(rows), descent)
    twin.train()
    F.cross_entropy(twin.net.head(twin.net.body(rows.x)), rows.y).backward()
    for key, value in twin.named_parameters():
        rate = descent.rates[1] if key.startswith("net.head") else 0.02
        wanted = value - rate * value.grad
        assert torch.allclose(method.get_parameter(key), wanted, rtol=1e-9, atol=1e-12), key


@pytest.mark.parametrize("trust", [1e-5, float("inf")])
def test_a_gradient_moves_no_tensor_of_the_body_beyond_its_share_in_float64(trust):
    method, data = DAFT(network(), TASK, lr=0.3, trust=trust).double(), domains()
    rows = next(iter(data.scan("train")))
    rows = type(rows)(x=rows.x.double(), y=rows.y, domain=rows.domain, index=rows.index)
    descent = Descent(method, Plan(), _fabric())
    method.train().step(Batch(rows), descent)  # the head leaves zero; nothing pulls the body yet
    twin = deepcopy(method).train()
    method.step(Batch(rows), descent)
    F.cross_entropy(twin.net.head(twin.net.body(rows.x)), rows.y).backward()
    shortened = 0
    for key, value in twin.net.body.named_parameters():
        least = 1e-3 * value.numel() ** 0.5
        longest = trust * max(float(value.detach().norm()), least)
        share = min(1.0, longest / max(0.3 * float(value.grad.norm()), 1e-300))
        shortened += share < 1
        wanted = value - 0.3 * share * value.grad
        found = method.net.body.get_parameter(key)
        assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-12), key
    assert (shortened > 0) == (trust < 1)


def test_the_published_head_has_no_bound_on_its_body():
    for head in ("published", "one-rate"):
        assert DAFT(network(), TASK, head=head).groups()[0].trust == float("inf")


def test_the_head_starts_at_zero_whichever_it_is():
    for head in ("conditioned", "published", "one-rate"):
        method = DAFT(network(), TASK, head=head)
        assert not method.net.head.weight.any()
        assert not method.net.head.bias.any()


def test_the_head_starts_at_the_probe_of_the_features_that_the_pass_saw():
    method, data = DAFT(network(), TASK), domains()
    rows = list(data.scan("train"))
    y = torch.cat([batch.y for batch in rows])
    notes = method.prepare(data)
    features = sample_outputs(method, data.scan("train")).features
    probe = cross_validated_probe(features, y, classes=len(CLASSES), cs=[notes["probe"]["c"]])
    wanted = features @ probe.weight.T + probe.bias
    assert torch.allclose(method.net.head(features), wanted, rtol=1e-2, atol=1e-2)
    assert probe.weight.norm() > 0.1


def test_the_paper_s_start_at_zero_is_an_option():
    method = DAFT(network(), TASK, head_start="zero")
    assert "probe" not in method.prepare(domains())
    assert not method.net.head.weight.any()


def test_where_one_class_is_seen_the_head_stays_at_zero():
    start, head = ProbeStart(), Readout(2, 3).zero_()
    row = torch.arange(3)
    start(Labeled(torch.ones(3, 2), row, row, y=torch.ones_like(row)), torch.ones(3, 2))
    assert start.apply(head) == {}
    assert not head.weight.any()


def test_published_and_one_rate_heads_learn_at_the_rates_of_the_paper():
    published = DAFT(network(), TASK, lr=0.001, head="published", head_lr=3.0)
    assert [group.rate for group in published.groups()] == [0.001, 3.0]
    single = DAFT(network(), TASK, lr=0.001, head="one-rate")
    assert [group.rate for group in single.groups()] == [0.001, 0.001]


def test_one_pass_over_the_data_serves_batch_norms_and_head():
    data, passes = domains(), []

    class Counting:
        def scan(self, split, *, shuffled=False):
            passes.append(split)
            return data.scan(split, shuffled=shuffled)

    DAFT(network(), TASK).prepare(Counting())
    LinearProbeFineTune(network(), TASK, batchnorm="converted", cs=3).prepare(Counting())
    assert passes == ["train", "train", "val"]


@pytest.mark.parametrize(
    ("method", "options"),
    [(DAFT, {"batchnorm": "train"}), (FineTune, {}), (LinearProbeFineTune, {"cs": 3})],
)
def test_without_conversion_prepare_leaves_batch_norms_alone(method, options):
    one = method(network(), TASK, **options)
    before = {key: value.clone() for key, value in one.net.body.state_dict().items()}
    one.prepare(domains())
    assert all(torch.equal(value, before[key]) for key, value in one.net.body.state_dict().items())


@pytest.mark.parametrize("name", ["ft", "lp-ft", "daft"])
def test_any_method_can_convert_and_then_train_mode_starts_near_eval_mode(name):
    converted = METHODS[name](network(), TASK, batchnorm="converted")
    plain = METHODS[name](network(), TASK, batchnorm="train")
    data = domains()
    gaps = []
    for method in (plain, converted):
        notes = method.prepare(data)
        assert ("conversion" in notes) == (method is converted)
        x = everything(data)
        body = method.net.body
        with torch.no_grad():
            gaps.append(float((body.train()(x) - body.eval()(x)).norm() / body(x).norm()))
    assert gaps[1] < 0.02 < gaps[0]


def test_exact_and_batch_pooling_differ_on_uneven_batches():
    data = domains(50, batch_size=16)  # 16, 16, 16, 2
    exact, batch = DAFT(network(), TASK), DAFT(network(), TASK, pooling="batch")
    exact.prepare(data)
    batch.prepare(data)
    assert not torch.allclose(exact.net.body[1].running_var, batch.net.body[1].running_var)


def test_the_folded_head_predicts_what_the_conditioned_head_does():
    method = DAFT(network(), TASK)
    for _ in fit(method, domains(), Plan(epochs=2)):
        pass
    before = sample_outputs(method, domains().scan("test")).logits
    assert method.net.head.mean is not None
    method.net.head = method.net.head.fold()
    after = sample_outputs(method, domains().scan("test")).logits
    assert torch.allclose(before, after, atol=1e-5)


def test_running_statistics_follow_while_training():
    method = DAFT(network(), TASK)
    counted = [int(norm.num_batches_tracked) for _, norm in batchnorms(method)]
    for _ in fit(method, domains(), Plan(epochs=2)):
        pass
    now = [int(norm.num_batches_tracked) for _, norm in batchnorms(method)]
    assert [a - b for a, b in zip(now, counted, strict=True)] == [2 * (70 // 16)] * 2


def _fabric():
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1)


@pytest.mark.parametrize(
    ("task", "policy"), [(Classification, "converted"), (Segmentation, "eval")]
)
def test_batch_norms_are_converted_for_labels_of_images_and_held_for_those_of_places(task, policy):
    assert DAFT(network(), task(CLASSES)).net.batchnorm == policy
    assert DAFT(network(), task(CLASSES), batchnorm="train").net.batchnorm == "train"


@pytest.mark.parametrize("head", ["conditioned", "published"])
def test_a_head_that_is_kept_starts_as_it_was(head):
    net, data = network(), domains()
    x = everything(data)
    before = net.eval()(x)
    method = DAFT(net, TASK, head=head, head_start="kept")
    method.prepare(data)
    assert torch.allclose(method.eval()(x), before, rtol=1e-3, atol=1e-4)

"""Conversion takes the data's statistics into the batch norms and leaves the function alone."""

import copy
import gc
import json
import warnings
import weakref
from dataclasses import dataclass

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.data import DataLoader, TensorDataset

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


def randomised(net: nn.Module) -> nn.Module:
    """Give every batch norm statistics and an affine map that no initialisation has."""
    with torch.no_grad():
        for _, norm in batchnorms(net):
            if norm.running_mean is not None:
                norm.running_mean.normal_(0, 0.5)
                norm.running_var.uniform_(0.5, 2)
            if norm.weight is not None:
                norm.weight.uniform_(-1.5, 1.5)
                norm.bias.normal_(0, 0.3)
    return net.eval()


def small() -> nn.Sequential:
    return randomised(
        nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 5, 3),
            nn.BatchNorm2d(5, eps=1e-3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 4),
            nn.BatchNorm1d(4),
        )
    )


def images(number: int = 24, size: int = 8, precision: torch.dtype = torch.float32) -> Tensor:
    """Images whose brightness grows with their index: sorted, as by class."""
    own = torch.Generator().manual_seed(1)
    x = torch.randn(number, 3, size, size, generator=own, dtype=torch.float64)
    return (x + torch.linspace(-2, 3, number).view(-1, 1, 1, 1)).to(precision)


def statistics(net: nn.Module) -> list[Tensor]:
    norms = [norm for _, norm in batchnorms(net)]
    return [t.double().clone() for norm in norms for t in (norm.running_mean, norm.running_var)]


def inputs_of(net: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """Collect by hand what every batch norm of a network in eval mode is given."""
    net, seen = copy.deepcopy(net).eval(), {}
    for name, norm in batchnorms(net):
        norm.register_forward_hook(
            lambda _m, args, _out, name=name: seen.setdefault(name, []).append(args[0])
        )
    with torch.no_grad():
        for x in batches:
            net(x)
    return {name: torch.cat(parts) for name, parts in seen.items()}


def outcome(net: nn.Module, batches, **options) -> tuple[str, str]:
    [layer] = convert_batchnorm(net, batches, **options).layers
    return layer.status, layer.reason


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


# What may be given


@dataclass
class Rows:
    x: Tensor


@pytest.mark.parametrize(
    "given",
    [
        lambda x: x.split(6),
        lambda x: [(part, torch.zeros(6)) for part in x.split(6)],
        lambda x: [[part] for part in x.split(6)],
        lambda x: [{"label": torch.zeros(6), "image": part} for part in x.split(6)],
        lambda x: [{"inputs": {"pixel_values": part}} for part in x.split(6)],
        lambda x: [Rows(part) for part in x.split(6)],
        lambda x: (part for part in x.split(6)),
        lambda x: DataLoader(TensorDataset(x, torch.zeros(24)), batch_size=6),
        lambda x: x.double().split(6),
    ],
    ids=["tensor", "tuple", "list", "dict", "nested", "record", "generator", "loader", "double"],
)
def test_the_network_s_input_is_found_in_any_usual_batch(given):
    net, x = small(), images()
    twin = copy.deepcopy(net)
    convert_batchnorm(net, [x])
    report = convert_batchnorm(twin, given(x))
    assert (report.batches, report.examples) == (4, 24)
    for a, b in zip(statistics(net), statistics(twin), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "says"),
    [({"pages": 1}, r"keys \['pages'\].*forward="), ("a.png", "got str"), ((), "got tuple")],
)
def test_a_batch_without_an_input_says_what_to_pass(batch, says):
    with pytest.raises(ValueError, match=says):
        convert_batchnorm(small(), [batch])


def test_forward_takes_strange_inputs():
    net, x = small(), images()
    twin = copy.deepcopy(net)
    convert_batchnorm(net, [x])
    pages = [{"page": {"left": a, "right": b}} for a, b in zip(x[:12], x[12:], strict=True)]

    def forward(model, batch):
        return model(torch.stack(list(batch["page"].values())))

    assert convert_batchnorm(twin, pages, forward=forward).relative < 1e-5
    for a, b in zip(statistics(net), statistics(twin), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


class Answers(nn.Module):
    """A network that answers in a form of its own."""

    def __init__(self, form) -> None:
        super().__init__()
        self.norm, self.form = nn.BatchNorm1d(3), form

    def forward(self, x):
        return self.form(self.norm(x))


@pytest.mark.parametrize(
    "form",
    [lambda y: {"out": y, "aux": [y]}, lambda y: (y, None), lambda y: [{"boxes": y[:0]}, y], Rows],
    ids=["mapping", "tuple with None", "an empty detection", "dataclass"],
)
def test_the_certificate_reads_any_usual_answer(form):
    report = convert_batchnorm(randomised(Answers(form)), [torch.randn(9, 3) * 100])
    assert 0 < report.change < 1e-3


def test_an_answer_without_a_tensor_says_what_to_pass():
    with pytest.raises(ValueError, match=r"answered with str.*forward="):
        convert_batchnorm(Answers(lambda y: "seven"), [torch.randn(9, 3)])


def test_outputs_of_another_number_are_no_error_but_no_certificate():
    report = convert_batchnorm(
        randomised(Answers(lambda y: y[y > y.mean() + 1e-12])), [torch.randn(9, 3)]
    )
    assert report.change == float("inf") or report.change < 1e-5
    lengths = iter(range(2, 9))
    net = Answers(lambda y: y[: next(lengths)])
    assert convert_batchnorm(net, [torch.randn(9, 3)]).change == float("inf")


def test_inputs_that_the_network_changes_in_place_do_not_fool_the_certificate():
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x):
            return self.norm(x.add_(5))

    report = convert_batchnorm(randomised(Centred()), [torch.randn(9, 3)])
    assert report.change < 1e-5


def test_a_buffer_that_the_loader_reuses_does_not_fool_the_certificate():
    def reused():
        buffer = torch.empty(6, 3, 8, 8)
        for part in images().split(6):
            yield buffer.copy_(part)

    assert convert_batchnorm(small(), reused()).relative < 1e-5


def test_watch_sees_every_batch_once_with_its_answer():
    net, parts, seen = small(), images().split(5), []
    with torch.no_grad():
        answers = [net(part) for part in parts]
    convert_batchnorm(net, parts, watch=lambda batch, output: seen.append((batch, output)))
    assert [batch is part for (batch, _), part in zip(seen, parts, strict=True)] == [True] * 5
    for (_, output), answer in zip(seen, answers, strict=True):
        torch.testing.assert_close(output, answer)


def test_watch_may_spoil_the_answer():
    report = convert_batchnorm(small(), [images()], watch=lambda _, output: output.zero_())
    assert report.relative < 1e-5


# What it leaves behind


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in net.modules())


@pytest.mark.parametrize("where", ["batches", "forward", "watch"])
def test_a_failure_in_the_middle_leaves_the_network_untouched(where):
    net = small().train()
    net[4].eval()
    net[1].register_forward_pre_hook(lambda *_: None)
    flags = [m.training for m in net.modules()]
    before = copy.deepcopy(net.state_dict())

    def batches():
        yield images(4)
        if where == "batches":
            raise OSError("broken image")
        yield images(4)

    def watch(batch, output):
        if where == "watch":
            raise OSError("broken image")

    def forward(model, batch):
        if where == "forward" and seen:
            raise OSError("broken image")
        seen.append(batch)
        return model(batch)

    seen = []
    with pytest.raises(OSError, match="broken image"):
        convert_batchnorm(net, batches(), forward=forward, watch=watch)
    assert [m.training for m in net.modules()] == flags
    assert hooks(net) == 1
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])


def test_flags_hooks_and_gradients_are_as_before():
    net = small().train()
    net[3:].eval()
    net[1].requires_grad_(False)
    flags = [m.training for m in net.modules()]
    learns = [p.requires_grad for p in net.parameters()]
    owned = list(net.parameters())
    convert_batchnorm(net, [images()])
    assert [m.training for m in net.modules()] == flags
    assert [p.requires_grad for p in net.parameters()] == learns
    assert all(a is b for a, b in zip(owned, net.parameters(), strict=True)), "optimisers hold them"
    assert hooks(net) == 0
    assert all(p.grad is None and p.grad_fn is None for p in net.parameters())


def test_no_activations_are_kept():
    net, alive = small(), []

    def batches():
        for part in images().split(4):
            part = part.clone()
            alive.append(weakref.ref(part))
            yield part

    convert_batchnorm(net, batches())
    gc.collect()
    assert sum(ref() is not None for ref in alive) == 0


# Layers of every kind

KINDS = {
    "BatchNorm1d rows": (lambda: nn.BatchNorm1d(3), (20, 3)),
    "BatchNorm1d series": (lambda: nn.BatchNorm1d(3), (20, 3, 4)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), (20, 3, 4, 4)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(3), (20, 3, 4, 4, 4)),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(3), (20, 3, 4, 4)),
    "BatchNormAct2d": (lambda: BatchNormAct2d(3), (20, 3, 4, 4)),
    "LazyBatchNorm1d": (nn.LazyBatchNorm1d, (20, 3)),
    "LazyBatchNorm2d": (nn.LazyBatchNorm2d, (20, 3, 4, 4)),
    "LazyBatchNorm3d": (nn.LazyBatchNorm3d, (20, 3, 4, 4, 4)),
    "momentum None": (lambda: nn.BatchNorm2d(3, momentum=None), (20, 3, 4, 4)),
    "eps 0": (lambda: nn.BatchNorm2d(3, eps=0.0), (20, 3, 4, 4)),
}


@pytest.mark.parametrize(("make", "shape"), KINDS.values(), ids=KINDS)
def test_every_kind_of_layer_is_converted(make, shape):
    norm, x = make(), torch.randn(shape) * 3 + 1
    if not isinstance(norm, nn.modules.lazy.LazyModuleMixin):
        randomised(norm)
        before = norm(x)
    else:
        before = x / (1 + norm.eps) ** 0.5
    report = convert_batchnorm(norm, x.split([15, 4, 1]))
    [layer] = report.layers
    assert (layer.status, layer.channels, layer.count) == ("converted", 3, x.numel() // 3)
    torch.testing.assert_close(norm.eval()(x), before, rtol=1e-4, atol=1e-5)
    rows = x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean.double(), rows.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var.double(), rows.var(1), rtol=1e-5, atol=1e-6)


def test_a_shared_layer_is_measured_over_all_its_uses():
    norm = nn.BatchNorm1d(3)
    net = randomised(nn.Sequential(norm, nn.Linear(3, 3), norm)).double()
    x = torch.randn(40, 3, dtype=torch.float64) + 2
    with torch.no_grad():
        before, both = net(x), torch.cat([x, net[1](norm(x))])
    report = convert_batchnorm(net, x.split(9))
    assert [(layer.name, layer.count) for layer in report.layers] == [("0", 80)]
    torch.testing.assert_close(norm.running_mean, both.mean(0))
    torch.testing.assert_close(norm.running_var, both.var(0))
    torch.testing.assert_close(net(x), before)


def test_a_layer_called_by_keyword_is_measured():
    class Named(nn.Module):
        def __init__(self, norm, name) -> None:
            super().__init__()
            self.norm, self.name = norm, name

        def forward(self, x):
            return self.norm(**{self.name: x})

    assert outcome(Named(nn.BatchNorm2d(3), "input"), [images()]) == ("converted", "")
    assert outcome(Named(BatchNormAct2d(3), "x"), [images()]) == ("converted", "")


def test_momentum_none_goes_on_averaging_from_the_converted_batches():
    norm = nn.BatchNorm1d(2, momentum=None)
    x = torch.randn(40, 2) + 3
    convert_batchnorm(norm, x.split(10))
    assert norm.num_batches_tracked == 4
    norm.train()(torch.full((10, 2), 8.0))
    torch.testing.assert_close(norm.running_mean, (4 * x.mean(0) + 8) / 5)


def test_statistics_without_tracking_are_converted_and_explained():
    norm = randomised(nn.BatchNorm1d(3))
    norm.track_running_stats = False
    x = torch.randn(30, 3) + 2
    before = norm(x)
    [layer] = convert_batchnorm(norm, [x]).layers
    torch.testing.assert_close(norm(x), before)
    torch.testing.assert_close(norm.running_mean, x.mean(0))
    assert "track_running_stats is off" in layer.notes[0]


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_function_of_the_statistics_it_stores(precision):
    norm = randomised(nn.BatchNorm2d(3)).to(precision)
    norm.running_mean.fill_(40)
    x = (torch.randn(32, 3, 6, 6) * 0.5 + 40.11).to(precision)  # a mean that cannot be stored
    before = copy.deepcopy(norm).double()(x.double())
    [layer] = convert_batchnorm(norm, x.split(8)).layers
    assert layer.status == "converted"
    rows = x.double().transpose(0, 1).flatten(1)
    resolution = torch.finfo(precision).eps
    torch.testing.assert_close(
        norm.running_mean.double(), rows.mean(1), rtol=resolution, atol=resolution
    )
    torch.testing.assert_close(norm.running_var.double(), rows.var(1), rtol=resolution, atol=0)
    after = copy.deepcopy(norm).double()(x.double())
    assert (after - before).abs().max() < 3 * resolution * before.abs().max()


def test_statistics_that_half_precision_cannot_hold_leave_the_layer_as_it_is():
    norm = randomised(nn.BatchNorm1d(3)).half()
    before = copy.deepcopy(norm.state_dict())
    status, reason = outcome(norm, [torch.randn(50, 3).half() * 3000])
    assert (status, "overflow" in reason) == ("skipped", True)
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())


def test_a_network_in_channels_last_keeps_its_function_and_layout():
    net = small().to(memory_format=torch.channels_last)
    x = images().to(memory_format=torch.channels_last)
    with torch.no_grad():
        before = net(x)
        assert convert_batchnorm(net, x.split(7)).converted == 3
        torch.testing.assert_close(net(x), before, rtol=1e-4, atol=1e-5)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)


# Layers that it leaves alone, and says so


def test_no_batch_norm_is_an_outcome_not_an_error():
    net = timm.create_model("test_convnext", num_classes=3)
    report = convert_batchnorm(net, [torch.zeros(1, 3, 32, 32)])
    assert (report.converted, report.layers) == (0, ())
    assert "no batch norm in this network" in report.notes[0]
    assert "LayerNorm" in str(report)


@pytest.mark.parametrize("affine", ["insert", "skip"])
def test_a_layer_without_affine_is_given_one_or_left(affine):
    norm, x = randomised(nn.BatchNorm1d(3, affine=False)), torch.randn(50, 3) * 2 + 1
    before = norm(x)
    [layer] = convert_batchnorm(norm, x.split(20), missing_affine=affine).layers
    torch.testing.assert_close(norm(x), before)
    inserted = affine == "insert"
    assert layer.inserted == norm.affine == (norm.weight is not None) == inserted
    assert (set(norm.state_dict()) >= {"weight", "bias"}) == inserted
    assert torch.allclose(norm.running_mean, x.mean(0), atol=1e-5) == inserted
    assert ("inserted" in layer.notes[-1]) if inserted else ("affine=False" in layer.reason)


def test_a_layer_without_statistics_is_left():
    norm = nn.BatchNorm1d(3, track_running_stats=False)
    status, reason = outcome(norm, [torch.randn(9, 3)])
    assert (status, "keeps no running statistics" in reason) == ("skipped", True)
    assert norm.running_mean is None


def test_tied_layers_are_refused_by_name_and_the_rest_converted():
    net = randomised(nn.ModuleDict({k: nn.BatchNorm1d(3) for k in "abcd"}))
    net["c"].weight = net["a"].weight
    x = torch.randn(30, 3) + 1
    before = copy.deepcopy(net.state_dict())
    forward = lambda model, x: [norm(x) for norm in model.values()]  # noqa: E731
    report = convert_batchnorm(net, [x], forward=forward)
    assert [layer.status for layer in report.layers] == [
        "skipped",
        "converted",
        "skipped",
        "converted",
    ]
    assert report.layers[0].reason == "shares tensors with c, so both cannot be exact"
    assert report.layers[2].reason == "shares tensors with a, so both cannot be exact"
    assert report.change < 1e-5
    for key, value in net["a"].state_dict().items():
        assert torch.equal(value, before[f"a.{key}"])


def test_a_weight_that_another_kind_of_layer_uses_is_refused_too():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.LayerNorm(3))
    net[1].weight = net[0].weight
    status, reason = outcome(net, [torch.randn(9, 3) + 5])
    assert (status, reason.startswith("shares tensors with 1")) == ("skipped", True)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


@pytest.mark.parametrize("how", ["parametrize", "prune"])
def test_a_parametrised_weight_is_refused(how):
    norm, x = nn.BatchNorm1d(3).eval(), torch.randn(30, 3) + 3
    if how == "parametrize":
        nn.utils.parametrize.register_parametrization(norm, "weight", Doubled())
    else:
        prune.random_unstructured(norm, "weight", amount=1)
    before = norm(x)
    status, reason = outcome(norm, [x])
    assert (status, "parametrised" in reason) == ("skipped", True)
    assert torch.equal(norm(x), before)


def test_a_parametrised_neighbour_does_not_matter():
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)), nn.BatchNorm1d(3))
    assert outcome(net, [torch.randn(9, 3)]) == ("converted", "")


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm1d(3), nn.LazyBatchNorm1d])
def test_an_unused_layer_is_reported(make):
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.auxiliary = nn.BatchNorm1d(3), make()

        def forward(self, x):
            return self.main(x)

    main, auxiliary = convert_batchnorm(Auxiliary(), [torch.randn(9, 3)]).layers
    assert (main.status, auxiliary.status, auxiliary.name) == ("converted", "skipped", "auxiliary")
    assert "no value reached it" in auxiliary.reason


def test_inputs_that_are_not_finite_leave_their_layers_and_only_those():
    net = randomised(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3)))
    x = torch.randn(30, 3)
    net[1].weight.data[0, 0] = float("inf")
    before = net(x)
    first, last = convert_batchnorm(net, x.split(10)).layers
    assert (first.status, last.status) == ("converted", "skipped")
    assert "not finite" in last.reason
    torch.testing.assert_close(net(x), before, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    ("batches", "says"),
    [([torch.randn(1, 3)], "one value"), ([torch.randn(1, 3)] * 4, "one value")],
)
def test_batches_that_have_no_variance_do_not_make_one_up(batches, says):
    pooling = "exact" if len(batches) == 1 else "batch"
    norm = nn.BatchNorm1d(3)
    status, reason = outcome(norm, batches, pooling=pooling)
    assert (status, says in reason) == ("skipped", True)
    assert norm.running_var.tolist() == [1, 1, 1]


@pytest.mark.parametrize("batches", [[], [torch.empty(0, 3)]], ids=["no batch", "no example"])
def test_no_data_is_an_error(batches):
    with pytest.raises(ValueError, match="at least one batch with an example"):
        convert_batchnorm(nn.BatchNorm1d(3), batches)


@pytest.mark.parametrize("pooling", ["exact", "batch"])
def test_empty_batches_among_others_do_nothing(pooling):
    x = torch.randn(30, 3) + 1
    norm, twin = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    convert_batchnorm(norm, x.split(10), pooling=pooling)
    report = convert_batchnorm(twin, [x[:0], x[:10], x[:0], *x[10:].split(10)], pooling=pooling)
    assert (report.examples, report.layers[0].count) == (30, 30)
    assert report.change < 1e-5
    for a, b in zip(statistics(norm), statistics(twin), strict=True):
        torch.testing.assert_close(a, b)


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


class TestInserted:
    def net(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2))

    def test_a_network_converted_in_inference_mode_trains(self):
        net = self.net()
        with torch.inference_mode():
            convert_batchnorm(net, torch.randn(64, 3).split(16))
        assert not any(t.is_inference() for t in net.state_dict().values())
        net.train()(torch.randn(8, 3)).square().sum().backward()
        assert net[1].weight.grad is not None

    def test_a_lazy_layer_that_takes_shape_in_inference_mode_trains(self):
        net = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.Linear(4, 2))
        with torch.inference_mode():
            convert_batchnorm(net, torch.randn(64, 3).split(16))
        assert not any(t.is_inference() for t in net.parameters())
        net.train()(torch.randn(8, 3)).square().sum().backward()

    def test_inputs_of_inference_mode_may_be_changed_in_place_by_the_network(self):
        net = nn.Sequential(nn.ReLU(inplace=True), nn.BatchNorm1d(3))
        with torch.inference_mode():
            report = convert_batchnorm(net, torch.randn(64, 3).split(16))
        assert report.converted == 1

    def test_a_network_made_in_inference_mode_is_converted_as_before(self):
        x = torch.randn(64, 3)
        with torch.inference_mode():
            net = self.net().eval()
            before = net(x)
            report = convert_batchnorm(net, x.split(16))
            assert report.converted == 1
            assert torch.allclose(net(x), before, atol=1e-5)

    def test_a_frozen_network_takes_no_gradients(self):
        net = self.net().requires_grad_(False)
        convert_batchnorm(net, torch.randn(64, 3).split(16))
        assert net[1].weight is not None
        assert not any(p.requires_grad for p in net.parameters())

    def test_a_frozen_block_stays_frozen_in_a_network_that_learns(self):
        net = nn.Sequential(self.net().requires_grad_(False), nn.Linear(2, 2))
        convert_batchnorm(net, torch.randn(64, 3).split(16))
        assert not net[0][1].bias.requires_grad
        assert net[1].weight.requires_grad

    def test_a_layer_without_any_parameters_around_it_learns(self):
        net = nn.Sequential(nn.BatchNorm1d(3, affine=False))
        convert_batchnorm(net, torch.randn(64, 3).split(16))
        assert net[0].weight.requires_grad


class TestTooLate:
    def test_a_scripted_traced_or_exported_network_is_said_to_be_converted_too_late(self):
        net, x = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval(), torch.randn(8, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.jit is on its way out
            traced, exported = torch.jit.trace(net, x), torch.export.export(net, (x,))
        for late in (traced, exported.module()):
            report = convert_batchnorm(late, [x])
            assert report.converted == 0
            assert "convert the network that it was made from, before that" in report.notes[0]
        with pytest.raises(ValueError, match="convert the network that it was made from"):
            convert_batchnorm(exported, [x])

    def test_a_network_traced_symbolically_keeps_its_layers(self):
        net, x = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval(), torch.randn(8, 3)
        assert convert_batchnorm(torch.fx.symbolic_trace(net), [x]).converted == 1

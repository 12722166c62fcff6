"""Every kind of batch norm is converted, or left as it is with a reason."""

import copy

import pytest
import timm
import torch
from normed import images, outcome, randomised, small, statistics
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils import parametrizations, prune

from adaptune.batchnorm.conversion import convert_batchnorm


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


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

"""Thirty traps of batch norm that users report, in the order of the table in docs/batchnorm.md."""

import copy
import io
import itertools
import warnings

import pytest
import timm
import torch
from safetensors.torch import load, save
from timm.layers import BatchNormAct2d, SyncBatchNormAct
from timm.layers import convert_sync_batchnorm as timm_sync
from timm.models.byobnet import RepVggBlock
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import FrozenBatchNorm2d
from two import on_two

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.batchnorm.layers import batchnorms, describe_batchnorm, hold_batchnorm
from adaptune.runtime import processes


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    """Images whose brightness grows with their index: sorted, as by class."""
    return torch.randn(24, 3, 8, 8) + torch.linspace(-2, 3, 24).view(-1, 1, 1, 1)


def network(**settings) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6, **settings),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3),
        nn.BatchNorm2d(5, **settings),
        nn.Flatten(),
        nn.Linear(80, 4),
    )
    return randomised(net)


def randomised(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for _, norm in batchnorms(net):
            if norm.running_mean is not None:
                norm.running_mean.normal_(0, 0.5)
                norm.running_var.uniform_(0.5, 2)
            if norm.weight is not None:
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(0, 0.3)
    return net.eval()


def statistics(net: nn.Module) -> list[Tensor]:
    norms = [norm for _, norm in batchnorms(net)]
    return [t.double().clone() for norm in norms for t in (norm.running_mean, norm.running_var)]


def far(a: nn.Module, b: nn.Module) -> float:
    """How far apart the statistics of two networks are."""
    return max(
        float((p - q).abs().max()) for p, q in zip(statistics(a), statistics(b), strict=True)
    )


@torch.no_grad()
def answers(net: nn.Module, x: Tensor) -> Tensor:
    return net.eval()(x).clone()


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-4 * a.abs().max())


def train(net: nn.Module, *batches: Tensor, rate: float = 0.01) -> None:
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=rate)
    for batch in batches:
        net.train()
        optimiser.zero_grad()
        net(batch).square().mean().backward()
        optimiser.step()


def test_frozen_statistics_stay_frozen_over_epochs_in_wrappers(x):
    """Row 1."""
    net = network()
    hold_batchnorm(net, "eval")
    before, weight = statistics(net), net[0].weight.detach().clone()
    train(nn.Sequential(net), x, x, x)
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(net), strict=True))
    assert not torch.equal(net[0].weight, weight), "the rest must learn"


def test_a_layer_without_gradients_is_told_apart_from_one_without_moving_statistics(x):
    """Row 2."""
    net = network()
    net[1].requires_grad_(False)
    hold_batchnorm(net[4], "eval")
    before = [norm.running_mean.clone() for _, norm in batchnorms(net)]
    weights = [norm.weight.detach().clone() for _, norm in batchnorms(net)]
    train(net, x)
    first, second = describe_batchnorm(net)
    assert (first.learns, first.follows) == (False, True)
    assert (second.learns, second.follows) == (True, False)
    assert [n.running_mean.equal(a) for (_, n), a in zip(batchnorms(net), before, strict=True)] == [
        not first.follows,
        not second.follows,
    ]
    assert [n.weight.equal(a) for (_, n), a in zip(batchnorms(net), weights, strict=True)] == [
        not first.learns,
        not second.learns,
    ]


def test_momentum_zero_is_explained_and_holding_is_what_freezes(x):
    """Row 3."""
    net = network(momentum=0.0)
    report = convert_batchnorm(net, [x])
    for notes in (report.layers[0].notes, describe_batchnorm(net)[0].notes):
        assert "yet train mode normalises by the batch" in notes[0]
        assert "hold it with the eval policy" in notes[0]
    assert not close(net.train()(x[:6]), answers(net, x[:6]))
    hold_batchnorm(net, "eval")
    assert torch.equal(net.train()(x[:6]), answers(net, x[:6]))


def test_statistics_that_train_mode_ignores_are_detected(x):
    """Row 4."""
    net = network()
    net[1].track_running_stats = False
    before = answers(net, x)
    report = convert_batchnorm(net, [x])
    assert "track_running_stats is off but statistics are there" in report.layers[0].notes[0]
    assert report.layers[1].notes == ()
    assert [state.follows for state in describe_batchnorm(net)] == [False, True]
    assert close(before, answers(net, x))


@pytest.mark.parametrize(
    "kind",
    [
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, BatchNormAct2d),
        *(nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d, SyncBatchNormAct),
        type("Own", (nn.BatchNorm2d,), {}),
    ],
)
def test_every_class_of_batch_norm_is_found_held_and_converted(kind):
    """Row 5."""
    lazy = issubclass(kind, nn.modules.lazy.LazyModuleMixin)
    net = nn.Sequential(kind() if lazy else kind(3))
    dimensions = 1 if "1d" in kind.__name__ else 3 if "3d" in kind.__name__ else 2
    rows = torch.randn(9, 3, *[4] * dimensions) + 2
    assert convert_batchnorm(net, [rows]).converted == 1
    assert net[0].running_mean.mean() == pytest.approx(2, abs=0.5)
    hold_batchnorm(net, "eval")
    assert not net.train()[0].training


def test_a_layer_without_weight_and_bias_is_converted_or_skipped_but_never_breaks(x):
    """Row 6."""
    for choice in ("insert", "skip"):
        net = network(affine=False)
        before = answers(net, x)
        report = convert_batchnorm(net, [x], missing_affine=choice)
        assert close(before, answers(net, x))
        assert report.converted == (2 if choice == "insert" else 0)
        assert all(layer.reason or layer.inserted for layer in report.layers)


@pytest.mark.parametrize("pooling", ["exact", "batch"])
def test_a_last_batch_of_one_example_is_no_nan(pooling):
    """Row 7."""
    rows = torch.randn(21, 3) * 2 + 1
    norm, whole = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    report = convert_batchnorm(norm, rows.split(10), pooling=pooling)
    convert_batchnorm(whole, [rows] if pooling == "exact" else rows[:20].split(10), pooling=pooling)
    assert (report.batches, report.converted) == (3, 1)
    assert far(norm, whole) < 1e-6


def test_a_sorted_loader_does_not_shrink_the_variance():
    """Row 8."""
    rows = torch.cat([torch.randn(200, 1) - 2, torch.randn(200, 1) + 2])
    variances = {}
    for pooling in ("exact", "batch"):
        norm = nn.BatchNorm1d(1)
        convert_batchnorm(norm, rows.split(200), pooling=pooling)
        variances[pooling] = float(norm.running_var)
    assert variances["exact"] == pytest.approx(float(rows.var()), rel=1e-5)
    assert variances["exact"] > 4 * variances["batch"] > 0


def test_the_first_batches_weigh_as_much_as_the_last(x):
    """Row 9."""
    net = network()
    ours, theirs = [], []
    for parts in (x.split(4), x.flip(0).split(4)):
        ours.append(copy.deepcopy(net))
        convert_batchnorm(ours[-1], parts)
        theirs.append(copy.deepcopy(net).train())
        for part in parts:
            theirs[-1](part)
    assert far(*ours) < 1e-5
    assert far(*theirs) > 0.1, "the moving average must show the bias that this avoids"


def of_uneven_shares() -> dict:
    """Convert on an uneven share of the data, under DistributedDataParallel."""
    rank, _ = processes.rank_and_world()
    x = torch.linspace(-2, 3, 24).view(-1, 1, 1, 1) + torch.randn(
        24, 3, 8, 8, generator=torch.Generator().manual_seed(1)
    )
    shares = {"even": (x[:16].split(4), x[16:].split(4)), "one empty": (x.split(6), ())}
    results = {}
    for (name, share), pooling in itertools.product(shares.items(), ("exact", "batch")):
        torch.manual_seed(0)
        net = network(momentum=None)
        wrapped = nn.parallel.DistributedDataParallel(net, broadcast_buffers=pooling == "exact")
        report = convert_batchnorm(wrapped, share[rank], pooling=pooling)
        state = copy.deepcopy(net.state_dict())
        hold_batchnorm(wrapped, "eval")
        wrapped.train()
        (wrapped(x[rank::2]).mean() + wrapped(x[1 - rank :: 2] * 2).mean()).backward()
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
        results[name, pooling] = (state, report, net[0].weight.grad)
    return results


def test_processes_with_uneven_shares_end_with_identical_statistics(tmp_path):
    """Rows 10 and 11: no rank waits for ever, and two forwards before one backward work."""
    a, b = on_two(of_uneven_shares, tmp_path)
    x = torch.linspace(-2, 3, 24).view(-1, 1, 1, 1) + torch.randn(
        24, 3, 8, 8, generator=torch.Generator().manual_seed(1)
    )
    for name, pooling in a:
        size = 4 if name == "even" else 6
        torch.manual_seed(0)
        alone = network(momentum=None)
        expected = convert_batchnorm(alone, x.split(size), pooling=pooling)
        state, report, gradient = a[name, pooling]
        twin, same, other = b[name, pooling]
        assert gradient.abs().sum() > 0
        assert torch.equal(gradient, other)
        assert report == same
        assert all(torch.equal(state[key], twin[key]) for key in state), "bit for bit"
        for key, value in alone.state_dict().items():
            torch.testing.assert_close(state[key], value, rtol=1e-5, atol=1e-6)
        assert (report.batches, report.examples) == (expected.batches, 24)
        assert [layer.count for layer in report.layers] == [n.count for n in expected.layers]
        assert 0 < report.relative < 1e-5


@pytest.mark.parametrize("when", ["before", "after"])
def test_synchronised_layers_convert_on_one_cpu_before_and_after(x, when):
    """Row 12."""
    net = network()
    plain = copy.deepcopy(net)
    before = answers(net, x)
    if when == "after":
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    convert_batchnorm(net, x.split(6))
    if when == "before":
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    convert_batchnorm(plain, x.split(6))
    assert {type(norm) for _, norm in batchnorms(net)} == {nn.SyncBatchNorm}
    assert far(net, plain) == 0
    assert close(before, answers(net, x))


def test_a_hold_belongs_after_synchronisation_which_replaces_the_layers():
    """Row 12: a replaced layer is not held, and the description says so."""
    net = network()
    hold_batchnorm(net, "eval")
    net = nn.SyncBatchNorm.convert_sync_batchnorm(net).train()
    assert [state.held for state in describe_batchnorm(net)] == [False, False]
    hold_batchnorm(net, "eval")
    assert [norm.training for _, norm in batchnorms(net.train())] == [False, False]


def test_timm_networks_keep_their_activations_when_synchronised_by_timm():
    """Row 13: torch's own conversion of `BatchNormAct2d` drops the activation in it."""
    net = randomised(timm.create_model("test_efficientnet", num_classes=4))
    images = torch.randn(6, 3, 32, 32)
    before = answers(net, images)
    by_torch = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(net))
    assert not close(before, answers(by_torch, images))
    by_timm = timm_sync(copy.deepcopy(net))
    assert any(isinstance(norm, SyncBatchNormAct) for _, norm in batchnorms(by_timm))
    assert close(before, answers(by_timm, images))
    report = convert_batchnorm(by_timm, images.split(3))
    assert report.converted == len(list(batchnorms(net)))
    assert close(before, answers(by_timm, images))
    assert far(net, by_timm) > 0.1


def test_data_parallel_is_warned_about(x):
    """Row 14."""
    wrapped = nn.DataParallel(network())
    report = convert_batchnorm(wrapped, [x])
    assert report.converted == 2
    assert "DataParallel keeps the statistics of the first device" in report.notes[0]
    assert "DistributedDataParallel" in str(report)
    assert all("DataParallel" in state.notes[-1] for state in describe_batchnorm(wrapped))
    assert convert_batchnorm(wrapped.module, [x]).notes == ()


def test_small_batches_measure_what_large_ones_measure(x):
    """Row 15: accumulation splits batches; conversion does not care."""
    net = network()
    twin = copy.deepcopy(net)
    convert_batchnorm(net, x.split(1))
    convert_batchnorm(twin, [x])
    assert far(net, twin) < 1e-5


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_counts_each_batch_once(x, reentrant):
    """Row 16: and a held layer counts none at all, recomputed or not."""

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network()

        def forward(self, x):
            return checkpoint(self.body, x, use_reentrant=reentrant)

    net = Checkpointed().train()
    plain = copy.deepcopy(net.body)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="None of the inputs have requires_grad")
        report = convert_batchnorm(net, x.split(8))
    convert_batchnorm(plain, x.split(8))
    assert [layer.count for layer in report.layers] == [24 * 36, 24 * 16]
    assert far(net, plain) == 0
    hold_batchnorm(net, "eval")
    net.train()(x.requires_grad_()).mean().backward()
    assert net.body[0].weight.grad.abs().sum() > 0
    assert far(net, plain) == 0


def test_a_resumed_run_goes_on_with_the_same_statistics_and_counter(x):
    """Row 17."""
    net = network(momentum=None)
    convert_batchnorm(net, x.split(8))
    train(net, x[:12])
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    resumed = network(momentum=None)
    resumed.load_state_dict(torch.load(file))
    for one in (net, resumed):
        train(one, x[12:])
    assert net[1].num_batches_tracked == 5
    for key, value in net.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key])


def test_a_moving_average_of_the_weights_copies_or_averages_converted_statistics(x):
    """Row 17: an average made before conversion belongs to another parameterisation."""
    net = network()
    before = answers(net, x)
    convert_batchnorm(net, [x])
    for use_buffers in (True, False):
        ema = AveragedModel(net, use_buffers=use_buffers)
        ema.update_parameters(net)
        assert close(before, answers(ema, x))
        assert far(ema, net) == 0


def test_averaged_weights_need_new_statistics_which_conversion_does_not_invent(x):
    """Row 18: it keeps the function, right or wrong; re-estimate first, convert afterwards."""
    start = network()
    convert_batchnorm(start, [x])
    ends = []
    for sign in (1, -1):
        end = copy.deepcopy(start)
        train(end, *[sign * x] * 5, rate=0.2)
        ends.append(end)
    soup = AveragedModel(start, use_buffers=True)
    for end in ends:
        soup.update_parameters(end)

    def wrong() -> float:
        """How far eval mode is from what the data says it should be."""
        with torch.no_grad():
            return float((copy.deepcopy(soup).train()(x) - soup.eval()(x)).abs().max())

    stale, before = wrong(), answers(soup, x)
    kept = copy.deepcopy(soup)
    convert_batchnorm(kept, [x])
    assert close(before, answers(kept, x)), "conversion alone repairs nothing"
    update_bn([x], soup)
    assert wrong() < 0.3 * stale
    repaired = answers(soup, x)
    report = convert_batchnorm(soup, [x])
    assert close(repaired, answers(soup, x))
    assert max(layer.shift for layer in report.layers) < 0.05, "now it has little left to do"


def test_autocast_measures_in_float32_and_stores_float32(x):
    """Row 19."""
    net = network()
    plain = copy.deepcopy(net)
    with torch.autocast("cpu", torch.bfloat16):
        report = convert_batchnorm(net, x.split(8))
    convert_batchnorm(plain, x.split(8))
    assert all(norm.running_mean.dtype == torch.float32 for _, norm in batchnorms(net))
    assert 0 < far(net, plain) < 0.05
    assert report.relative < 0.03


def test_half_precision_that_would_overflow_leaves_its_layer_and_says_so():
    """Row 19."""
    norm = nn.BatchNorm1d(3).half()
    [layer] = convert_batchnorm(norm, [torch.randn(64, 3).half() * 5000]).layers
    assert "overflow its precision" in layer.reason
    assert norm.running_var.tolist() == [1, 1, 1]


def test_both_memory_layouts_give_the_same_network(x):
    """Row 20."""
    net = network()
    twin = copy.deepcopy(net).to(memory_format=torch.channels_last)
    before = answers(net, x)
    convert_batchnorm(net, x.split(8))
    convert_batchnorm(twin, x.to(memory_format=torch.channels_last).split(8))
    assert far(net, twin) < 1e-5
    assert close(before, answers(twin, x.to(memory_format=torch.channels_last)))


@pytest.mark.parametrize("how", ["torch.compile", "Module.compile"])
@pytest.mark.parametrize("settings", [{}, {"momentum": None}, {"affine": False}], ids=str)
def test_a_compiled_network_is_measured_and_sees_its_new_values(x, how, settings):
    """Row 21: compiled code would call no hook that was added after it."""
    torch.compiler.reset()
    whole = "momentum" not in settings  # torch cannot trace the train mode of momentum=None whole
    net = network(**settings)
    plain, compiled = copy.deepcopy(net), net
    if how == "torch.compile":
        compiled = torch.compile(net, backend="eager", fullgraph=whole)
    else:
        net.compile(backend="eager", fullgraph=whole)
    before = answers(compiled, x)
    for one in (compiled, plain):
        assert convert_batchnorm(one, x.split(8)).converted == 2
    assert far(net, plain) == 0
    assert close(before, answers(compiled, x))
    assert torch.allclose(compiled.train()(x), plain.train()(x), atol=1e-5)
    assert far(net, plain) < 1e-5
    hold_batchnorm(compiled, "eval")
    stay = statistics(net)
    held = compiled.train()(x)
    assert all(torch.equal(a, b) for a, b in zip(stay, statistics(net), strict=True))
    assert torch.allclose(held, answers(compiled, x), atol=1e-5)


def test_fused_networks_are_refused_or_explained(x):
    """Row 22: convert first, train, then fold."""
    net = network()
    convert_batchnorm(net, [x])
    folded = nn.Sequential(fuse_conv_bn_eval(net[0], net[1]), net[2])
    assert close(answers(net[:3], x), answers(folded, x))
    report = convert_batchnorm(folded, [x])
    assert (report.converted, report.layers) == (0, ())
    assert "folded into other layers" in report.notes[0]


def test_a_network_prepared_for_quantisation_says_to_convert_first(x):
    """Row 22."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.nn.intrinsic.qat import ConvBn2d
        from torch.ao.quantization import get_default_qat_qconfig

        prepared = nn.Sequential(ConvBn2d(3, 4, 3, qconfig=get_default_qat_qconfig("x86")))
    before = copy.deepcopy(prepared.state_dict())
    with pytest.raises(ValueError, match=r"0 \(ConvBn2d\) is fused .* convert first"):
        convert_batchnorm(prepared, [x])
    assert all(torch.equal(v, before[k]) for k, v in prepared.state_dict().items())


def test_a_reparameterised_network_has_nothing_to_convert():
    """Row 22."""
    net = randomised(nn.Sequential(RepVggBlock(4, 4), RepVggBlock(4, 6)))
    images = torch.randn(9, 4, 8, 8) + 1
    assert convert_batchnorm(net, [images]).converted == 5
    folded = reparameterize_model(net)
    assert close(answers(net, images), answers(folded, images))
    assert convert_batchnorm(folded, [images]).converted == 0


@pytest.mark.parametrize("settings", [{}, {"affine": False}], ids=str)
@pytest.mark.parametrize("held", [False, True])
def test_an_exported_network_answers_as_the_converted_one(x, settings, held):
    """Row 23: also one whose weight and bias were inserted, and one that is held."""
    net = network(**settings)
    before = answers(net, x)
    convert_batchnorm(net, [x])
    if held:
        hold_batchnorm(net, "eval")
    exported = torch.export.export(net, (x,)).module()
    assert close(before, exported(x))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deprecated")
        traced = torch.jit.trace(net, (x,))
    assert close(before, traced(x))


def test_every_layer_is_converted_with_its_own_epsilon():
    """Row 24: a channel of tiny variance shows which epsilon was used."""
    net = nn.Sequential(nn.BatchNorm1d(2, eps=0.5), nn.BatchNorm1d(2, eps=1e-7)).double().eval()
    rows = torch.randn(40, 2, dtype=torch.float64) * 0.1
    before = answers(net, rows)
    convert_batchnorm(net, [rows])
    torch.testing.assert_close(answers(net, rows), before)
    torch.testing.assert_close(
        net[0].weight.data, ((rows.var(0) + 0.5) / 1.5).sqrt(), rtol=1e-9, atol=0
    )


def test_frozen_batch_norms_stay_and_are_named(x):
    """Row 24."""
    mixed = nn.Sequential(FrozenBatchNorm2d(3), nn.BatchNorm2d(3))
    report = convert_batchnorm(mixed, [x])
    assert (report.converted, mixed[0].running_mean.tolist()) == (1, [0, 0, 0])
    assert report.notes == ("FrozenBatchNorm2d stay as they are: train mode is eval mode to them",)
    assert "FrozenBatchNorm2d" in convert_batchnorm(mixed[:1], [x]).notes[0]


@pytest.mark.parametrize("settings", [{}, {"affine": False}], ids=str)
def test_what_is_saved_after_conversion_holds_all_of_it(x, settings):
    """Row 25: statistics are buffers, so parameters alone are half of a converted network."""
    net = network(**settings)
    convert_batchnorm(net, [x], missing_affine="skip" if settings else "insert")
    train(net, x)
    loaded = network(**settings)
    loaded.load_state_dict(load(save(net.state_dict())), strict=True)
    assert torch.equal(answers(net, x), answers(loaded, x))
    half = network(**settings)
    half.load_state_dict(dict(net.named_parameters()), strict=False)
    assert not close(answers(net, x), answers(half, x))


def test_inserted_weights_are_keys_that_the_old_network_does_not_have(x):
    """Row 25: the report says where."""
    net = network(affine=False)
    report = convert_batchnorm(net, [x])
    assert [layer.notes[-1] for layer in report.layers] == ["weight or bias inserted"] * 2
    with pytest.raises(RuntimeError, match=r"Unexpected key.*1\.weight"):
        network(affine=False).load_state_dict(net.state_dict())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: timm.create_model("test_vit", num_classes=2), "LayerNorm"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), "GroupNorm"),
        (lambda: timm.create_model("nf_regnet_b0", num_classes=2), "called as functions"),
    ],
    ids=["LayerNorm", "GroupNorm", "norm-free"],
)
def test_a_network_without_batch_norm_says_so_and_stays(make, says):
    """Row 26."""
    net = make()
    before = copy.deepcopy(net.state_dict())
    report = convert_batchnorm(net, [torch.zeros(1, 3, 32, 32)])
    assert report.converted == 0
    assert str(report).startswith("0 of 0 batch norms converted")
    assert "nothing to convert" in report.notes[0]
    assert says in report.notes[0]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_two_domains_in_one_pass_are_pooled_and_one_alone_is_not(x):
    """Row 27: conversion measures what it is given, however the two are mixed into batches."""
    source, target = x[:8], x[8:] * 2 + 5
    net = network()
    one_by_one, mixed, alone = (copy.deepcopy(net) for _ in range(3))
    convert_batchnorm(one_by_one, itertools.chain(source.split(4), target.split(4)))
    convert_batchnorm(mixed, torch.cat([source, target])[torch.randperm(24)].split(6))
    convert_batchnorm(alone, target.split(4))
    assert far(one_by_one, mixed) < 1e-4
    assert far(one_by_one, alone) > 0.5


def test_a_network_that_cannot_be_copied_is_converted(x):
    """Row 28."""

    class Single(nn.Sequential):
        def __deepcopy__(self, memo):
            raise RuntimeError("only one of me")

    net = Single(*network())
    before = answers(net, x)
    assert convert_batchnorm(net, x.split(8)).converted == 2
    assert close(before, answers(net, x))


@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_channels_that_never_vary_are_listed_and_divide_nothing_by_zero(eps):
    """Row 29."""
    norm = randomised(nn.BatchNorm1d(4, eps=eps))
    rows = torch.randn(50, 4)
    rows[:, 2] = 3.0
    other = torch.randn(50, 4)
    before = [answers(norm, rows), answers(norm, other)]
    [layer] = convert_batchnorm(norm, [rows]).layers
    assert layer.dead == ((2,) if eps else ())
    assert close(before[0], answers(norm, rows))
    assert close(before[1], answers(norm, other))


def test_an_anchor_is_taken_after_conversion_because_the_weights_move(x):
    """Row 30: the same function stands in other weights, so an old anchor would undo it."""
    net = network()
    before = answers(net, x)
    old = {key: value.detach().clone() for key, value in net.named_parameters()}
    convert_batchnorm(net, [x])
    moved = {key for key, value in net.named_parameters() if not torch.equal(value, old[key])}
    assert moved == {"1.weight", "1.bias", "4.weight", "4.bias"}
    pulled = copy.deepcopy(net)
    pulled.load_state_dict(old, strict=False)
    assert close(before, answers(net, x))
    assert not close(before, answers(pulled, x))

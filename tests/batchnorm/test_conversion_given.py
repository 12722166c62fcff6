"""What conversion takes, any usual batch, answer and network, and what it leaves behind."""

import copy
import gc
import warnings
import weakref
from dataclasses import dataclass

import pytest
import torch
from normed import images, randomised, small, statistics
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from adaptune.batchnorm.conversion import convert_batchnorm


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


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

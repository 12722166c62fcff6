"""Two domains through batch norms: who is normalised by what, and which statistics follow whom."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
from torch import nn

from adaptune.batchnorm.override import BatchNormOverride
from adaptune.batchnorm.passes import DomainPasses
from adaptune.batchnorm.synchronized import batch_norm

WAYS = ["joint", "separate", "apart"]
TWO = ["separate", "apart"]


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Give 6 rows of a source and 9 of a target, far apart."""
    random = torch.Generator().manual_seed(0)
    source = torch.randn(6, 3, 4, dtype=torch.float64, generator=random)
    target = 2 * torch.randn(9, 3, 4, dtype=torch.float64, generator=random) + 5
    return source, target


def norm(momentum: float | None = 0.1) -> nn.BatchNorm1d:
    """Give a layer that has seen other data, with weights and biases of its own."""
    torch.manual_seed(1)
    made = nn.BatchNorm1d(3, momentum=momentum).double()
    with torch.no_grad():
        made.weight.uniform_(0.5, 2)
        made.bias.uniform_(-1, 1)
        made.running_mean.uniform_(-1, 1)
        made.running_var.uniform_(0.5, 2)
    return made


def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give mean and unbiased variance of each channel."""
    values = x.transpose(0, 1).flatten(1)
    return values.mean(1), values.var(1)


def normalised(layer: nn.BatchNorm1d, x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    values = by.transpose(0, 1).flatten(1)
    mean, variance = values.mean(1)[:, None], values.var(1, correction=0)[:, None]
    unit = (x - mean) / (variance + layer.eps).sqrt()
    return unit * layer.weight[:, None] + layer.bias[:, None]


def followed(start: tuple[torch.Tensor, ...], *seen: torch.Tensor) -> list[torch.Tensor]:
    """Give running mean and variance that began at ``start``, after some batches."""
    now = list(start)
    for x in seen:
        now = [0.9 * old + 0.1 * new for old, new in zip(now, moments(x), strict=True)]
    return now


def close(layer: nn.BatchNorm1d, wanted: list[torch.Tensor], count: int) -> None:
    torch.testing.assert_close(layer.running_mean, wanted[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.running_var, wanted[1], rtol=1e-12, atol=1e-12)
    assert int(layer.num_batches_tracked) == count


@pytest.mark.parametrize("way", WAYS)
def test_rows_are_normalised_by_both_domains_or_by_their_own_in_float64(way):
    (source, target), layer = rows(), norm()
    both = torch.cat([source, target])
    ours, theirs = DomainPasses(layer, way)(layer, source, target)
    by = (both, both) if way == "joint" else (source, target)
    for found, x, pool in zip((ours, theirs), (source, target), by, strict=True):
        torch.testing.assert_close(found, normalised(layer, x, pool), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_running_statistics_follow_both_both_in_turn_or_the_target_alone(way):
    (source, target), layer = rows(), norm()
    start = layer.running_mean.clone(), layer.running_var.clone()
    passes = DomainPasses(layer, way)
    passes(layer, source, target)
    seen = {"joint": [torch.cat([source, target])], "separate": [source, target]}
    close(layer, followed(start, *seen.get(way, [target])), len(seen.get(way, [target])))
    if way == "apart":
        [kept] = passes.kept
        close(kept, followed(start, source), 1)
    else:
        assert not passes.state_dict()


def test_cumulative_averages_count_the_batches_of_their_own_domain():
    layer = norm(momentum=None)
    passes = DomainPasses(layer, "apart")
    batches = [[side + step**2 for side in rows()] for step in range(3)]
    for source, target in batches:
        passes(layer, source, target)
    for domain, found in enumerate((passes.kept[0], layer)):
        means = torch.stack([moments(one[domain])[0] for one in batches])
        torch.testing.assert_close(found.running_mean, means.mean(0))
        assert int(found.num_batches_tracked) == 3


@pytest.mark.parametrize("way", WAYS)
def test_where_batch_norms_are_held_all_ways_are_one_and_nothing_follows(way):
    (source, target), layer = rows(), norm().eval()
    passes = DomainPasses(layer, way)
    before = deepcopy(layer.state_dict()), deepcopy(passes.state_dict())
    ours, theirs = passes(layer, source, target)
    torch.testing.assert_close(ours, layer(source), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(theirs, layer(target), rtol=1e-14, atol=1e-14)
    for now, then in zip((layer.state_dict(), passes.state_dict()), before, strict=True):
        assert all(torch.equal(now[key], then[key]) for key in then)


def test_statistics_apart_normalise_each_domain_in_eval_mode_by_its_own():
    (source, target), layer = rows(), norm(momentum=1.0)
    passes = DomainPasses(layer, "apart")
    passes(layer, source, target)
    ours, theirs = passes(layer.eval(), source, target)
    for found in (ours, theirs):
        torch.testing.assert_close(found.mean((0, 2)), layer.bias.detach())
    assert not torch.allclose(layer(source).mean((0, 2)), layer.bias)


@pytest.mark.parametrize("way", WAYS)
def test_one_domain_alone_is_a_pass_of_its_own_unless_passes_are_joint(way):
    source, target = rows()
    whole, alone, other = norm(), norm(), norm()
    ours, theirs = DomainPasses(whole, way)(whole, source, target)
    assert torch.equal(DomainPasses(alone, way).source(alone, source, target), ours)
    assert torch.equal(DomainPasses(other, way).target(other, target, source), theirs)
    followed_by_source = {"joint": 1, "separate": 1, "apart": 0}[way]
    assert int(alone.num_batches_tracked) == followed_by_source
    assert int(other.num_batches_tracked) == 1


def test_gradients_of_separate_passes_do_not_depend_on_whose_statistics_follow():
    source, target = rows()
    found = []
    for way in TWO:
        layer = norm()
        ours, theirs = DomainPasses(layer, way)(layer, source, target)
        (ours.square().mean() + theirs.abs().mean()).backward()
        found.append((layer.weight.grad, layer.bias.grad))
    assert all(map(torch.equal, *found))
    layer = norm()
    with_both = normalised(layer, source, source).square().mean()
    with_both = with_both + normalised(layer, target, target).abs().mean()
    wanted = torch.autograd.grad(with_both, [layer.weight, layer.bias])
    for gradient, own in zip(found[0], wanted, strict=True):
        torch.testing.assert_close(gradient, own, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_what_surrounds_a_pass_is_told_how_many_of_its_rows_are_the_sources(way):
    (source, target), layer, told = rows(), norm(), []

    @contextmanager
    def around(count: int):
        told.append(count)
        yield

    DomainPasses(layer, way)(layer, source, target, around=around)
    assert told == ([6] if way == "joint" else [6, 0])


def test_a_pass_that_fails_leaves_the_body_its_own_statistics():
    layer = norm()
    own = dict(layer._buffers)
    with pytest.raises(ValueError, match="expected 2D or 3D"):
        DomainPasses(layer, "apart")(layer, torch.zeros(6), torch.zeros(6))
    assert all(layer._buffers[name] is value for name, value in own.items())


def test_statistics_apart_begin_as_the_bodys_are_at_the_start():
    layer = norm()
    passes = DomainPasses(layer, "apart")
    layer.running_mean.fill_(7.0)
    assert not torch.equal(passes.kept[0].running_mean, layer.running_mean)
    passes.start(layer)
    assert torch.equal(passes.kept[0].running_mean, layer.running_mean)
    assert passes.kept[0].running_mean.dtype == torch.float64


@pytest.mark.parametrize("way", TWO)
def test_bodies_whose_norms_keep_no_statistics_pass_too(way):
    source, target = rows()
    for body in (nn.Identity(), nn.BatchNorm1d(3, track_running_stats=False).double()):
        ours, theirs = DomainPasses(body, way)(body, source, target)
        assert torch.equal(ours, body(source))
        assert torch.equal(theirs, body(target))


def test_the_rows_of_all_processes_count_for_the_domain_that_they_are_of():
    source, target = rows()
    plain, synchronised = norm(), norm()
    kept = []
    for layer, function in ((plain, torch.nn.functional.batch_norm), (synchronised, batch_norm)):
        passes = DomainPasses(layer, "apart")
        with BatchNormOverride(function):
            passes(layer, source, target)
        kept.append(passes.kept[0])
    torch.testing.assert_close(synchronised.running_var, plain.running_var)
    torch.testing.assert_close(kept[1].running_var, kept[0].running_var)
    assert not torch.allclose(plain.running_var, kept[0].running_var)


def test_ways_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="joint, separate, apart; got together"):
        DomainPasses(norm(), "together")

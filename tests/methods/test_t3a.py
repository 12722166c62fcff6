"""T3A: the surest features of each class so far answer; no weight moves."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from streams import TASK, accuracy, answers, rows_of
from toy import images, tinted, trained

from adaptune.methods.test_time.t3a import T3A


@pytest.fixture
def net():
    return trained(lr=0.1, epochs=8)


def target(count: int = 240) -> tuple[torch.Tensor, torch.Tensor]:
    """Give tinted, noisy images in random order."""
    x, y = images(count, seed=31).tensors
    random = torch.Generator().manual_seed(1)
    x = tinted(x, 0.5) + 4 * torch.randn(x.shape, generator=random)
    order = torch.randperm(count, generator=random)
    return x[order], y[order]


def unit(row: torch.Tensor) -> torch.Tensor:
    return row / row.square().sum().sqrt()


def doubt(logits: torch.Tensor) -> float:
    p = logits.softmax(0)
    return float(-(p * p.log()).sum())


@pytest.mark.parametrize("supports", [1, 3, 50])
def test_answers_are_the_formula_in_float64(net, supports):
    net = net.double()
    method = T3A(deepcopy(net), TASK, supports=supports)
    x, _ = target(40)
    x = x.double()
    net.eval()
    weight, bias = net.head.weight.detach(), net.head.bias.detach()
    kept = [[(doubt(weight @ row + bias), unit(row))] for row in weight]
    wanted = []
    for part in x.split(16):
        with torch.no_grad():
            features = net.body(part)
        for z in features:
            logits = weight @ z + bias
            kept[int(logits.argmax())].append((doubt(logits), unit(z)))
        kept = [sorted(own, key=lambda one: one[0])[:supports] for own in kept]
        means = torch.stack([torch.stack([z for _, z in own]).mean(0) for own in kept])
        wanted += [means @ z for z in features]
    found = answers(method, rows_of(x, 16))
    torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-8, atol=1e-10)


def test_weights_and_running_statistics_stay_and_memory_does_not_grow(net):
    method = T3A(net, TASK, supports=4)
    before = deepcopy(method.state_dict())
    answers(method, rows_of(target()[0], 16))
    after = method.state_dict()
    assert {key for key in after if not after[key].equal(before[key])} == {"rows", "doubts"}
    assert all(after[key].shape == before[key].shape for key in after)


def test_at_alpha_1_batch_norms_are_those_of_eval_mode_and_below_they_mix(net):
    x, _ = target(24)
    own = net.eval().body(x).detach()
    assert torch.equal(T3A(deepcopy(net), TASK).features(x), own)
    assert not torch.allclose(T3A(deepcopy(net), TASK, alpha=0.5).features(x), own, atol=1e-3)


def test_it_is_right_more_often_than_a_head_that_stays(net):
    x, y = target()
    with torch.no_grad():
        alone = accuracy(net.eval()(x), y)
    assert accuracy(answers(T3A(deepcopy(net), TASK), rows_of(x, 8)), y) > alone + 3


def test_what_cannot_be_is_refused(net):
    with pytest.raises(ValueError, match="at least one support"):
        T3A(net, TASK, supports=0)
    with pytest.raises(ValueError, match="from 0 to 1"):
        T3A(net, TASK, alpha=2.0)

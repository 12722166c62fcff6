"""LAME: predictions of a batch are corrected together; nothing is kept."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from streams import TASK, accuracy, answers, rows_of
from toy import images, trained

from adaptune.methods.test_time.lame import LAME, assigned, nearest


@pytest.fixture
def net():
    return trained(lr=0.1, epochs=8)


def by_class(count: int = 240) -> tuple[torch.Tensor, torch.Tensor]:
    """Give a stream of noisy images in which one class comes after another."""
    x, y = images(count, seed=31).tensors
    x = x + 3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    order = y.argsort(stable=True)
    return x[order], y[order]


def test_assignments_are_the_paper_s_iteration_in_float64():
    torch.manual_seed(0)
    features, logs = torch.randn(9, 5).double(), torch.randn(9, 4).double().log_softmax(1)
    alike = nearest(features, 3)
    for i, row in enumerate(alike):
        cosines = [float(torch.cosine_similarity(features[i], one, dim=0)) for one in features]
        best = sorted((j for j in range(9) if j != i), key=lambda j: -cosines[j])[:3]
        assert row.nonzero().flatten().tolist() == sorted(best)
    z = logs.exp()
    for _ in range(7):
        new = torch.empty_like(z)
        for i in range(9):
            pull = sum(alike[i, j] * z[j] for j in range(9))
            new[i] = logs[i].exp() * pull.exp()
            new[i] /= new[i].sum()
        z = new
    torch.testing.assert_close(assigned(logs, alike, rounds=7).exp(), z)


def test_each_turn_lowers_what_is_minimised_where_likeness_is_mutual():
    torch.manual_seed(1)
    logs = torch.randn(12, 3).double().log_softmax(1)
    alike = nearest(torch.randn(12, 4).double(), 3)
    alike = (alike + alike.T) / 2 + 2 * torch.eye(12)

    def value(found: torch.Tensor) -> float:
        z = found.exp()
        return float((z * (found - logs)).sum() - (z * (alike @ z)).sum() / 2)

    values = [value(assigned(logs, alike, rounds=turns)) for turns in range(1, 12)]
    assert all(after <= before + 1e-9 for before, after in zip(values, values[1:], strict=False))


def test_without_neighbours_and_of_one_image_it_says_what_the_network_says(net):
    x, _ = by_class(24)
    own = deepcopy(net).eval()(x).log_softmax(1).detach()
    torch.testing.assert_close(answers(LAME(deepcopy(net), TASK, neighbours=0), rows_of(x, 8)), own)
    torch.testing.assert_close(answers(LAME(deepcopy(net), TASK), rows_of(x, 1)), own)


def test_certain_predictions_stay_finite(net):
    with torch.no_grad():
        net.head.weight.mul_(1e5)
    assert answers(LAME(net, TASK), rows_of(by_class(24)[0], 8)).isnan().sum() == 0


def test_nothing_moves_and_batch_norms_keep_to_their_running_statistics(net):
    x, _ = by_class(24)
    method = LAME(deepcopy(net), TASK, rounds=0)
    before = deepcopy(method.state_dict())
    found = answers(method, rows_of(x, 8))
    assert all(value.equal(before[key]) for key, value in method.state_dict().items())
    torch.testing.assert_close(found, net.eval()(x).log_softmax(1).detach())
    mixed = answers(LAME(deepcopy(net), TASK, rounds=0, alpha=0.5), rows_of(x, 8))
    assert not torch.allclose(mixed, found, atol=1e-2)


def test_it_is_right_more_often_where_images_of_one_class_come_together(net):
    x, y = by_class()
    with torch.no_grad():
        alone = accuracy(net.eval()(x), y)
    assert accuracy(answers(LAME(deepcopy(net), TASK), rows_of(x, 20)), y) > alone + 5


def test_what_cannot_be_is_refused(net):
    with pytest.raises(ValueError, match="from 0 up"):
        LAME(net, TASK, neighbours=-1)

"""Hidden words, their losses, a step with a gradient, and weights of likely rows."""

from __future__ import annotations

import pytest
import torch

from adaptune.ops.inner_step import stepped
from adaptune.ops.likelihoods import shares
from adaptune.ops.masking import hide_words, masked_losses


def test_of_a_share_of_free_words_four_in_five_are_masked_and_others_are_any_word_or_stay():
    torch.manual_seed(0)
    ids = torch.randint(0, 50, (400, 30))
    free = torch.arange(50) > 4
    read, chosen = hide_words(ids, torch.rand(400, 60), free, mask=4, share=0.2)
    assert torch.equal(read[~chosen], ids[~chosen])
    assert not chosen[ids <= 4].any()
    assert chosen[ids > 4].double().mean().item() == pytest.approx(0.2, abs=0.02)
    hidden, was = read[chosen], ids[chosen]
    assert (hidden == 4).double().mean().item() == pytest.approx(0.8 + 0.1 / 49, abs=0.02)
    assert (hidden == was).double().mean().item() == pytest.approx(0.1 + 0.1 / 49, abs=0.02)
    others = hidden[(hidden != 4) & (hidden != was)]
    assert (others.min().item(), others.max().item()) == (1, 49)


def test_losses_of_hidden_words_are_added_up_text_by_text():
    torch.manual_seed(0)
    logits, words = torch.randn(3, 5).double(), torch.tensor([1, 4, 0])
    chosen = torch.tensor([[True, False], [False, False], [True, True]])
    each = [-row.log_softmax(0)[word] for row, word in zip(logits, words, strict=True)]
    wanted = torch.stack([each[0], torch.zeros_like(each[0]), each[1] + each[2]])
    torch.testing.assert_close(masked_losses(logits, words, chosen), wanted)


def test_a_step_is_one_of_gradient_descent_and_has_its_second_derivative():
    a, b = (torch.tensor(one, dtype=torch.float64, requires_grad=True) for one in (2.0, 5.0))
    moved = stepped(a**3, {"a": a, "b": b}, 0.1)
    assert moved["a"].item() == pytest.approx(2 - 0.1 * 12)
    assert moved["b"] is b
    (slope,) = torch.autograd.grad(moved["a"], a)
    assert slope.item() == pytest.approx(1 - 0.1 * 12)


def test_weights_have_a_mean_of_one_and_the_ratios_of_likelihoods():
    found = shares(torch.tensor([0.0, 1.0, -1000.0, 7.0]), torch.tensor([1, 1, 1, 0]).bool())
    assert found.sum().item() == pytest.approx(3.0)
    assert (found[1] / found[0]).item() == pytest.approx(2.718282, rel=1e-5)
    assert found[2:].tolist() == [0.0, 0.0]

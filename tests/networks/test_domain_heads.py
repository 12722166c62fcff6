"""Heads of domains are mixed by how sure each is, and asked for labels of which all are sure."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adaptune.networks.layers.domain_heads import (
    DomainHeads,
    domain_heads,
    mixture_logits,
    over_domains,
    pseudo_label_loss,
    shares,
)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


LOGITS = 2 * random(11, 4, 5)


def entropies() -> torch.Tensor:
    p = LOGITS.exp() / LOGITS.exp().sum(2, keepdim=True)
    return -(p * p.log()).sum(2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 5.0])
def test_shares_are_powers_of_entropies_that_add_up_to_one(gamma):
    wanted = 1 / entropies() ** gamma
    torch.testing.assert_close(shares(LOGITS, gamma), wanted / wanted.sum(1, keepdim=True))


def test_without_gamma_all_heads_count_the_same():
    torch.testing.assert_close(shares(LOGITS, 0.0), torch.full((11, 4), 0.25).double())
    torch.testing.assert_close(mixture_logits(LOGITS, 0.0).exp(), LOGITS.softmax(2).mean(1))


@pytest.mark.parametrize("gamma", [1e6, torch.inf, torch.tensor(torch.inf)])
def test_the_larger_gamma_the_more_the_surest_head_decides_alone(gamma):
    surest = LOGITS[torch.arange(11), entropies().argmin(1)]
    torch.testing.assert_close(mixture_logits(LOGITS, gamma), surest.log_softmax(1))


@pytest.mark.parametrize("gamma", [0.0, 1.0, torch.inf])
def test_mixtures_are_probabilities_also_of_heads_without_doubt(gamma):
    logits = torch.tensor([[[1e4, 0.0, 0.0], [0.0, 1e4, 0.0], [0.0, 0.0, 0.0]]])
    mixture = mixture_logits(logits, gamma).exp()
    torch.testing.assert_close(mixture.sum(1), torch.ones(1))
    assert mixture[0, 0] == mixture[0, 1]


def test_each_head_reads_for_itself_and_the_shared_one_is_the_head_that_was_there():
    old = nn.Linear(6, 3).double()
    heads, features = DomainHeads(old, domains=2), random(5, 6)
    assert torch.equal(heads.shared(features), old(features))
    for one in (0, 1):
        assert torch.equal(heads.each(features)[:, one], heads.own[one](features))
    torch.testing.assert_close(heads(features), mixture_logits(heads.each(features), 1.0))


def test_the_loss_of_pseudo_labels_is_the_formula():
    mixture = mixture_logits(LOGITS, 1.0)
    beta = float(mixture.exp().amax(1).median())
    total = 0.0
    sure = [i for i in range(11) if mixture[i].exp().max() >= beta]
    for head in range(4):
        rows = [LOGITS[i, head] for i in sure]
        labels = [int(mixture[i].argmax()) for i in sure]
        losses = [row.exp().sum().log() - row[k] for row, k in zip(rows, labels, strict=True)]
        total += float(sum(losses)) / len(sure)
    assert 1 < len(sure) < 11
    assert float(pseudo_label_loss(LOGITS, mixture, beta)) == pytest.approx(total, rel=1e-12)


def test_a_beta_above_one_asks_for_nothing():
    logits = LOGITS.clone().requires_grad_()
    pseudo_label_loss(logits, mixture_logits(logits, 1.0), beta=1.1).backward()
    assert torch.equal(logits.grad, torch.zeros_like(LOGITS))


def test_domains_count_the_same_however_many_rows_they_have():
    losses, domain = random(9), torch.tensor([0, 0, 0, 0, 0, 3, 3, 1, 0])
    wanted = torch.stack([losses[domain == d].mean() for d in (0, 1, 3)]).mean()
    torch.testing.assert_close(over_domains(losses, domain, 5), wanted)


@pytest.mark.parametrize("domains", [0, -1, 10**9])
def test_a_number_of_domains_that_cannot_be_is_refused(domains):
    with pytest.raises(ValueError, match=f"1 to 1000 domains: got {domains}"):
        domain_heads(nn.Identity(), nn.Linear(2, 2), domains=domains)

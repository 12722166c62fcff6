"""Latent classes by shares that differ between domains: anchors, factorisation, digits."""

from __future__ import annotations

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from adaptune.ops.label_shift import (
    anchored,
    class_probabilities,
    factorized,
    latent_classes,
    matched,
    successive_projection,
)


def shares_of(classes: int, domains: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.distributions.Dirichlet(torch.full((classes,), 0.5).double()).sample((domains,)).T


def cells_of(cells: int, classes: int, seed: int = 0) -> torch.Tensor:
    """Give p(cell|y) in which the first cells are each a class's own."""
    torch.manual_seed(seed)
    found = torch.rand(cells, classes).double()
    found[:classes] = torch.diag(torch.rand(classes).double() + 0.5)
    return found[torch.randperm(cells)] / found.sum(0)


def aligned(found: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Give shares in the order in which they lie nearest to others."""
    from scipy.optimize import linear_sum_assignment

    return found[linear_sum_assignment(torch.cdist(shares, found).numpy())[1]]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("classes", "domains", "cells"), [(2, 2, 5), (4, 6, 12), (10, 15, 40)])
def test_anchors_give_back_exact_shares_and_cells(classes, domains, cells, seed):
    shares, table = shares_of(classes, domains, seed), cells_of(cells, classes, seed)
    found = anchored(table @ shares, classes)
    assert (aligned(found.shares, shares) - shares).abs().max() < 1e-6
    order = torch.cdist(shares, found.shares).argmin(1)
    assert (found.cells[:, order] - table).abs().max() < 1e-6


def test_factorisation_comes_near_the_table_and_shares_are_shares():
    shares, table = shares_of(3, 6), cells_of(12, 3)
    found = factorized(table @ shares, 3)
    assert (found.cells @ found.shares - table @ shares).abs().max() < 0.02
    for one in (found.shares, found.cells):
        assert one.min() >= 0
        torch.testing.assert_close(one.sum(0), torch.ones(one.shape[1]).double())


def test_probabilities_of_classes_are_bayes():
    shares, looks = shares_of(3, 5), torch.rand(7, 3).double()  # p(y|d), p(x|y) of seven x
    looks /= looks.sum(0)
    joint = torch.einsum("xy,yd->xyd", looks, shares)  # p(x, y|d)
    of_domain = joint.sum(1) / joint.sum((1, 2))[:, None]
    for d in range(5):
        wanted = joint[:, :, d] / joint[:, :, d].sum(1, keepdim=True)
        said = class_probabilities(of_domain, torch.full((7,), d), shares)
        torch.testing.assert_close(said, wanted, rtol=1e-8, atol=1e-8)


def test_mixtures_are_never_chosen_before_their_corners():
    torch.manual_seed(0)
    corners = torch.rand(4, 6).double()
    mixed = torch.distributions.Dirichlet(torch.ones(4).double()).sample((20,)) @ corners
    found = successive_projection(torch.cat([mixed, corners]), 4)
    assert sorted(found.tolist()) == [20, 21, 22, 23]


def test_classes_of_two_digits_each_are_found_better_than_by_k_means_on_pixels():
    """Digits of a class look unlike each other, and shift together."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = pixels[labels < 6] / 16, torch.tensor(labels[labels < 6] % 3)
    shares = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    torch.manual_seed(0)
    domain = torch.distributions.Categorical(shares[y]).sample()
    teller = LogisticRegression(C=0.25, max_iter=1000)
    said = torch.tensor(cross_val_predict(teller, x, domain, cv=3, method="predict_proba"))

    def right(guess: torch.Tensor) -> float:
        return float((matched(guess, y, 3)[guess] == y).double().mean())

    plain = right(torch.tensor(KMeans(3, n_init=3, random_state=0).fit(x).labels_).long())
    counted = torch.bincount(y * 3 + domain, minlength=9).view(3, 3).double()
    truth = counted / counted.sum(0)
    for by, far in (("factorised", 0.2), ("anchors", 0.1)):
        found, own = latent_classes(said, domain, 3, cells=10, by=by)
        assert right(own.argmax(1)) > plain + 0.03
        assert (aligned(found.shares, truth) - truth).abs().mean() < far


@pytest.mark.parametrize("cells", [2, 30])
def test_fewer_domains_or_cells_than_classes_are_refused(cells):
    with pytest.raises(ValueError, match="4 latent classes need as many domains and cells"):
        latent_classes(torch.rand(9, 3), torch.zeros(9).long(), 4, cells=cells)

"""Classes that nobody named, found by how their shares differ between domains.

Source of all: Unsupervised Learning under Latent Label Shift (Roberts et al., 2022), DDFA. Where
shares of classes p(y|d) differ between domains and what classes look like does not, what shifts
together belongs together: of probabilities p(d|x) by a discriminator of domains, which is any
network that was trained to tell domains apart, rows are put into cells, the table of cells by
domains is factorised, and each row's p(y|x, d) follows, up to the order of the classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment, nnls
from torch import Tensor

from adaptune.ops.clustering import kmeans


@dataclass(frozen=True)
class LatentClasses:
    """Shares of latent classes by domain (K, D), and of cells by class (M, K): columns sum to 1."""

    shares: Tensor
    cells: Tensor


def latent_classes(
    probabilities: Tensor,
    domain: Tensor,
    classes: int,
    *,
    cells: int = 30,
    by: Literal["factorised", "anchors"] = "factorised",
    seed: int = 0,
) -> tuple[LatentClasses, Tensor]:
    """Find latent classes of rows by what a discriminator says of their domains.

    Args:
        probabilities: A discriminator's p(d|x), (N, D), of domains of any sizes.
        domain: The domain of each row, (N,).
        classes: How many latent classes there are, at most as many as domains.
        cells: Into how many cells rows are put, by k-means. Few are full enough to be counted: of
            hundreds of rows 30 cells, the paper's of thousands, left the largest class of a domain
            alone in it.
        by: How the table of cells is written as a product: by the paper's `factorized`, or by
            `anchored`, which is ours in this place and was better on digits.
        seed: Of k-means and of the factorisation's start.

    Returns:
        What was found, and each row's p(y|x, d) in its own domain (N, K). Say what is which class
        by a few labels, with `matched`.

    Raises:
        ValueError: If there are fewer domains than classes, or fewer cells.

    >>> d = torch.arange(400) % 2  # three in four of domain 0 are of class 0, of domain 1 of 1
    >>> y = torch.where(torch.arange(400) // 2 % 4 == 0, 1 - d, d)
    >>> said = torch.tensor([[0.75, 0.25], [0.25, 0.75]])[y]
    >>> found, own = latent_classes(said, d, 2, cells=2, by="anchors")
    >>> bool((matched(own.argmax(1), y, 2)[own.argmax(1)] == y).all())
    True
    """
    if not classes <= min(probabilities.shape[1], cells):
        raise ValueError(
            f"{classes} latent classes need as many domains and cells, and there are "
            f"{probabilities.shape[1]} and {cells}"
        )
    probabilities = probabilities.double()
    centres = kmeans(probabilities, cells, seed=seed).to(probabilities)
    cell = torch.cdist(probabilities, centres).argmin(1)
    table = cell_shares(cell, domain, len(centres), probabilities.shape[1])
    exact = by == "anchors"
    found = anchored(table, classes) if exact else factorized(table, classes, seed=seed)
    balanced = probabilities / torch.bincount(domain, minlength=probabilities.shape[1])
    return found, class_probabilities(balanced, domain, found.shares)


def cell_shares(cell: Tensor, domain: Tensor, cells: int, domains: int) -> Tensor:
    """Count which share of each domain's rows lies in each cell, float64 (M, D).

    >>> cell_shares(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2, 2).tolist()
    [[0.5, 0.0], [0.5, 1.0]]
    """
    pairs = torch.bincount(cell * domains + domain, minlength=cells * domains)
    table = pairs.view(cells, domains).double()
    return table / table.sum(0).clamp_min(1)


def factorized(table: Tensor, classes: int, *, seed: int = 0) -> LatentClasses:
    """Write a table p(cell|d) (M, D) as p(cell|y) p(y|d), by scikit-learn's factorisation.

    It starts at random and ends in one of many answers, near the table; see `anchored`.

    >>> shares = torch.tensor([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9]]).double()
    >>> found = factorized(torch.eye(4)[:, :2].double() @ shares, 2)
    >>> bool((found.cells @ found.shares)[:2].sub(shares).abs().max() < 0.01)
    True
    """
    from sklearn.decomposition import NMF

    model = NMF(classes, init="random", random_state=seed, max_iter=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it could go on for longer
        found = torch.from_numpy(model.fit_transform(table.T.cpu().numpy())).T
    cells = torch.from_numpy(model.components_).T
    scale = cells.sum(0).clamp_min(torch.finfo(cells.dtype).tiny)
    return LatentClasses(_shares(found * scale.unsqueeze(1)), cells / scale)


def anchored(table: Tensor, classes: int) -> LatentClasses:
    """Write a table p(cell|d) (M, D) as p(cell|y) p(y|d), where each class has a cell of its own.

    Rows of such anchor cells are p(y|d) but for their length, and all other rows are mixtures of
    them; successive projection finds the corners, so that an exact table gives the exact answer.
    Source: Araujo et al., 2001; Gillis and Vavasis, 2014.

    >>> shares = torch.tensor([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9]]).double()
    >>> cells = torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.5, 0.5]]).double()
    >>> found = anchored(cells @ shares, 2)
    >>> bool((found.shares.sort(0).values - shares.sort(0).values).abs().max() < 1e-6)
    True
    """
    table = table.double()
    anchors = successive_projection(_shares(table.T).T, classes)
    corners = table[anchors]
    # Of domain d the anchors' lengths a satisfy sum_k a_k corners_kd = 1.
    lengths = torch.from_numpy(nnls(corners.T.numpy(), torch.ones(table.shape[1]).numpy())[0])
    shares = _shares(corners * lengths.unsqueeze(1))
    cells = [torch.from_numpy(nnls(shares.T.numpy(), row.numpy())[0]) for row in table]
    return LatentClasses(shares, _shares(torch.stack(cells)))


def successive_projection(rows: Tensor, count: int) -> Tensor:
    """Choose ``count`` rows (N, D) of whose mixtures all others are, int64 (``count``,).

    The longest is chosen, then the longest of what is orthogonal to it, and so on.

    >>> successive_projection(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 0.9]]), 2).tolist()
    [0, 2]
    """
    left, chosen = rows.double().clone(), []
    for _ in range(count):
        at = int(left.norm(dim=1).argmax())
        chosen.append(at)
        way = F.normalize(left[at], dim=0)
        left -= torch.outer(left @ way, way)
    return torch.tensor(chosen)


def class_probabilities(probabilities: Tensor, domain: Tensor, shares: Tensor) -> Tensor:
    """Give p(y|x, d) (N, K) of p(d|x) (N, D), of domains that count alike, and p(y|d) (K, D).

    p(d|x) is a mixture of the classes' p(d|y), which is undone by the pseudo-inverse and gives
    p(y|x); that is weighed by the shares of the row's ``domain`` over those of all domains.

    >>> shares = torch.tensor([[1.0, 0.5], [0.0, 0.5]]).double()
    >>> class_probabilities(torch.tensor([[2 / 3, 1 / 3]]), torch.tensor([1]), shares)
    tensor([[1., 0.]], dtype=torch.float64)
    """
    of_domain = _shares(shares.T.double())  # p(d|y), (D, K)
    known = _shares(probabilities.T.double())
    whole = (torch.linalg.pinv(of_domain) @ known).clamp_min(0)  # p(y|x), (K, N)
    weighed = whole * of_domain[domain].T
    return _shares(weighed).T


def matched(found: Tensor, y: Tensor, classes: int) -> Tensor:
    """Give for each latent class the class that it is, (K,), by which most rows are right.

    >>> matched(torch.tensor([1, 1, 0]), torch.tensor([0, 0, 1]), 2)
    tensor([1, 0])
    """
    pairs = torch.bincount(found * classes + y, minlength=classes**2).view(classes, classes)
    return torch.from_numpy(linear_sum_assignment(-pairs.cpu().numpy())[1])


def _shares(columns: Tensor) -> Tensor:
    """Let columns sum to 1; those of nothing are even."""
    total = columns.sum(0)
    return torch.where(total > 0, columns / total.clamp_min(1e-300), 1 / len(columns))

"""Scores that read how the target's rows lie: dense neighbourhoods, clusters, spread classes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.special import entr

from adaptune.selection.certainty import information_maximisation
from adaptune.selection.defined import UndefinedScoreError, finite
from adaptune.selection.evidence import Evidence

MOST_ROWS = 2000
"""More rows than this are sampled: density compares every row with every other."""

MOST_POINTS = 500
"""More points than this are not drawn for Hopkins' statistic: it compares each with every row."""

BLOCK = 256


def soft_neighborhood_density(evidence: Evidence, *, temperature: float = 0.05) -> float:
    """SND: the mean entropy of each target row's soft neighbours, in nats.

    With q_i = p_i / |p_i| of the predictions, row i's neighbours weigh softmax_j(q_i . q_j /
    temperature) over j != i; the score is the mean over i of the entropy of these weights. Higher
    means more neighbours that are equally close. Of more than 2,000 rows, 2,000 are drawn uniformly
    with a fixed seed. Source: Saito et al., "Tune it the Right Way", 2021. A network that gives one
    class to everything has the highest density there is.

    Raises:
        Undefined: If there are fewer than two rows or a logit is not finite.

    >>> from adaptune.types import Outputs
    >>> eye, same = torch.eye(3), torch.zeros(3, 3)
    >>> val = Outputs(eye, torch.arange(3), eye, torch.arange(3))
    >>> round(soft_neighborhood_density(Evidence(same, eye, eye, val, eye)), 4)  # ln 2
    0.6931
    """
    rows = F.normalize(sample_rows(finite(evidence.predictions, "predictions", rows=2), MOST_ROWS))
    total = 0.0
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        alike = block @ rows.T / temperature
        own = torch.arange(len(block))
        alike[own, start + own] = -torch.inf
        total += float(entr(alike.softmax(1)).sum())
    return total / len(rows)


def sample_rows(rows: Tensor, most: int, *, seed: int = 0) -> Tensor:
    """Give the rows, or ``most`` of them drawn uniformly without putting back.

    >>> len(sample_rows(torch.arange(9), 4)), len(sample_rows(torch.arange(3), 4))
    (4, 3)
    """
    if len(rows) <= most:
        return rows
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return rows[order[:most]]


def transfer_score(evidence: Evidence) -> float:
    """Transfer Score: clustered features, certain and balanced predictions, evenly spread classes.

    ``hopkins`` + (H(mean p) - mean H(p)) / ln K - ``uniformity``. The term in the middle is over
    the whole target and exact; the released code averages it over batches, where classes that a
    batch lacks count as imbalance, and adds 1e-5 inside the logarithm. Source: "Can We Evaluate
    Domain Adaptation Models Without Target-Domain Labels?", ICLR 2024.

    Raises:
        Undefined: If there are fewer than two rows or classes, an entry is not finite, all features
            are the same, or a row of the head is zero.

    >>> from adaptune.types import Outputs
    >>> head = torch.tensor([[1.0], [-1.0]])
    >>> x = head.repeat(20, 1)
    >>> val = Outputs(x @ head.T, torch.arange(40) % 2, x, torch.arange(40))
    >>> round(transfer_score(Evidence(99 * x @ head.T, x, head, val, x)), 4)
    2.0
    """
    spread = uniformity(evidence.weight)
    balance = information_maximisation(evidence) / math.log(len(evidence.weight))
    return hopkins(evidence.features) + balance - spread


def dispersion(evidence: Evidence) -> float:
    """How far apart the target's features of different answers lie: log(sum_k N_k d_k / (K - 1)).

    Rows are grouped by the class that the network gives them: N_k is how many the class k has, d_k
    the squared distance of their mean from the mean of all. Source: On the Importance of Feature
    Separability in Predicting Out-Of-Distribution Error (Xie et al., 2023); the released code
    counts only classes that some row was given. It grows with whatever makes features long, noise
    among it, so it compares networks whose features have one scale.

    Raises:
        Undefined: If there are fewer than two rows or classes, an entry is not finite, or all
            classes have one mean, as where there is one answer for everything.

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.arange(2), eye, torch.arange(2))
    >>> dispersion(Evidence(eye, eye, eye, val, eye))  # twice 1/2 over one degree of freedom
    0.0
    """
    rows, classes = finite(evidence.features, "features", rows=2), len(evidence.weight)
    answers = finite(evidence.logits, "logits of target images").argmax(1)
    given = F.one_hot(answers, classes).double()
    counts = given.sum(0)
    means = given.T @ rows / counts.clamp(min=1)[:, None]
    apart = float((counts * (means - rows.mean(0)).square().sum(1)).sum())
    if classes < 2 or apart == 0 or int((counts > 0).sum()) < 2:
        raise UndefinedScoreError("features: there is one mean for all answers, so nothing differs")
    return math.log(apart / (classes - 1))


def distortion(evidence: Evidence) -> float:
    """Minus how far the target's features moved in training: 0 where they did not, -2 at most.

    Distortion is 1 less the mean cosine similarity of features before and after
    (`feature_distortion`). Source: Ha, Jeong and Lee, 2024, who show that accuracy elsewhere falls
    with it; to choose by it is ours.

    Raises:
        Undefined: If it is not known where features were before, there are no rows, or an entry is
            not finite.

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.arange(2), eye, torch.arange(2))
    >>> distortion(Evidence(eye, eye, eye, val, eye, before=eye.flip(0)))
    -1.0
    """
    before = finite(evidence.before, "features before training", rows=1)
    after = finite(evidence.features, "features", rows=1)
    return float(F.cosine_similarity(before, after).mean()) - 1


def hopkins(features: Tensor, *, share: float = 0.05, seed: int = 0) -> float:
    """Hopkins' statistic of rows (N, D): about 0.5 where they lie at random, near 1 in clusters.

    sum u / (sum u + sum w) over a ``share`` of the rows, from 1 to 500 of them: u are distances
    from as many points, uniform in the box that bounds the rows, to the nearest row; w from rows
    drawn without putting back to the nearest other row. Distances are plain, not raised to the
    power D. A fixed seed makes it a function of the rows. Source: Hopkins and Skellam, 1954; Lawson
    and Jurs, 1990, for the share; as in the code of Transfer Score, 2024, which has no bound. In
    many dimensions most of the box is far from any row, so values above 0.5 are the rule and only
    comparisons mean something.

    Raises:
        Undefined: If there are fewer than two rows, they are all the same, or not finite.

    >>> corners = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(50, 1)
    >>> hopkins(corners)
    1.0
    """
    rows = finite(features, "features", rows=2)
    number = min(max(1, int(share * len(rows))), MOST_POINTS)
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(rows), generator=random)[:number]
    low, high = rows.amin(0), rows.amax(0)
    draws = torch.rand(number, rows.shape[1], generator=random, dtype=torch.float64)
    empty = full = 0.0
    for at in range(0, number, BLOCK):
        own, points = chosen[at : at + BLOCK], low + (high - low) * draws[at : at + BLOCK]
        empty += float(distances(points, rows).amin(1).sum())
        between = distances(rows[own], rows)
        between[torch.arange(len(own)), own] = torch.inf
        full += float(between.amin(1).sum())
    if empty + full == 0:
        raise UndefinedScoreError("Hopkins' statistic: all rows of features are the same")
    return empty / (empty + full)


def distances(points: Tensor, rows: Tensor) -> Tensor:
    """Give Euclidean distances (P, N), exactly 0 for equal rows, which a matrix product would miss.

    >>> distances(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])).item()
    5.0
    """
    return torch.cdist(points, rows, compute_mode="donot_use_mm_for_euclid_dist")


def uniformity(weight: Tensor) -> float:
    """How far the classes' directions are from evenly spread, in squared radians: 0 at best.

    The mean over ordered pairs of classes i != j of (theta_ij - arccos(-1 / (K - 1)))^2, with
    theta_ij the angle between rows i and j of the head's ``weight`` (K, D). Zero where the rows
    form a simplex. Source: Transfer Score, 2024.

    Raises:
        Undefined: If there are fewer than two classes, a row is zero, or an entry is not finite.

    >>> uniformity(torch.tensor([[2.0, 0.0], [-1.0, 0.0]]))
    0.0
    """
    weight = finite(weight, "weight of the head", rows=2)
    classes, length = len(weight), weight.norm(dim=1, keepdim=True)
    if bool((length == 0).any()):
        raise UndefinedScoreError("weight of the head: a row is zero and has no direction")
    rows = weight / length
    angle = (rows @ rows.T).clamp(-1, 1).arccos()
    apart = (angle - math.acos(-1 / (classes - 1))).square()
    return float(apart[~torch.eye(classes, dtype=torch.bool)].mean())

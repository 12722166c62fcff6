"""Scores that read the predictions on the target: sure, and not all of one class."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.special import entr

from adaptune.selection.defined import finite
from adaptune.selection.evidence import Evidence


def entropy(evidence: Evidence) -> float:
    """Minus the mean entropy of the target's predictions, in nats: 0 where all are certain.

    -1/N sum_i H(p_i). Used to select by Morerio, Cavazza and Murino, 2018. A network that gives one
    class to everything is as certain as a perfect one.

    Raises:
        Undefined: If there are no rows or a logit is not finite.

    >>> from adaptune.types import Outputs
    >>> eye, unsure = torch.eye(2), torch.zeros(2, 2)
    >>> val = Outputs(eye, torch.arange(2), eye, torch.arange(2))
    >>> round(entropy(Evidence(unsure, eye, eye, val, eye)), 4)
    -0.6931
    """
    return 0.0 - float(entr(evidence.predictions).sum(1).mean())


def information_maximisation(evidence: Evidence) -> float:
    """Entropy of the mean prediction less the mean entropy of predictions, in nats.

    H(1/N sum_i p_i) - 1/N sum_i H(p_i), over the whole target: from 0 to ln K, which certain
    predictions reach that are spread evenly over the classes. Source: Bridle, Heading and MacKay,
    1991; Krause, Perona and Gomes, 2010.

    Raises:
        Undefined: If there are no rows or a logit is not finite.

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.arange(2), eye, torch.arange(2))
    >>> round(information_maximisation(Evidence(99 * eye, eye, eye, val, eye)), 4)
    0.6931
    """
    return float(entr(evidence.predictions.mean(0)).sum()) + entropy(evidence)


def nuclear_norm(evidence: Evidence) -> float:
    """The nuclear norm of the target's predictions (N, K) over the largest that it could have.

    sum_j sigma_j(P) / sqrt(N min(N, K)), from 0 to 1; 1 for certain predictions that are spread
    evenly. Source: batch nuclear-norm maximisation (BNM), Cui et al., 2020, here over the whole
    target and not batch by batch.

    Raises:
        Undefined: If there are no rows or a logit is not finite.

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.arange(2), eye, torch.arange(2))
    >>> round(nuclear_norm(Evidence(99 * eye, eye, eye, val, eye)), 4)
    1.0
    """
    rows, classes = evidence.predictions.shape
    return float(spectrum(evidence).sum()) / math.sqrt(rows * min(rows, classes))


def spectral_share(evidence: Evidence) -> float:
    """Minus the largest singular value's share of the sum: -sigma_1(P) / sum_j sigma_j(P).

    P is the (N, K) matrix of the target's predictions, not centred. From -1, where all predictions
    are alike, to -1/min(N, K), where the spectrum is flat. It is minus the reciprocal of an
    effective rank, the nuclear norm over the spectral norm. No paper that we know of proposes it
    for selection: batch spectral penalisation (Chen et al., 2019) keeps the largest singular values
    of *features* small while training and is no score, so this is our own counterpart for
    predictions, to be read beside `nuclear_norm`. Classes of unequal size cost it, as they do
    `information_maximisation`.

    Raises:
        Undefined: If there are no rows or a logit is not finite.

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.arange(2), eye, torch.arange(2))
    >>> round(spectral_share(Evidence(99 * eye, eye, eye, val, eye)), 4)
    -0.5
    """
    values = spectrum(evidence)
    return -float(values[0] / values.sum())


def matrix_norm(evidence: Evidence, *, order: int = 4, bound: float = 5.0) -> float:
    """MaNo: the entry-wise norm of the target's normalised logits (N, K), (mean q^p)^(1/p).

    Logits z are normalised to q = v / sum_k v, each row by itself. Where the mean over entries of
    -log softmax(z) is above the ``bound`` the network is taken for calibrated, and v = exp(z);
    otherwise v = 1 + z + z^2/2, softrun, which trusts large logits less. Source: MaNo (Xie et al.,
    2024), with p = 4 and a bound of 5. The released code subtracts each row's least v before it
    normalises, which the paper does not.

    Raises:
        Undefined: If there are no rows or a logit is not finite.

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.arange(2), eye, torch.arange(2))
    >>> matrix_norm(Evidence(0 * eye, eye, eye, val, eye))
    0.5
    """
    logits = finite(evidence.logits, "logits of target images")
    surprise = -float(logits.log_softmax(1).mean())
    values = evidence.predictions if surprise > bound else 1 + logits + logits.square() / 2
    shares = values / values.sum(1, keepdim=True)
    norm: float = float(shares.pow(order).mean()) ** (1 / order)
    return norm


def spectrum(evidence: Evidence) -> Tensor:
    """Give the singular values of the target's predictions, the largest first, (min(N, K),).

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.arange(2), eye, torch.arange(2))
    >>> spectrum(Evidence(99 * eye, eye, eye, val, eye)).tolist()
    [1.0, 1.0]
    """
    values: Tensor = torch.linalg.svdvals(evidence.predictions)
    return values

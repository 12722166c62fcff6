"""Estimates of the accuracy on the target, from how sure a network is there and at home."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.special import entr

from adaptune.selection.evidence import Evidence
from adaptune.selection.risk import errors, source_validation

Surety = Callable[[Tensor], Tensor]
"""How sure predictions (N, K) are, row by row, (N,): more is surer."""


def likeliest(predictions: Tensor) -> Tensor:
    """Give each row's largest probability, (N,).

    >>> likeliest(torch.tensor([[0.7, 0.3]])).tolist() == torch.tensor([0.7]).tolist()
    True
    """
    largest: Tensor = predictions.amax(1)
    return largest


def negative_entropy(predictions: Tensor) -> Tensor:
    """Give minus each row's entropy in nats, (N,).

    >>> negative_entropy(torch.tensor([[1.0, 0.0]])).tolist()
    [0.0]
    """
    entropies: Tensor = entr(predictions).sum(1)
    return 0.0 - entropies


def average_confidence(evidence: Evidence) -> float:
    """The mean of the largest probability on the target, in percent: AC.

    It is the accuracy of a network that is as sure as it is right. Source: Hendrycks and Gimpel,
    2017, as Garg et al., 2022, compare it.

    Raises:
        Undefined: If there are no rows or a logit is not finite.

    >>> from adaptune.types import Outputs
    >>> eye, unsure = torch.eye(2), torch.zeros(2, 2)
    >>> val = Outputs(eye, torch.arange(2), eye, torch.arange(2))
    >>> average_confidence(Evidence(unsure, eye, eye, val, eye))
    50.0
    """
    return 100 * float(likeliest(evidence.predictions).mean())


def difference_of_confidences(evidence: Evidence) -> float:
    """DoC: accuracy on ID validation, less what the mean confidence loses from there to the target.

    In percent. Source: Predicting with Confidence on Unseen Distributions (Guillory et al., 2021),
    who learn from other shifts by how much accuracy falls with this difference; where there are no
    others, as in Garg et al., 2022, it falls by as much.

    Raises:
        Undefined: If there are no rows of either set or a logit is not finite.

    >>> from adaptune.types import Outputs
    >>> eye, unsure = torch.eye(2), torch.zeros(2, 2)
    >>> val = Outputs(99 * eye, torch.arange(2), eye, torch.arange(2))
    >>> round(difference_of_confidences(Evidence(unsure, eye, eye, val, eye)), 6)
    50.0
    """
    at_home = 100 * float(likeliest(evidence.val_predictions).mean())
    return source_validation(evidence) - (at_home - average_confidence(evidence))


def thresholded_confidence(evidence: Evidence, surety: Surety = likeliest) -> float:
    """ATC: the share of target rows that are surer than a threshold, in percent.

    The threshold is the one below which as many ID validation rows lie as are wrong there. Of
    several with the same difference, as where rows are equally sure, the lowest. Source: Leveraging
    Unlabeled Data to Predict Out-of-Distribution Performance (Garg et al., 2022): ``surety`` is the
    largest probability (ATC-MC) or minus the entropy (ATC-NE).

    Raises:
        Undefined: If there are no rows of either set or a logit is not finite.

    >>> from adaptune.types import Outputs
    >>> logits, one = torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.ones(2, 1)
    >>> val = Outputs(logits, torch.tensor([1, 0]), one, torch.arange(2))  # wrong where unsure
    >>> thresholded_confidence(Evidence(logits, one, one, val, one))
    50.0
    """
    wrong = int(errors(evidence).sum())
    bar = threshold(surety(evidence.val_predictions), wrong)
    return 100 * float((surety(evidence.predictions) >= bar).double().mean())


def entropy_thresholded(evidence: Evidence) -> float:
    """ATC-NE: `thresholded_confidence` by minus the entropy.

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.arange(2), eye, torch.arange(2))
    >>> entropy_thresholded(Evidence(0 * eye, eye, eye, val, eye))
    0.0
    """
    return thresholded_confidence(evidence, negative_entropy)


def threshold(values: Tensor, below: int) -> float:
    """Give the value under which nearest to ``below`` of the values (V,) lie; it may be infinite.

    >>> threshold(torch.tensor([0.25, 0.75, 0.5]), 2), threshold(torch.tensor([0.25]), 1)
    (0.75, inf)
    """
    ranked = values.sort().values
    bars = torch.cat([ranked, values.new_tensor([torch.inf])])
    counts = torch.searchsorted(ranked, bars)  # of equal values, those before all of them
    return float(bars[(counts - below).abs().argmin()])


def calibrated_first(score: Callable[[Evidence], float]) -> Callable[[Evidence], float]:
    """Give the score of a network at the temperature that ID validation asks for.

    >>> from adaptune.types import Outputs
    >>> logits, one = torch.tensor([[9.0, 0.0]]).repeat(4, 1), torch.ones(4, 1)
    >>> val = Outputs(logits, torch.tensor([0, 0, 0, 1]), one, torch.arange(4))
    >>> round(calibrated_first(average_confidence)(Evidence(logits, one, one[:2], val, one)), 4)
    75.0
    """
    return lambda evidence: score(evidence.calibrated)

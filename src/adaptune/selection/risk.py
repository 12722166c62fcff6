"""Scores that read labels, but the source's: accuracy on validation, weighted for the target."""

from __future__ import annotations

import torch
from torch import Tensor

from adaptune.selection.defined import UndefinedScoreError, finite
from adaptune.selection.evidence import Evidence


def source_validation(evidence: Evidence) -> float:
    """Accuracy on ID validation, in percent: what is left to look at without target images.

    Raises:
        Undefined: If there are no validation rows or a logit is not finite.

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.tensor([0, 0]), eye, torch.arange(2))
    >>> source_validation(Evidence(eye, eye, eye, val, eye))
    50.0
    """
    return 100 * (1 - float(errors(evidence).mean()))


def made_shifts(evidence: Evidence) -> float:
    """Mean accuracy, in percent, over ten families of changes to ID validation images.

    Families are those of `data.shifts`, and count alike. Source: Crafting Distribution Shifts for
    Validation and Training in Single Source Domain Generalization (Efthymiadis et al., 2025).

    Raises:
        Undefined: If there are no validation rows, they are no images of three channels, or a
            logit is not finite.

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val, known = Outputs(eye, torch.tensor([0, 0]), eye, torch.arange(2)), torch.tensor([9.0])
    >>> made_shifts(Evidence(eye, eye, eye, val, eye, shifted=lambda: known))
    9.0
    """
    finite(evidence.val.logits, "logits of validation images")
    return float(finite(evidence.shifted(), "accuracies under made shifts", rows=1).mean())


def importance_weighted_validation(evidence: Evidence) -> float:
    """IWV: minus the source's validation error, weighted by the density ratio of the features.

    -1/V sum_i w_i l_i with w = p_target / p_source from `density_ratio`, l the 0/1 error, V the
    number of validation rows. Source: Sugiyama, Krauledat and Müller, 2007. Where the domains are
    far apart all weights of source images fall towards 0, and the error with them: a good score
    then says that the domains differ, not that the network is good.

    Raises:
        Undefined: If there are no validation rows, fewer than two source or target rows, or an
            entry is not finite.

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.tensor([0, 0]), eye, torch.arange(2))
    >>> round(importance_weighted_validation(Evidence(eye, eye, eye, val, eye)), 3)
    -0.5
    """
    return 0.0 - weighted_risk(evidence.ratio, errors(evidence))


def deep_embedded_validation(evidence: Evidence) -> float:
    """DEV: as `importance_weighted_validation`, with a control variate that lowers the variance.

    -(mean(w l) + eta mean(w) - eta), eta = -Cov(w l, w) / Var(w), with w and l as there: weights
    have mean one over the source, so what their mean lacks says how the risk is off. Source: You et
    al., 2019, with logistic regression where the paper has a small network.

    Raises:
        Undefined: As `importance_weighted_validation`.

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.tensor([0, 0]), eye, torch.arange(2))
    >>> round(deep_embedded_validation(Evidence(eye, eye, eye, val, eye)), 3)
    -0.5
    """
    return 0.0 - controlled_risk(evidence.ratio, errors(evidence))


def errors(evidence: Evidence) -> Tensor:
    """Give the 0/1 error of each validation row, float64 (V,).

    >>> from adaptune.types import Outputs
    >>> eye = torch.eye(2)
    >>> val = Outputs(eye, torch.tensor([0, 0]), eye, torch.arange(2))
    >>> errors(Evidence(eye, eye, eye, val, eye)).tolist()
    [0.0, 1.0]
    """
    logits = finite(evidence.val.logits, "logits of validation images")
    return (logits.argmax(1) != evidence.val.y).double()


def weighted_risk(weights: Tensor, loss: Tensor) -> float:
    """Give mean(w l) of weights and losses (V,).

    Raises:
        Undefined: If the mean is not finite.

    >>> weighted_risk(torch.tensor([2.0, 0.0]), torch.tensor([0.5, 1.0]))
    0.5
    """
    risk = (finite(weights, "weights") * finite(loss, "losses")).mean()
    return float(finite(risk[None], "weighted risk"))


def controlled_risk(weights: Tensor, loss: Tensor) -> float:
    """Give mean(w l) + eta mean(w) - eta of weights and losses (V,), eta = -Cov(w l, w) / Var(w).

    Weights that do not vary control nothing: eta is then 0, and the risk that of `weighted_risk`.

    Raises:
        Undefined: If the risk is not finite.

    >>> round(controlled_risk(torch.tensor([3.0, 1.0]), torch.tensor([0.5, 0.5])), 6)
    0.5
    """
    risk, weights = weighted_risk(weights, loss), weights.detach().double()
    mean = weights.mean()
    off = weights - mean
    variance = off.square().mean()
    # Deviations of a billionth of the mean are rounding: their covariance is noise as well.
    varies = bool(variance > 1e-18 * mean.square())
    eta = -(weights * loss * off).mean() / variance if varies else torch.zeros(())
    controlled = risk + float(eta * (mean - 1))
    if not torch.isfinite(torch.tensor(controlled)):
        raise UndefinedScoreError("weights: some are so large that their variance overflows")
    return controlled

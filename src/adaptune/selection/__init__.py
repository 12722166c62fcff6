"""Label-free model selection: scores of an adapted network, by name; higher is always better."""

from __future__ import annotations

import math
from collections.abc import Callable

from adaptune.selection.agreement import gap_to_oracle, highest, rank_agreement
from adaptune.selection.certainty import (
    entropy,
    information_maximisation,
    matrix_norm,
    nuclear_norm,
    spectral_share,
)
from adaptune.selection.confidence import (
    average_confidence,
    calibrated_first,
    difference_of_confidences,
    entropy_thresholded,
    thresholded_confidence,
)
from adaptune.selection.defined import UndefinedScoreError
from adaptune.selection.evidence import Evidence
from adaptune.selection.risk import (
    deep_embedded_validation,
    importance_weighted_validation,
    made_shifts,
    source_validation,
)
from adaptune.selection.structure import (
    dispersion,
    distortion,
    soft_neighborhood_density,
    transfer_score,
)

__all__ = [
    "SCORES",
    "Evidence",
    "UndefinedScoreError",
    "defined",
    "gap_to_oracle",
    "highest",
    "label_free",
    "rank_agreement",
]

SCORES: dict[str, Callable[[Evidence], float]] = {
    "id-validation": source_validation,
    "made-shifts": made_shifts,
    "entropy": entropy,
    "information-maximisation": information_maximisation,
    "snd": soft_neighborhood_density,
    "iwv": importance_weighted_validation,
    "dev": deep_embedded_validation,
    "nuclear-norm": nuclear_norm,
    "spectral-norm": spectral_share,
    "transfer-score": transfer_score,
    "confidence": average_confidence,
    "confidence-calibrated": calibrated_first(average_confidence),
    "doc": difference_of_confidences,
    "doc-calibrated": calibrated_first(difference_of_confidences),
    "atc": thresholded_confidence,
    "atc-calibrated": calibrated_first(thresholded_confidence),
    "atc-entropy": entropy_thresholded,
    "atc-entropy-calibrated": calibrated_first(entropy_thresholded),
    "mano": matrix_norm,
    "dispersion": dispersion,
    "distortion": distortion,
}


def label_free(evidence: Evidence) -> dict[str, float]:
    """Give every score of a network, by name; NaN where a score's formula has no value.

    >>> import torch
    >>> from adaptune.types import Outputs
    >>> one = torch.ones(1, 1)
    >>> val = Outputs(one, torch.tensor([0]), one, torch.tensor([0]))
    >>> scores = label_free(Evidence(one, one, one, val, one))
    >>> scores["id-validation"], scores["snd"]
    (100.0, nan)
    """
    return {name: defined(score, evidence) for name, score in SCORES.items()}


def defined(score: Callable[[Evidence], float], evidence: Evidence) -> float:
    """Give the score, or NaN where it is undefined.

    >>> import torch
    >>> from adaptune.types import Outputs
    >>> one = torch.ones(1, 1)
    >>> val = Outputs(one, torch.tensor([0]), one, torch.tensor([0]))
    >>> defined(transfer_score, Evidence(one, one, one, val, one))
    nan
    """
    try:
        return score(evidence)
    except UndefinedScoreError:
        return math.nan

"""Comprehensiveness and sufficiency (DeYoung et al. 2020), aggregated over thresholds by AOPC.

Shapes: B instances, K thresholds, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def aopc(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area over the perturbation curve: sum over K / (K + 1); differences [K, B] to [B]."""
    area: NDArray[np.float64] = differences.sum(0) / (len(differences) + 1)
    return area


def confidence_drop(full_logits: Tensor, part_logits: Tensor) -> Tensor:
    r"""p_ŷ(x) - p_ŷ(part of x) at each threshold, in [-1, 1].

    `aopc` of it is comprehensiveness where the part is x \ r^(k) (higher is better), and sufficiency where it is r^(k)
    (lower is better).

    Args:
        full_logits: on x [B, C], or on the input of each threshold [K, B, C]; ŷ is their arg max.
        part_logits: on the parts [K, B, C].

    Returns:
        [K, B], double precision.
    """
    return _confidence(full_logits, full_logits) - _confidence(part_logits, full_logits)


def log_odds(full_logits: Tensor, padded_logits: Tensor) -> Tensor:
    """Mean over K of log p_ŷ(x with its top-k tokens replaced by PAD) - log p_ŷ(x); lower is better.

    Args:
        full_logits: on x [B, C], or on the input of each threshold [K, B, C]; ŷ is their arg max.
        padded_logits: on x with the tokens of r^(k) replaced [K, B, C].

    Returns:
        Per instance [B], double precision.
    """
    predicted = full_logits.argmax(-1).expand(padded_logits.shape[:-1])[..., None]
    padded, full = (logits.double().log_softmax(-1) for logits in (padded_logits, full_logits))
    return (padded.gather(-1, predicted) - full.expand_as(padded).gather(-1, predicted)).squeeze(-1).mean(0)


def _confidence(logits: Tensor, full_logits: Tensor) -> Tensor:
    """Probability of the class predicted on the full input [..., B]."""
    predicted = full_logits.argmax(-1).expand(logits.shape[:-1])
    return logits.double().softmax(-1).gather(-1, predicted[..., None]).squeeze(-1)

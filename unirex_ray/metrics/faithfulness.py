"""Comprehensiveness and sufficiency (DeYoung et al. 2020), aggregated over thresholds by AOPC.

Shapes: B instances, K thresholds, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def aopc(differences: Tensor) -> Tensor:
    """Area over the perturbation curve: sum over K / (K + 1); differences [K, B] to [B]."""
    return differences.sum(0) / (differences.shape[0] + 1)


def comprehensiveness(full_logits: Tensor, complement_logits: Tensor) -> Tensor:
    r"""AOPC of p_ŷ(x) - p_ŷ(x \ r^(k)), in [-1, 1]; higher is better.

    Args:
        full_logits: on x [B, C], or on the input of each threshold [K, B, C]; ŷ is their arg max.
        complement_logits: on x \ r^(k) [K, B, C].

    Returns:
        Per instance [B], double precision.
    """
    return aopc(_confidence(full_logits, full_logits) - _confidence(complement_logits, full_logits))


def sufficiency(full_logits: Tensor, rationale_logits: Tensor) -> Tensor:
    """AOPC of p_ŷ(x) - p_ŷ(r^(k)), in [-1, 1]; lower is better. Arguments as for `comprehensiveness`."""
    return aopc(_confidence(full_logits, full_logits) - _confidence(rationale_logits, full_logits))


def log_odds(full_logits: Tensor, padded_logits: Tensor) -> Tensor:
    """Mean over K of log p_ŷ(x with its top-k tokens replaced by PAD) - log p_ŷ(x); lower is better.

    Args:
        full_logits: on x [B, C], or on the input of each threshold [K, B, C]; ŷ is their arg max.
        padded_logits: on x with the tokens of r^(k) replaced [K, B, C].

    Returns:
        Per instance [B], double precision.
    """
    predicted = full_logits.argmax(-1).expand(padded_logits.shape[:-1])[..., None]
    padded, full = (torch.log_softmax(logits.double(), -1) for logits in (padded_logits, full_logits))
    return (padded.gather(-1, predicted) - full.expand_as(padded).gather(-1, predicted)).squeeze(-1).mean(0)


def _confidence(logits: Tensor, full_logits: Tensor) -> Tensor:
    """Probability of the class predicted on the full input [..., B]."""
    predicted = full_logits.argmax(-1).expand(logits.shape[:-1])
    return torch.softmax(logits.double(), -1).gather(-1, predicted[..., None]).squeeze(-1)

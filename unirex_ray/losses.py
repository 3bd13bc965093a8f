"""Training losses: pure functions of logits and scores (SPEC, losses; paper, section 3.2).

Every function returns terms per instance, so that whoever sums them divides by counts of the global batch.
Shapes: B instances, R rows, T tokens, K thresholds, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy per instance, at least 0: logits [..., B, C], labels [B] to [..., B]."""
    picked = logits.log_softmax(-1).gather(-1, labels.expand(logits.shape[:-1])[..., None])
    return -picked.squeeze(-1)


def comprehensiveness_loss(full: Tensor, without: Tensor, kind: Literal["margin", "diff"], margin: float) -> Tensor:
    """Low where taking the rationale away hurts (paper, equations 2 and 4).

    Args:
        full: CE on x [B].
        without: CE on x \\ r^(k) [K, B].

    Returns:
        Mean over thresholds [B]; at least 0 for `margin`, any real number for `diff`.
    """
    difference = full - without
    if kind == "margin":
        difference = difference.clamp(min=-margin) + margin
    return difference.mean(0)


def sufficiency_loss(full: Tensor, alone: Tensor, kind: Literal["margin", "diff"], margin: float) -> Tensor:
    """Low where the rationale alone is enough (paper, equations 5 and 6); `alone`: CE on r^(k) [K, B]; returns [B]."""
    difference = alone - full
    if kind == "margin":
        difference = difference.clamp(min=-margin) + margin
    return difference.mean(0)


def plausibility_bce(scores: Tensor, gold: Tensor, counted: Tensor, positive_weight: float | Tensor) -> Tensor:
    """Binary cross entropy of scores against gold tokens, summed over a row's counted tokens.

    Args:
        scores: logits [R, T].
        gold: gold rationale [R, T].
        counted: attended tokens of rows with gold [R, T].
        positive_weight: negatives / positives over the counted tokens of the global batch.

    Returns:
        Sums [R], at least 0; 0 for rows without counted tokens. The caller divides by the number of counted tokens.
    """
    weight = torch.as_tensor(positive_weight, dtype=scores.dtype, device=scores.device)
    terms = F.binary_cross_entropy_with_logits(scores, gold.to(scores.dtype), pos_weight=weight, reduction="none")
    return terms.masked_fill(~counted, 0.0).sum(1)

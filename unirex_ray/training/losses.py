"""Training losses: pure functions of logits and scores (paper, section 3.2).

Every function returns terms per instance or row; the caller sums them and divides by counts of the global batch.
Shapes: B instances, R rows, T tokens, K thresholds, C classes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy per instance, at least 0: logits [..., B, C], labels [B] to [..., B]."""
    log_probabilities = logits.log_softmax(-1).gather(-1, labels.expand(logits.shape[:-1])[..., None])
    return -log_probabilities.squeeze(-1)


def comprehensiveness_loss(
    full_entropy: Tensor, complement_entropy: Tensor, kind: Literal["margin", "diff"], margin: float
) -> Tensor:
    """Low where removing the rationale hurts the prediction (paper, equations 2 and 4).

    Args:
        full_entropy: cross entropy on x [B], or on the input of each threshold [K, B].
        complement_entropy: on x \\ r^(k) [K, B].

    Returns:
        Mean over thresholds [B]; at least 0 for `margin`, any real number for `diff`.
    """
    difference = full_entropy - complement_entropy
    if kind == "margin":
        difference = difference.clamp(min=-margin) + margin
    return difference.mean(0)


def sufficiency_loss(
    full_entropy: Tensor, rationale_entropy: Tensor, kind: Literal["margin", "diff", "mae"], margin: float
) -> Tensor:
    """Low where the rationale alone suffices for the prediction (paper, equations 5 and 6; MAE: section A.3.1).

    Args:
        full_entropy: cross entropy on x [B], or on the input of each threshold [K, B].
        rationale_entropy: on r^(k) [K, B].

    Returns:
        Mean over thresholds [B]; at least 0 for `margin` and `mae`, any real number for `diff`.
    """
    difference = rationale_entropy - full_entropy
    if kind == "margin":
        difference = difference.clamp(min=-margin) + margin
    elif kind == "mae":
        difference = difference.abs()
    return difference.mean(0)


def sufficiency_kl(full_logits: Tensor, rationale_logits: Tensor) -> Tensor:
    """KL(F_task(r^(k)) ‖ F_task(x)), summed over classes, mean over thresholds: the criterion of SGT.

    Args:
        full_logits: on x [B, C], or on the input of each threshold [K, B, C].
        rationale_logits: on r^(k) [K, B, C].

    Returns:
        At least 0, in nats [B].
    """
    return _kl(rationale_logits.log_softmax(-1), full_logits.log_softmax(-1)).mean(0)


def agreement_loss(rationale_logits: Tensor, attention_logits: Tensor) -> Tensor:
    """Jensen-Shannon divergence of A2R's two predictors, mean over thresholds (Yu et al. 2021).

    Args:
        rationale_logits: of the first, on r^(k) [K, B, C].
        attention_logits: of the second, on x [B, C].

    Returns:
        From 0 to log 2, in nats [B].
    """
    first, second = rationale_logits.log_softmax(-1), attention_logits.log_softmax(-1).expand_as(rationale_logits)
    mixture = torch.logaddexp(first, second) - math.log(2)
    return ((_kl(first, mixture) + _kl(second, mixture)) / 2).mean(0)


def imitation_loss(token_logits: Tensor, classes: Tensor, counted: Tensor) -> Tensor:
    """Cross entropy of L2E's extractor on importance classes, summed over a row's counted tokens.

    Args:
        token_logits: [R, T, number of classes].
        classes: [R, T].
        counted: [R, T].

    Returns:
        Sums [R], at least 0. The caller divides by the number of counted tokens.
    """
    terms = F.cross_entropy(token_logits.flatten(0, 1), classes.flatten(), reduction="none")
    return terms.view_as(classes).masked_fill(~counted, 0.0).sum(1)


def plausibility_bce(scores: Tensor, gold: Tensor, counted: Tensor, positive_weight: float) -> Tensor:
    """Binary cross entropy of scores against gold tokens, summed over a row's counted tokens.

    Args:
        scores: logits [R, T].
        gold: gold rationale [R, T].
        counted: attended tokens of rows with gold [R, T].
        positive_weight: negatives / positives over the counted tokens of the global batch.

    Returns:
        Sums [R], at least 0; 0 for rows without counted tokens. The caller divides by the number of counted tokens.
    """
    weight = scores.new_full((), positive_weight)
    terms = F.binary_cross_entropy_with_logits(scores, gold.to(scores.dtype), pos_weight=weight, reduction="none")
    return terms.masked_fill(~counted, 0.0).sum(1)


def plausibility_kl(scores: Tensor, gold: Tensor, attended: Tensor) -> Tensor:
    """KL(r* / sum r* ‖ softmax of s over attended tokens) per row (paper, section A.3.2).

    Args:
        scores: [R, T].
        gold: gold rationale, False on padding [R, T].
        attended: [R, T].

    Returns:
        At least 0, in nats [R]; 0 for rows without a gold token.
    """
    count = gold.sum(1).clamp(min=1).to(scores.dtype)
    log_share = scores.masked_fill(~attended, -torch.inf).log_softmax(1)
    entropy = -log_share.where(gold, torch.zeros_like(scores)).sum(1) / count
    return (entropy - count.log()).masked_fill(~gold.any(1), 0.0)


def plausibility_linear(scores: Tensor, gold: Tensor, attended: Tensor, margin: float | None) -> Tensor:
    """Mean over attended tokens of (1 - 2 r*) s, or of max(-margin, (1 - 2 r*) s) + margin (paper, section A.3.2).

    Args:
        scores, gold, attended: as for `plausibility_kl`.
        margin: None for the plain form.

    Returns:
        Any real number, with a margin at least 0 [R]; 0 for rows without a gold token.
    """
    terms = torch.where(gold, -scores, scores)
    if margin is not None:
        terms = terms.clamp(min=-margin) + margin
    counted = attended & gold.any(1, keepdim=True)
    return terms.masked_fill(~counted, 0.0).sum(1) / attended.sum(1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q), summed over the last dimension; a class of probability 0 in p adds nothing."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)

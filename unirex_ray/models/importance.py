"""Importance classes, the targets of L2E's extractor (Situ et al. 2021).

Shapes: R rows, T tokens.
"""

from __future__ import annotations

from torch import Tensor

IMPORTANCE_CLASSES = 5


def importance_classes(scores: Tensor, attended: Tensor, choices: int = 1) -> Tensor:
    """Classify scores by cuts at 0 and at the means of the instance's positive and of its negative scores.

    0: s < mean of the negative scores; 1: from there to below 0; 2: 0; 3: above 0 to the mean of the positive scores;
    4: above that.

    Args:
        scores: [R, T].
        attended: [R, T].
        choices: rows per instance, which share their means.

    Returns:
        Whole numbers from 0 to 4 [R, T]; 2 on padding.
    """
    by_instance = scores.masked_fill(~attended, 0.0).double().view(-1, choices, scores.shape[1])
    positive, negative = by_instance > 0, by_instance < 0

    def mean(selected: Tensor) -> Tensor:
        count = selected.sum((1, 2), keepdim=True).clamp(min=1)
        return by_instance.where(selected, 0.0).sum((1, 2), keepdim=True) / count

    above = positive.long() + (positive & (by_instance > mean(positive))).long()
    below = negative.long() + (negative & (by_instance < mean(negative))).long()
    return (IMPORTANCE_CLASSES // 2 + above - below).view(scores.shape)

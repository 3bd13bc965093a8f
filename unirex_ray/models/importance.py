"""Classes of importance: what L2E's extractor learns to tell apart (SPEC, methods).

Shapes: R rows, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

IMPORTANCE_CLASSES = 5


def importance_classes(scores: Tensor, attended: Tensor, choices: int = 1) -> Tensor:
    """Cut scores at 0 and at the means of an instance's positive and negative ones, all of its choices together.

    0: s < mean of the negative scores; 1: from there to below 0; 2: 0; 3: above 0 to the mean of the positive scores;
    4: above that.

    Args:
        scores: [R, T].
        attended: [R, T].
        choices: rows per instance.

    Returns:
        Whole numbers from 0 to 4 [R, T]; 2 on padding.
    """
    by_instance = scores.masked_fill(~attended, 0.0).double().view(-1, choices, scores.shape[1])
    above, below = by_instance > 0, by_instance < 0

    def mean(chosen: Tensor) -> Tensor:
        count = chosen.sum((1, 2), keepdim=True).clamp(min=1)
        return by_instance.where(chosen, 0.0).sum((1, 2), keepdim=True) / count

    classes = torch.full_like(by_instance, IMPORTANCE_CLASSES // 2, dtype=torch.long)
    classes[above] = 3
    classes[above & (by_instance > mean(above))] = 4
    classes[below] = 1
    classes[below & (by_instance < mean(below))] = 0
    return classes.view(scores.shape)

"""Task performance from confusion matrices [..., C, C], with gold classes in rows and predicted ones in columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from unirex_ray.data.schema import TaskMetric


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Counts of (gold, predicted) pairs: labels [B], predicted [B] to [C, C]."""
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes)


def accuracy(confusion: Tensor) -> Tensor:
    """Share of instances on the diagonal, in [0, 1]; higher is better."""
    return _hits(confusion).sum(-1) / confusion.sum((-2, -1))


def binary_f1(confusion: Tensor) -> Tensor:
    """F1 of the second of two classes, in [0, 1]; 0 where it neither occurs nor is predicted (as scikit-learn's)."""
    return _class_f1(confusion)[0][..., 1]


def macro_f1(confusion: Tensor) -> Tensor:
    """Mean F1 over the classes that occur, gold or predicted (as scikit-learn's default), in [0, 1]."""
    f1, occurs = _class_f1(confusion)
    return f1.sum(-1) / occurs.sum(-1)


def _class_f1(confusion: Tensor) -> tuple[Tensor, Tensor]:
    """F1 of each class, 0 for one that does not occur, and whether it occurs [..., C]."""
    either = confusion.sum(-2) + confusion.sum(-1)
    occurs = either > 0
    return 2 * _hits(confusion) / torch.where(occurs, either, torch.ones_like(either)), occurs


def _hits(confusion: Tensor) -> Tensor:
    return confusion.double().diagonal(dim1=-2, dim2=-1)


TASK_SCORES: Mapping[TaskMetric, Callable[[Tensor], Tensor]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "binary_f1": binary_f1,
}


def score_error(score: Callable[[Tensor], Tensor], confusion: Tensor) -> float:
    """Standard error of a score over instances, by the delta method on the multinomial counts of its confusion matrix.

    Of accuracy p over n instances: sqrt(p (1 - p) / n).
    """
    count = float(confusion.sum())
    shares = (confusion.double() / count).requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(score(shares), shares)
    shares = shares.detach()
    variance = float((shares * slope**2).sum() - (shares * slope).sum() ** 2)
    return math.sqrt(max(0.0, variance) / count)

"""Task performance from a confusion matrix [C, C], with gold classes in rows and predicted ones in columns."""

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
    return confusion.diagonal().sum() / confusion.sum()


def binary_f1(confusion: Tensor) -> Tensor:
    """F1 of the second of two classes, in [0, 1]; 0 where it neither occurs nor is predicted (as scikit-learn's)."""
    hits, either = confusion[1, 1], confusion[1].sum() + confusion[:, 1].sum()
    return 2 * hits / either if either > 0 else hits * 0.0


def macro_f1(confusion: Tensor) -> Tensor:
    """Mean F1 over the classes that occur, gold or predicted (as scikit-learn's default), in [0, 1]."""
    hits = confusion.diagonal().double()
    either = confusion.sum(0) + confusion.sum(1)
    occurs = either > 0
    return (2 * hits[occurs] / either[occurs]).mean()


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

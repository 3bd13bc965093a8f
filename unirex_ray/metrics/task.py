"""Task performance from confusion matrices [..., C, C], with gold classes in rows and predicted ones in columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirex_ray.data.schema import TaskMetric

Array = NDArray[Any]


def confusion_matrix(labels: Array, predicted: Array, classes: int) -> Array:
    """Counts of (gold, predicted) pairs: labels [B], predicted [B] to [C, C]."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def accuracy(confusion: Array) -> Array:
    """Share of instances on the diagonal, in [0, 1]; higher is better."""
    share: Array = _hits(confusion).sum(-1) / confusion.sum((-2, -1))
    return share


def binary_f1(confusion: Array) -> Array:
    """F1 of the second of two classes, in [0, 1]; 0 where it neither occurs nor is predicted (as scikit-learn's)."""
    return _class_f1(confusion)[0][..., 1]


def macro_f1(confusion: Array) -> Array:
    """Mean F1 over the classes that occur, gold or predicted (as scikit-learn's default), in [0, 1]."""
    f1, occurs = _class_f1(confusion)
    mean: Array = f1.sum(-1) / occurs.sum(-1)
    return mean


def _class_f1(confusion: Array) -> tuple[Array, Array]:
    """F1 of each class, 0 for one that does not occur, and whether it occurs [..., C]."""
    either = confusion.sum(-2) + confusion.sum(-1)
    occurs = either.real > 0
    return 2 * _hits(confusion) / np.where(occurs, either, 1), occurs


def _hits(confusion: Array) -> Array:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


TASK_SCORES: Mapping[TaskMetric, Callable[[Array], Array]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "binary_f1": binary_f1,
}


def score_error(score: Callable[[Array], Array], confusion: Array) -> float:
    """Standard error of a score over instances, by the delta method on the multinomial counts of its confusion matrix.

    Of accuracy p over n instances: sqrt(p (1 - p) / n).
    """
    count = float(confusion.sum())
    shares = confusion / count
    # Complex steps: the slope by every cell, to the last digit, as no difference of two scores is taken.
    steps = 1e-20j * np.eye(len(shares))
    slope = np.empty_like(shares)
    for row in range(len(shares)):
        stepped = np.repeat(shares[None].astype(complex), len(shares), axis=0)
        stepped[:, row] += steps
        slope[row] = score(stepped).imag / 1e-20
    variance = float((shares * slope**2).sum() - (shares * slope).sum() ** 2)
    return math.sqrt(max(0.0, variance) / count)

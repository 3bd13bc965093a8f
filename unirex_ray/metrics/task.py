"""Task performance from a confusion matrix [C, C], with gold classes in rows and predicted ones in columns."""

from __future__ import annotations

import torch
from torch import Tensor


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Counts of (gold, predicted) pairs: labels [B], predicted [B] to [C, C]."""
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes)


def accuracy(confusion: Tensor) -> float:
    """Share of instances on the diagonal, in [0, 1]; higher is better."""
    return float(confusion.diagonal().sum() / confusion.sum())


def binary_f1(confusion: Tensor) -> float:
    """F1 of the second of two classes, in [0, 1]; 0 where it neither occurs nor is predicted (as scikit-learn's)."""
    hits, either = float(confusion[1, 1]), float(confusion[1].sum() + confusion[:, 1].sum())
    return 2 * hits / either if either else 0.0


def macro_f1(confusion: Tensor) -> float:
    """Mean F1 over the classes that occur, gold or predicted (as scikit-learn's default), in [0, 1]."""
    hits = confusion.diagonal().double()
    either = confusion.sum(0) + confusion.sum(1)
    return float((2 * hits / either)[either > 0].mean())

"""Means over instances and their standard errors, from sums that add up over batches and workers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOMENTS = 6
"""How many sums `moments` keeps."""


def moments(values: Tensor, counts: Tensor | None = None) -> Tensor:
    """Sums over instances from which `mean` and `standard_error` follow; those of two batches add up.

    Args:
        values: of each instance, summed over its rows [B].
        counts: rows that each instance's value is summed over [B]; 0 leaves it out, None is 1 each.

    Returns:
        Instances, and sums of counts, values, values², values · counts and counts² [6], double precision.
    """
    values = values.double()
    counts = torch.ones_like(values) if counts is None else counts.double()
    used = (counts > 0).double()
    columns = (used, counts, values * used, values**2 * used, values * counts, counts**2)
    return torch.stack([column.sum() for column in columns]).cpu()


def mean(sums: Tensor) -> float:
    """Sum of the values over the sum of the counts: the mean over all rows."""
    return float(sums[2] / sums[1])


def standard_error(sums: Tensor) -> float | None:
    """Standard error of `mean` over instances (n - 1; rows of one instance are not independent); None for one of them.

    Of a ratio of sums R = Σa/Σm: sqrt(n/(n - 1) · Σ(a - R m)²) / Σm (Cochran, Sampling Techniques, section 2.11).
    """
    n, counts, values, squares, products, count_squares = (float(column) for column in sums)
    if n < 2:
        return None
    ratio = values / counts
    residuals = max(0.0, squares - 2 * ratio * products + ratio**2 * count_squares)
    return math.sqrt(n / (n - 1) * residuals) / counts

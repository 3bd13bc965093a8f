"""Means over instances that may have several rows each, and their standard errors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def mean(sums: NDArray[np.floating], rows: NDArray[np.integer]) -> float:
    """Mean over all rows.

    Args:
        sums: of each instance, over its rows [N].
        rows: that each instance's sum is over [N]; 0 leaves it out.
    """
    return float(sums.sum() / rows.sum())


def standard_error(sums: NDArray[np.floating], rows: NDArray[np.integer]) -> float | None:
    """Standard error of `mean` over instances (n - 1; rows of one instance are not independent); None for one of them.

    Of a ratio of sums R = Σa/Σm: sqrt(n/(n - 1) · Σ(a - R m)²) / Σm (Cochran, Sampling Techniques, section 2.11).
    """
    n = int(np.count_nonzero(rows))
    if n < 2:
        return None
    residuals = sums - mean(sums, rows) * rows
    return math.sqrt(n / (n - 1) * float(residuals @ residuals)) / int(rows.sum())

"""How far a study's means would move with other annotators and other instances.

Shapes: A annotators, N instances, C conditions, B draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

Array = NDArray[np.float64]

DRAWS = 2000
_BLOCK_VALUES = 10_000_000
"""Most numbers that are held at a time."""
_EDGE = 0.975


def draw_means(values: Array, *, draws: int = DRAWS, seed: int = 0) -> Array:
    """Draw annotators and instances, both with replacement, and take every draw's means anew.

    An answer weighs as often as its annotator was drawn times as often as its instance was (the pigeonhole bootstrap,
    Owen 2007): what is random in single answers counts several times, so that intervals are rather too wide. Of A
    annotators A - 1 are drawn, as A would spread too little by the factor (A - 1) / A, which of five is a lot.

    Args:
        values: of each annotator, instance and condition [A, N, C]; nan where there is no answer. The mean of a
            condition is that of the annotators' means over their instances.
        seed: of the draws.

    Returns:
        Means [B, C], all conditions on the same draws; nan where a draw holds no answer to a condition. With one
        annotator only instances are drawn.
    """
    annotators, instances, conditions = values.shape
    random = np.random.default_rng(seed)
    known = ~np.isnan(values)
    flat = np.where(known, values, 0.0).transpose(1, 0, 2).reshape(instances, -1)
    flat_known = known.transpose(1, 0, 2).reshape(instances, -1).astype(np.float64)
    means, block = [], max(1, _BLOCK_VALUES // max(flat.shape[1], instances))
    for start in range(0, draws, block):
        count = min(block, draws - start)
        of_instances = random.multinomial(instances, np.full(instances, 1 / instances), size=count).astype(np.float64)
        of_people = random.multinomial(max(1, annotators - 1), np.full(annotators, 1 / annotators), size=count)
        sums = (of_instances @ flat).reshape(count, annotators, conditions)
        numbers = (of_instances @ flat_known).reshape(count, annotators, conditions)
        weights = of_people[:, :, None] * (numbers > 0)
        with np.errstate(invalid="ignore"):
            means.append((weights * sums / np.maximum(numbers, 1.0)).sum(1) / weights.sum(1))
    return np.concatenate(means)


def stretched(drawn: Array, observed: float, of_annotators: Array) -> Array:
    """Draws moved away from what was observed, as far as few annotators tell little of how far annotators differ.

    The factor is that of Student's t over the normal distribution at 95 %, at Satterthwaite's degrees of freedom: A - 1
    where all spread is that of annotators, more where it is also that of instances and single answers.

    Args:
        drawn: of one number [B]; nan where a draw has none.
        of_annotators: the same number of each annotator, whose mean it is; nan where one has none.
    """
    known = of_annotators[~np.isnan(of_annotators)]
    spread = float(np.nanvar(drawn))
    if len(known) < 2 or not spread:
        return drawn
    share = min(1.0, float(known.var(ddof=1)) / len(known) / spread)
    factor = t.ppf(_EDGE, (len(known) - 1) / share**2) / norm.ppf(_EDGE) if share else 1.0
    moved: Array = observed + factor * (drawn - observed)
    return moved

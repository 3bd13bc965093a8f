"""Did a model learn anything? Whether it is better than the majority class, and how uniform its predictions are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from scipy.stats import binom, random_table

from unirex_ray.data.schema import TaskMetric
from unirex_ray.metrics.table import MAJORITY_P, MAJORITY_SCORE, TASK_SCORE, TOP_PREDICTION
from unirex_ray.metrics.task import TASK_SCORES, Array

SIGNIFICANCE = 0.05
"""At most this p, and a model counts as better than the majority class."""

PERMUTATIONS = 2000


def verdict(confusion: Array, metric: TaskMetric) -> dict[str, float]:
    """What a table needs to say whether a model learned anything, by metric key.

    Args:
        confusion: one matrix per input that the model predicts from [F, C, C]; the same instances in each.

    Returns:
        `majority_score` (x100), `majority_p` and `top_prediction`, both in [0, 1].
    """
    return {
        MAJORITY_SCORE.key: 100 * majority_score(confusion[0], metric),
        MAJORITY_P.key: majority_p(confusion, metric),
        TOP_PREDICTION.key: float((confusion.sum(1).max(-1) / confusion.sum((1, 2))).mean()),
    }


def majority_score(confusion: Array, metric: TaskMetric) -> float:
    """The score of who always predicts the most frequent gold class, in [0, 1]."""
    gold = confusion.sum(1)
    constant = np.zeros_like(confusion)
    constant[:, int(gold.argmax())] = gold
    return float(TASK_SCORES[metric](constant))


def majority_p(confusion: Array, metric: TaskMetric, *, seed: int = 0) -> float:
    """How likely a score at least as high is for who knows nothing of the instances; low speaks for the model.

    Accuracy: one-sided binomial test of the right predictions against the share of the most frequent gold class. F1:
    permutation test, the predictions dealt out anew among the instances. With several inputs the score is the mean
    over them: of right predictions rounded down, of F1 with the inputs' draws sorted, which no dependence exceeds.
    """
    counts = confusion.round().astype(np.int64)
    size = int(counts[0].sum())
    if metric == "accuracy":
        right = int(counts.diagonal(axis1=1, axis2=2).sum() // len(counts))
        return float(binom.sf(right - 1, size, float(counts[0].sum(1).max()) / size))
    if int((counts[0].sum(1) > 0).sum()) < 2:
        return 1.0  # there is nothing to tell apart
    score = TASK_SCORES[metric]
    draws = []
    for matrix in counts:
        gold, predicted = matrix.sum(1), matrix.sum(0)
        tables = random_table(gold, predicted).rvs(PERMUTATIONS, random_state=np.random.default_rng(seed))
        draws.append(np.sort(score(tables)))
    observed = float(score(counts).mean())
    # Equal scores may differ in their last bits.
    at_least = int(np.sum(np.mean(draws, axis=0) >= observed - 1e-9))
    return (1 + at_least) / (1 + PERMUTATIONS)


def all_better_than_majority(seeds: Iterable[Mapping[str, float]]) -> bool | None:
    """Whether the models of all seeds are better than the majority class; None where that is not known of one."""
    verdicts = [better_than_majority(metrics) for metrics in seeds]
    return None if None in verdicts else all(verdicts)


def better_than_majority(metrics: Mapping[str, float]) -> bool | None:
    """Whether a split's metrics, by key, are of a model that is better than the majority class; None if not known.

    Its score has to be higher, and not by chance: of F1, a score below the majority's may be no accident either.
    """
    p = metrics.get(MAJORITY_P.key)
    if p is None:
        return None
    return p <= SIGNIFICANCE and metrics.get(TASK_SCORE.key, math.inf) > metrics.get(MAJORITY_SCORE.key, -math.inf)

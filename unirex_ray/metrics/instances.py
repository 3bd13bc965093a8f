"""What a model did on each instance of a split, and the split's metrics, which all follow from it.

Shapes: N instances, F inputs that the task model predicts from, K thresholds, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unirex_ray.data.schema import TaskMetric
from unirex_ray.metrics import task
from unirex_ray.metrics.faithfulness import aopc
from unirex_ray.metrics.means import mean, standard_error
from unirex_ray.metrics.table import (
    ACCURACY,
    AUPRC,
    BINARY_F1,
    COMPREHENSIVENESS,
    CONVERGENCE_DELTA,
    CSD,
    LOG_ODDS,
    LOSS,
    MACRO_F1,
    METRIC_TOP_K_PERCENTS,
    STANDARD_ERRORS,
    SUFFICIENCY,
    TASK_SCORE,
    TOKEN_F1,
)
from unirex_ray.metrics.verdict import verdict

Array = NDArray[np.float64]

COMP = tuple(f"comp@{k}" for k in METRIC_TOP_K_PERCENTS)
SUFF = tuple(f"suff@{k}" for k in METRIC_TOP_K_PERCENTS)
AT_EACH_K: Mapping[str, tuple[str, ...]] = {COMPREHENSIVENESS.key: COMP, SUFFICIENCY.key: SUFF}
"""Columns that a metric sums up, by its key: differences of probabilities, in [-1, 1]."""
PREDICTED_AT = tuple(f"predicted@{k}" for k in METRIC_TOP_K_PERCENTS)
PROBABILITY_AT = tuple(f"probability@{k}" for k in METRIC_TOP_K_PERCENTS)
"""Columns of a model that predicts from the rationale of each threshold (A2R): class and probability."""
PLAUSIBILITY = (AUPRC.key, TOKEN_F1.key)
"""Columns x100, means over the instance's rows with gold; nan where it has none."""
OTHERS = (LOSS.key, LOG_ODDS.key, CONVERGENCE_DELTA.key)


@dataclass(frozen=True, kw_only=True, eq=False)
class InstanceResults:
    """What one model did on each instance of a split.

    Attributes:
        ids: of the instances.
        labels: gold classes [N].
        predicted: classes with the highest probability, the mean one where F_task predicts from several inputs [N].
        probability: of those [N].
        tokens: of all rows, special ones included [N].
        gold_rows: rows with a gold rationale [N].
        measured: further columns by name [N]: those of `COMP`, `SUFF`, `PREDICTED_AT`, `PROBABILITY_AT`, `PLAUSIBILITY`
            and `OTHERS` that there are.
        classes: C.
        task_metric: what the corpus calls its task score.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: Array
    tokens: NDArray[np.int64]
    gold_rows: NDArray[np.int64]
    measured: Mapping[str, Array]
    classes: int
    task_metric: TaskMetric

    def __len__(self) -> int:
        """N."""
        return len(self.ids)

    @property
    def votes(self) -> list[NDArray[np.int64]]:
        """Predicted classes from each of the F inputs [N]."""
        at_each = [self.measured[name].astype(np.int64) for name in PREDICTED_AT if name in self.measured]
        return at_each or [self.predicted]

    @property
    def explained(self) -> bool:
        """Whether rationales were extracted and measured."""
        return COMP[0] in self.measured

    def metric(self, key: str) -> tuple[Array, NDArray[np.int64]] | None:
        """A metric that is a mean over rows: its sums over each instance's rows, and their number, [N] each.

        None where it was not measured, or no instance has a gold rationale.
        """
        ones = np.ones(len(self), dtype=np.int64)
        if key in AT_EACH_K:
            columns = [self.measured[name] for name in AT_EACH_K[key] if name in self.measured]
            return (aopc(np.stack(columns)), ones) if columns else None
        if key not in self.measured:
            return None
        if key in PLAUSIBILITY:
            sums: Array = np.where(self.gold_rows > 0, self.measured[key], 0.0) * self.gold_rows
            return (sums, self.gold_rows) if self.gold_rows.any() else None
        return self.measured[key], ones


def confusion_matrices(results: InstanceResults) -> Array:
    """Counts of (gold, predicted) pairs from each input [F, C, C], double precision."""
    counts = [task.confusion_matrix(results.labels, votes, results.classes) for votes in results.votes]
    return np.stack(counts).astype(np.float64)


def split_metrics(results: InstanceResults) -> dict[str, float]:
    """Every metric of the split by key, with standard errors and a verdict where rationales were measured."""
    metrics = mean_metrics(results)
    if not results.explained:
        return metrics
    metrics[CSD.key] = metrics[COMPREHENSIVENESS.key] - metrics[SUFFICIENCY.key]
    matrices = confusion_matrices(results)
    return metrics | _standard_errors(results, matrices) | verdict(matrices, results.task_metric)


def mean_metrics(results: InstanceResults) -> dict[str, float]:
    """Means over instances and the task's scores by key, without the verdict, whose permutations take long."""
    metrics = {}
    for key in (LOSS.key, *AT_EACH_K, *PLAUSIBILITY, LOG_ODDS.key, CONVERGENCE_DELTA.key):
        measured = results.metric(key)
        if measured is not None:
            metrics[key] = mean(*measured)
    return metrics | _task_metrics(confusion_matrices(results), results.task_metric)


def _task_metrics(confusion: Array, task_metric: TaskMetric) -> dict[str, float]:
    """Means over the inputs that F_task predicts from."""
    reported: dict[str, TaskMetric] = {ACCURACY.key: "accuracy", MACRO_F1.key: "macro_f1"}
    if task_metric == "binary_f1":
        reported[BINARY_F1.key] = "binary_f1"
    scores = {
        key: 100 * math.fsum(float(task.TASK_SCORES[name](matrix)) for matrix in confusion) / len(confusion)
        for key, name in reported.items()
    }
    return {TASK_SCORE.key: scores[task_metric], **scores}


def _standard_errors(results: InstanceResults, confusion: Array) -> dict[str, float]:
    """Over instances, of each metric of NRG that there is; over several inputs the mean, which is a bound."""
    score = task.TASK_SCORES[results.task_metric]
    errors = {TASK_SCORE.key: 100 * math.fsum(task.score_error(score, matrix) for matrix in confusion) / len(confusion)}
    for key in (*AT_EACH_K, *PLAUSIBILITY):
        measured = results.metric(key)
        error = None if measured is None else standard_error(*measured)
        if error is not None:
            errors[key] = error
    return {STANDARD_ERRORS[key].key: error for key, error in errors.items()}

"""Agreement of importance scores with a gold rationale, per row; x100 is applied where metrics are reported.

n tokens: the row's attended ones, CLS and SEP included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def auprc(scores: NDArray[np.floating], gold: NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve by the trapezoid rule, equal scores share one threshold; in [0, 1].

    Equals scikit-learn's `auc(recall, precision)` of `precision_recall_curve` (ERASER), not average precision.

    Args:
        scores: any real numbers [n].
        gold: at least one True [n].
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    hits = np.cumsum(gold[order])[last_of_tie]
    recall = np.concatenate([[0.0], hits / hits[-1]])
    precision = np.concatenate([[1.0], hits / (last_of_tie + 1)])
    return float(np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2))


def token_f1(scores: NDArray[np.floating], gold: NDArray[np.bool_]) -> float:
    """Macro-F1 over the classes "in the rationale" and "not in it", where tokens with a score > 0 are in; in [0, 1].

    Args:
        scores: any real numbers [n].
        gold: both classes present [n].
    """
    predicted = scores > 0
    wrong = np.count_nonzero(predicted != gold)
    inside = np.count_nonzero(predicted & gold)
    outside = len(gold) - wrong - inside
    return (2 * inside / (2 * inside + wrong) + 2 * outside / (2 * outside + wrong)) / 2

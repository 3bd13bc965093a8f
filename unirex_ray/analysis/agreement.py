"""Which of our findings the paper has as well: pairs of methods that can be told apart, and its order of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from unirex_ray.analysis.certainty import Certainty, Interval, interval
from unirex_ray.analysis.paper import PaperComparison
from unirex_ray.metrics.table import NRG_METRICS


@dataclass(frozen=True, kw_only=True)
class TellingPair:
    """Two methods that can be told apart here.

    Attributes:
        method, other: the better one first.
        difference: interval of the first one's number minus the other's; it leaves out 0.
        in_paper: the same difference of the paper's numbers.
        agrees: whether the first one is the better one in the paper as well; None where the paper has them equal.
    """

    method: str
    other: str
    difference: Interval
    in_paper: float
    agrees: bool | None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """With the paper.

    Attributes:
        pairs: of methods that both have.
        apart: those that can be told apart here, by metric key; CNRG is among them where Z has no further method.
        spearman: interval of the rank correlation by CNRG, drawn as our CNRG is; None where there is no correlation.
    """

    pairs: int
    apart: Mapping[str, tuple[TellingPair, ...]]
    spearman: Interval | None


def agreement(found: Certainty, beside: PaperComparison) -> Agreement:
    """Hold every pair of methods against the paper's order of it.

    A pair can be told apart where the 95 % interval of its difference over instances and seeds leaves out 0: of
    methods that are equal, one pair in twenty would. The paper's numbers are taken as they are printed.
    """
    rows = {row.method: row for row in beside.rows}
    pairs = [pair for pair in found.pairs if {pair.method, pair.other} <= rows.keys()]
    paper = {method: {**row.paper, "cnrg": row.paper_cnrg} for method, row in rows.items()}
    same_scope = rows.keys() == {*found.drawn.members}
    higher = {metric.key: metric.higher_is_better for metric in NRG_METRICS}
    if same_scope:
        higher["cnrg"] = True
    apart: dict[str, tuple[TellingPair, ...]] = {}
    for key, higher_is_better in higher.items():
        if not pairs or key not in pairs[0].differences:
            continue
        telling = []
        for pair in pairs:
            low, high = pair.differences[key]
            if low <= 0 <= high:
                continue
            first, second, bounds = pair.method, pair.other, (low, high)
            if (low > 0) != higher_is_better:
                first, second, bounds = second, first, (-high, -low)
            in_paper = paper[first][key] - paper[second][key]
            agrees = None if in_paper == 0 else (in_paper > 0) == higher_is_better
            telling.append(TellingPair(method=first, other=second, difference=bounds, in_paper=in_paper, agrees=agrees))
        apart[key] = tuple(telling)
    return Agreement(pairs=len(pairs), apart=apart, spearman=_spearman(found, beside) if same_scope else None)


def _spearman(found: Certainty, beside: PaperComparison) -> Interval | None:
    if beside.spearman is None:
        return None
    paper = {row.method: row.paper_rank for row in beside.rows}
    theirs = rankdata([paper[member] for member in found.drawn.members])
    # As in `compare_with_paper`, scores that are equal in exact arithmetic share a rank; 1 is the highest.
    ours = rankdata(-found.drawn.cnrg.round(9), axis=1)
    ours, theirs = ours - ours.mean(1, keepdims=True), theirs - theirs.mean()
    return interval(ours @ theirs / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs))

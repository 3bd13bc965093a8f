"""Methods over several corpora: means of their scores, and by how much UNIREX beats the rest (paper, section 4.4)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from unirex_ray.analysis.certainty import LEVEL, Interval
from unirex_ray.analysis.compare import Comparison, in_table_order
from unirex_ray.methods import known_method
from unirex_ray.metrics.bootstrap import Draws, share_ahead

SCORES = ("cnrg", "fnrg", "pnrg", "tnrg")
_OURS = "unirex-"

CorpusScores = Mapping[str, Mapping[str, float]]
"""NRG by method and key as in `SCORES`; `pnrg` is missing where a corpus has no gold rationales."""


@dataclass(frozen=True, kw_only=True)
class MeanRow:
    """One method over all corpora.

    Attributes:
        by_corpus: its CNRG on each.
        means: of `SCORES`, unweighted; PNRG over the corpora that have one.
        interval: 95 % bootstrap interval of the mean CNRG; None where a corpus has no draws.
    """

    method: str
    by_corpus: Mapping[str, float]
    means: Mapping[str, float]
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The best UNIREX method of a group against the strongest other one.

    Attributes:
        gain: ratio of their mean CNRG, of three digits each as tables show them, minus one.
        interval: 95 % bootstrap interval of the gain; None without draws, or where the other's mean is 0 in one.
        ahead: share of draws in which UNIREX' mean CNRG is higher, in [0, 1]; None likewise.
    """

    ours: str
    other: str
    gain: float
    interval: Interval | None = None
    ahead: float | None = None


@dataclass(frozen=True, kw_only=True)
class MethodGroup:
    """Methods that do, or do not, learn from gold rationales; rows by falling mean CNRG, unranked ones last.

    Attributes:
        headline: None where one of the two sides is empty, or the other side's mean is 0.
    """

    learns_from_gold: bool
    rows: tuple[MeanRow, ...]
    headline: Headline | None


@dataclass(frozen=True, kw_only=True)
class CorporaComparison:
    """Several corpora, each scored by itself over all of its methods.

    Attributes:
        groups: without and with plausibility optimisation; an empty one is left out.
        missing: methods that some corpora lack, with these corpora.
        without_gold: corpora without gold rationales.
        unranked: methods that are not better than the majority class on some corpus: in no headline.
    """

    corpora: tuple[str, ...]
    groups: tuple[MethodGroup, ...]
    missing: Mapping[str, tuple[str, ...]]
    without_gold: tuple[str, ...]
    unranked: tuple[str, ...]


def compare_corpora(comparisons: Mapping[str, Comparison]) -> CorporaComparison:
    """Put comparisons of several corpora together, by corpus."""
    scores = {
        corpus: {row.method: row.scores.by_key() for row in comparison.rows if row.scores is not None}
        for corpus, comparison in comparisons.items()
    }
    drawn = {c: comparison.certainty.drawn for c, comparison in comparisons.items() if comparison.certainty}
    unranked = {method for comparison in comparisons.values() for method in comparison.unranked}
    return dataset_means(scores, drawn if len(drawn) == len(comparisons) else {}, unranked=unranked)


def dataset_means(
    scores: Mapping[str, CorpusScores], drawn: Mapping[str, Draws] | None = None, *, unranked: Collection[str] = ()
) -> CorporaComparison:
    """Means over the corpora, of the methods that all of them have.

    Args:
        scores: by corpus.
        drawn: bootstrap draws of every corpus, equally many; none: no intervals.
        unranked: methods that may not be in a headline.
    """
    every = in_table_order(dict.fromkeys(method for of_corpus in scores.values() for method in of_corpus))
    missing = {method: tuple(corpus for corpus, known in scores.items() if method not in known) for method in every}
    common = [method for method in every if not missing[method]]
    draws = {method: _mean_draws(drawn, method) for method in common} if drawn else {}
    rows = {method: _row(method, scores, draws.get(method)) for method in common}

    def group(learns_from_gold: bool) -> MethodGroup:
        members = [row for method, row in rows.items() if _learns_from_gold(method) == learns_from_gold]
        ranked = sorted(members, key=lambda row: (row.method in unranked, -row.means["cnrg"]))
        headline = _headline([row for row in ranked if row.method not in unranked], draws)
        return MethodGroup(learns_from_gold=learns_from_gold, rows=tuple(ranked), headline=headline)

    return CorporaComparison(
        corpora=tuple(scores),
        groups=tuple(found for found in (group(False), group(True)) if found.rows),
        missing={method: corpora for method, corpora in missing.items() if corpora},
        without_gold=tuple(c for c, known in scores.items() if not any("pnrg" in row for row in known.values())),
        unranked=tuple(method for method in common if method in unranked),
    )


def _learns_from_gold(method: str) -> bool:
    known = known_method(method)
    return known is not None and known.needs_gold


def _row(method: str, scores: Mapping[str, CorpusScores], draws: np.ndarray | None) -> MeanRow:
    columns = {key: [known[method][key] for known in scores.values() if key in known[method]] for key in SCORES}
    return MeanRow(
        method=method,
        by_corpus={corpus: known[method]["cnrg"] for corpus, known in scores.items()},
        means={key: math.fsum(values) / len(values) for key, values in columns.items() if values},
        interval=None if draws is None else _interval(draws),
    )


def _mean_draws(drawn: Mapping[str, Draws], method: str) -> np.ndarray:
    """Mean CNRG over the corpora on every draw, which are drawn independently [B]."""
    mean: np.ndarray = np.mean([each.cnrg[:, each.members.index(method)] for each in drawn.values()], axis=0)
    return mean


def _headline(ranked: list[MeanRow], draws: Mapping[str, np.ndarray]) -> Headline | None:
    ours = next((row for row in ranked if row.method.startswith(_OURS)), None)
    other = next((row for row in ranked if not row.method.startswith(_OURS)), None)
    if ours is None or other is None or round(other.means["cnrg"], 3) <= 0:
        return None
    shown, theirs_shown = (round(row.means["cnrg"], 3) for row in (ours, other))
    found = Headline(ours=ours.method, other=other.method, gain=shown / theirs_shown - 1)
    if not draws:
        return found
    mine, theirs = draws[ours.method], draws[other.method]
    # A gain over nothing has no bound.
    interval = _interval(mine / theirs - 1) if theirs.min() > 0 else None
    return replace(found, interval=interval, ahead=share_ahead(mine, theirs))


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)

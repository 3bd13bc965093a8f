"""How sure a comparison is, as tables and in words."""

from __future__ import annotations

from typing import Any

from unirex_ray.analysis.certainty import LEVEL, Certainty, Pair
from unirex_ray.analysis.compare import Comparison
from unirex_ray.metrics.table import NRG_METRICS, NRG_SCORES
from unirex_ray.report.table import ReportTable, arrow, marked_label, method_label, method_labels

_PERCENT = f"{LEVEL:.0%}".replace("%", " %")
_FEW_SEEDS = 5
_FEW_NAMES = 3


def certainty_table(comparison: Comparison, found: Certainty) -> ReportTable:
    """One row per scored method: how often it is first, its ranks, and an interval of every score and metric."""
    methods = list(comparison.selected)
    shown = {score.key: (score.label, score.decimals) for score in NRG_SCORES}
    shown |= {metric.key: (arrow(metric), metric.decimals) for metric in NRG_METRICS}
    columns = {
        header: [interval_text(found.intervals[method][key], decimals) for method in methods]
        for key, (header, decimals) in shown.items()
        if key in found.intervals[methods[0]]
    }
    scores = {header: columns.pop(header) for header in [score.label for score in NRG_SCORES] if header in columns}
    scores = {
        "First": [share_text(found.first[method]) for method in methods],
        **({"Ranks": [rank_text(found.ranks[method]) for method in methods]} if found.ranks else {}),
        **scores,
    }
    learned = {row.method: row.learned for row in comparison.rows}
    return ReportTable(
        title=f"{comparison.experiment}: {_PERCENT} intervals on test",
        lead={"Method": [marked_label(method, learned[method]) for method in methods]},
        scores={} if comparison.alone else scores,
        raw=columns,
        remarks=[] if comparison.alone else _rank_remarks(found),
        records=[{"method": method, **certainty_record(found, method)} for method in methods],
    )


def certainty_record(found: Certainty, method: str) -> dict[str, Any]:
    """A method's columns for CSV: bounds of every interval, how often it is first, and its ranks."""
    groups = dict.fromkeys((metric.key for metric in NRG_METRICS), "test")
    bounds = {
        f"{groups.get(key, 'nrg')}/{key}_{end}": value
        for key, interval in found.intervals[method].items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }
    ranks = dict(zip(("rank_best", "rank_worst"), found.ranks[method], strict=True)) if found.ranks else {}
    return {"p_first": found.first[method], **ranks, **bounds}


def pairs_table(comparison: Comparison, found: Certainty) -> ReportTable:
    """How often each method is ahead of each other one; the CSV has a row per pair, with the test on every metric."""
    methods = list(comparison.selected)
    ahead = {(pair.method, pair.other): pair.ahead for pair in found.pairs}
    ahead |= {(other, method): 1 - share for (method, other), share in ahead.items()}
    return ReportTable(
        title=f"{comparison.experiment}: how often the method of a row has a higher CNRG than that of a column, in %",
        lead={
            "#": [str(number) for number in range(1, len(methods) + 1)],
            "Method": [method_label(method) for method in methods],
        },
        scores={},
        raw={
            str(number): ["" if row == column else f"{100 * ahead[row, column]:.0f}" for row in methods]
            for number, column in enumerate(methods, 1)
        },
        remarks=[
            "pairs.csv has p for every pair: of CNRG from these draws, and of each raw metric from a sign-flip test "
            f"over instances, seeds averaged, corrected for {len(found.pairs)} pairs (Holm). It compares trained "
            "models: what other seeds would give is no part of it. It is part of the intervals of the differences "
            "there, which are for one pair at a time."
        ],
        records=[_pair_record(pair) for pair in found.pairs],
    )


def _pair_record(pair: Pair) -> dict[str, Any]:
    raw = {f"p_holm_{key}": value for key, value in pair.raw_p.items()}
    bounds = {
        f"difference_{key}_{end}": value
        for key, interval in pair.differences.items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }
    return {"method": pair.method, "other": pair.other, "ahead": pair.ahead, "p_cnrg": pair.p, **raw, **bounds}


def findings(found: Certainty) -> list[str]:
    """What can be said of the method that stands first among those that are ranked, in words; nothing without one."""
    if not found.ranked:
        return []
    best = found.ranked[0]
    if not found.behind_best:
        return [f"{method_label(best)} is the only method that is ranked."]
    apart = [method for method, p in found.behind_best.items() if p <= 1 - LEVEL]
    open_ones = {method: p for method, p in found.behind_best.items() if method not in apart}
    said = [f"{method_label(best)} has the highest CNRG in {share_text(found.first[best])} of the draws."]
    if open_ones:
        named = ", ".join(f"{method_label(method)} ({p_text(p)})" for method, p in open_ones.items())
        said.append(f"{method_label(best)} cannot be told apart from {named}.")
    if apart:
        behind = method_labels(apart)
        if len(apart) > _FEW_NAMES:
            behind = f"the {len(apart)} others" if open_ones else f"all {len(apart)} others"
        said.append(f"{method_label(best)} is ahead of {behind} (p ≤ {1 - LEVEL:.2f}).")
    return said


def one_seed(found: Certainty) -> list[str]:
    """The warning that one seed deserves; nothing where every method has several."""
    if min(found.seeds.values()) > 1:
        return []
    return [
        "WITH ONE SEED, how far another seed moves a method is in no interval and no p: sweep several "
        "(--sweep.seeds=0,1,2)."
    ]


def certainty_remarks(found: Certainty) -> list[str]:
    """What the intervals are, and what they leave out."""
    counts = sorted(set(found.seeds.values()))
    over = f"{found.instances:,} test instances"
    over += "" if counts == [1] else f" and {'/'.join(map(str, counts))} seeds"
    remarks = [
        f"{_PERCENT} intervals and shares: {found.draws:,} bootstrap draws of {over}, NRG over the same methods in "
        "every draw. Neither the selection on dev is done again, nor that of the method that stands first."
    ]
    return [*remarks, *one_seed(found), *few_seeds(counts[0])]


def few_seeds(fewest: int) -> list[str]:
    """What a few seeds do to intervals; nothing for one, of which more is to be said, and for many."""
    if not 1 < fewest < _FEW_SEEDS:
        return []
    return [
        f"{fewest} seeds tell little of their spread: where seeds move a metric twice as far as instances do, "
        "such intervals hold the truth in 90 % of cases (unirex_ray/benchmarks)."
    ]


def _rank_remarks(found: Certainty) -> list[str]:
    remarks = [
        "First: share of the draws with the highest CNRG, among methods that are better than the majority class."
    ]
    if found.tau:
        left_out = min(found.tau, key=lambda method: found.tau[method])
        remarks.append(
            "Ranks: lowest and highest while each other method is left out of Z in turn. The order changes most "
            f"without {method_label(left_out)} (Kendall's τ {found.tau[left_out]:.2f} with the full one)."
        )
    return remarks


def interval_text(interval: tuple[float, float], decimals: int) -> str:
    """Both bounds, never a negative zero."""
    low, high = interval
    return f"{low:z.{decimals}f} to {high:z.{decimals}f}"


def share_text(share: float) -> str:
    """In percent; what rounds to 0 or 100 without being it is said so."""
    if 0 < share < 0.005:
        return "< 1 %"
    return "> 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def rank_text(ranks: tuple[int, int]) -> str:
    """One rank, or from which to which."""
    low, high = ranks
    return str(low) if low == high else f"{low} to {high}"


def p_text(p: float) -> str:
    """`p = ` and two digits; small ones as a bound."""
    return "p < 0.01" if p < 0.01 else f"p = {p:.2f}"

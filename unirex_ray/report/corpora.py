"""Methods over several corpora, as a table, in words and as the paper's Figures 4 to 6."""

from __future__ import annotations

from itertools import chain
from typing import Any

from matplotlib.figure import Figure

from unirex_ray.analysis.corpora import SCORES, CorporaComparison, Headline, MeanRow, MethodGroup
from unirex_ray.report.certainty import interval_text, p_text
from unirex_ray.report.plots import bars_figure
from unirex_ray.report.table import (
    NOT_BETTER,
    ReportTable,
    bold_best,
    group_breaks,
    marked_label,
    method_label,
    method_labels,
    score_text,
)

_MEAN = "Dataset mean"
_GROUPS = {False: "without plausibility optimisation", True: "with plausibility optimisation"}


def corpora_table(found: CorporaComparison, title: str = "Dataset means of NRG") -> ReportTable:
    """One row per method that all corpora have, in two groups: CNRG by corpus, and the means.

    Args:
        title: whose results these are.
    """
    rows = list(chain.from_iterable(group.rows for group in found.groups))
    group_of = [group.learns_from_gold for group in found.groups for _ in group.rows]
    means = {key: [row.means.get(key) for row in rows] for key in SCORES}

    eligible = [row.method not in found.unranked for row in rows]

    def column(values: list[float | None]) -> Any:
        return bold_best(map(score_text, values), values, higher_is_better=True, eligible=eligible)

    scores = {"CNRG": column(means["cnrg"])}
    if any(row.interval for row in rows):
        scores["95 %"] = [interval_text(row.interval, 2) if row.interval else "" for row in rows]
    scores |= {key.upper(): column(means[key]) for key in SCORES[1:] if any(v is not None for v in means[key])}
    return ReportTable(
        title=f"{title}: {', '.join(found.corpora)}",
        lead={"Method": [_label(found, row) for row in rows]},
        scores=scores,
        raw={f"CNRG {corpus}": column([row.by_corpus[corpus] for row in rows]) for corpus in found.corpora},
        remarks=_remarks(found),
        breaks=group_breaks([str(group) for group in group_of]),
        records=[
            {
                "method": row.method,
                "label": method_label(row.method),
                "plausibility_optimisation": learns,
                **{f"mean/{key}": value for key, value in row.means.items()},
                **({"mean/cnrg_low": row.interval[0], "mean/cnrg_high": row.interval[1]} if row.interval else {}),
                **{f"{corpus}/cnrg": value for corpus, value in row.by_corpus.items()},
            }
            for row, learns in zip(rows, group_of, strict=True)
        ],
    )


def headline_text(group: MethodGroup, headline: Headline) -> str:
    """What UNIREX gains in a group, in words."""
    ours, other, named = method_label(headline.ours), method_label(headline.other), _GROUPS[group.learns_from_gold]
    if headline.gain <= 0:
        said = f"{ours}, the best of UNIREX {named}, does not beat {other}: {100 * headline.gain:z.1f} %"
    else:
        said = f"{ours} beats the strongest baseline {named} ({other}) by {100 * headline.gain:.1f} %"
    if headline.ahead is None:
        return f"{said} (no interval)."
    p = 2 * min(headline.ahead, 1 - headline.ahead)
    chance = "" if p <= 0.05 else "; this may be chance"
    bounds = "no interval"
    if headline.interval is not None:
        low, high = (100 * bound for bound in headline.interval)
        bounds = f"95 % interval {low:z.1f} to {high:z.1f} %"
    return f"{said} ({bounds}, {p_text(p)}{chance})."


def _remarks(found: CorporaComparison) -> list[str]:
    remarks = [headline_text(group, group.headline) for group in found.groups if group.headline]
    remarks.append(
        "Unweighted means over the corpora; NRG over all methods of a corpus, with and without plausibility "
        "optimisation. Gains are ratios of the means as shown, with three digits; which two methods they compare was "
        "chosen by the same results."
    )
    if found.without_gold:
        remarks.append(f"No gold rationales, so that PNRG is over the other corpora: {', '.join(found.without_gold)}.")
    if found.missing:
        left_out = "; ".join(f"{method_label(m)} ({', '.join(corpora)})" for m, corpora in found.missing.items())
        remarks.append(f"Left out, for want of results on some corpus: {left_out}.")
    if found.unranked:
        remarks.append(
            f"{NOT_BETTER} not better than the majority class on some corpus, and so the best of nothing: "
            f"{method_labels(found.unranked)}."
        )
    return remarks


def _label(found: CorporaComparison, row: MeanRow) -> str:
    return marked_label(row.method, row.method not in found.unranked)


def corpora_figures(found: CorporaComparison) -> dict[str, Figure]:
    """The paper's Figures 4 (CNRG without plausibility optimisation), 5 (with) and 6 (desiderata), by name."""
    figures = {}
    for group in found.groups:
        labels, rows, kind = (
            [_label(found, row) for row in group.rows],
            group.rows,
            _GROUPS[group.learns_from_gold],
        )
        means = {key: [row.means[key] for row in rows] for key in SCORES if all(key in row.means for row in rows)}
        by_corpus = {corpus: [row.by_corpus[corpus] for row in rows] for corpus in found.corpora}
        name = kind.partition(" ")[0]
        figures[f"cnrg_{name}_plausibility"] = bars_figure(
            labels,
            {**by_corpus, _MEAN: means.pop("cnrg")},
            {_MEAN: [row.interval for row in rows]},
            f"CNRG of methods {kind}",
        )
        named = {key.upper(): values for key, values in means.items()}
        figures[f"desiderata_{name}_plausibility"] = bars_figure(
            labels, named, {}, f"Mean over corpora, methods {kind}"
        )
    return figures

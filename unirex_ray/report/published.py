"""Our methods and the paper's published results, as a table."""

from __future__ import annotations

from collections import Counter

from rich.text import Text

from unirex_ray.analysis.agreement import Agreement
from unirex_ray.analysis.paper import PaperComparison
from unirex_ray.metrics.table import NRG_METRICS
from unirex_ray.report.certainty import interval_text
from unirex_ray.report.table import (
    Columns,
    ReportTable,
    arrow,
    constant_labels,
    method_label,
    method_labels,
    number_text,
    score_text,
)


def published_table(comparison: PaperComparison) -> ReportTable:
    """One row per method that the paper has as well: CNRG, rank and raw metrics, ours and the paper's.

    In the CSV, `paper/` keys are the paper's raw metrics, and `moved` is how many ranks higher ours is.
    """
    rows = comparison.rows
    return ReportTable(
        title=f"Beside the paper's results (UNIREX, Tables 6-10); NRG over the methods that both have: {len(rows)}",
        lead={"Method": [method_label(row.method) for row in rows]},
        scores={
            "CNRG": [score_text(row.cnrg) for row in rows],
            "Paper's CNRG": [score_text(row.paper_cnrg) for row in rows],
            "Rank": [str(row.rank) for row in rows],
            "Paper's rank": [str(row.paper_rank) for row in rows],
            "Moved": [_moved(row.moved) for row in rows],
        },
        raw=_raw_columns(comparison),
        raw_group=2,
        remarks=_remarks(comparison),
        records=[
            {
                "method": row.method,
                "label": method_label(row.method),
                "cnrg": row.cnrg,
                "paper_cnrg": row.paper_cnrg,
                "rank": row.rank,
                "paper_rank": row.paper_rank,
                "moved": row.moved,
                **{metric.on("test"): row.ours.get(metric.key) for metric in NRG_METRICS},
                **{f"paper/{metric.key}": row.paper.get(metric.key) for metric in NRG_METRICS},
            }
            for row in rows
        ],
    )


def agreement_table(found: Agreement) -> ReportTable:
    """One row per metric: how many pairs of methods can be told apart here, and how the paper orders these.

    The CSV has a row per such pair, the better method first.
    """
    shown = {metric.key: arrow(metric) for metric in NRG_METRICS} | {"cnrg": "CNRG"}
    keys = sorted(found.apart, key=lambda key: key != "cnrg")
    counts = {key: Counter(pair.agrees for pair in found.apart[key]) for key in keys}
    remarks = [
        "Told apart: the 95 % interval of the difference, over instances and seeds, leaves out 0; of pairs of equal "
        "methods, one in twenty would be. The paper's numbers are taken as printed, whatever their own noise.",
    ]
    if found.spearman is not None:
        remarks.append(f"Rank correlation by CNRG: {interval_text(found.spearman, 2)} over the draws.")
    return ReportTable(
        title=f"The paper's order of {found.pairs} pairs of methods",
        lead={"By": [shown[key] for key in keys]},
        scores={
            "Told apart": [str(len(found.apart[key])) for key in keys],
            "As in the paper": [str(counts[key][True]) for key in keys],
            "The other way round": [str(counts[key][False]) for key in keys],
            "Equal in the paper": [str(counts[key][None]) for key in keys],
        },
        raw={},
        remarks=remarks,
        records=[
            {
                "metric": key,
                "method": pair.method,
                "other": pair.other,
                "difference_low": pair.difference[0],
                "difference_high": pair.difference[1],
                "difference_in_paper": pair.in_paper,
                "agrees": pair.agrees,
            }
            for key in keys
            for pair in found.apart[key]
        ],
    )


def _raw_columns(comparison: PaperComparison) -> Columns:
    """Each column of ours is followed by the paper's."""
    columns = {}
    for metric in NRG_METRICS:
        for header, sides in (
            (arrow(metric), [row.ours for row in comparison.rows]),
            (f"Paper's {metric.label}", [row.paper for row in comparison.rows]),
        ):
            columns[header] = [number_text(side.get(metric.key), metric.decimals) for side in sides]
    return columns


def _moved(ranks: int) -> str | Text:
    return Text(f"{'▲' if ranks > 0 else '▼'}{abs(ranks)}", style="bold") if ranks else "same"


def _remarks(comparison: PaperComparison) -> list[str]:
    """How the rankings agree, and which methods only one side has."""
    remarks = []
    if any(row.moved for row in comparison.rows):
        remarks.append("▲ ranked higher here than in the paper, ▼ lower.")
    if comparison.spearman is not None:
        rank_correlation = f"{comparison.spearman:z.2f} ({len(comparison.rows)} methods)"
        remarks.append(f"Spearman's rank correlation of the two rankings: {rank_correlation}.")
    elif comparison.rows:
        remarks.append("No rank correlation: it takes five methods whose scores differ.")
    for side, population in (("here", comparison.ours), ("in the paper", comparison.paper)):
        if population.constant:
            equal = f"All of them are equal on {constant_labels(population)} {side}"
            remarks.append(f"{equal}: each gets NRG 0.0 there.")
    if comparison.rows and not comparison.ours.plausibility:
        remarks.append("There are no plausibility metrics here: PNRG is left out of both CNRG.")
    if not comparison.rows:
        remarks.append("No method is both here and in the paper.")
    if comparison.left_out:
        labels = method_labels(comparison.left_out)
        remarks.append(
            f"Left out, as not better than the majority class or with a metric that is not finite: {labels}."
        )
    only_paper = [method for method in comparison.only_paper if method not in comparison.left_out]
    for side, methods in (("here", comparison.only_ours), ("in the paper", only_paper)):
        if methods:
            remarks.append(f"Only {side}: {method_labels(methods)}.")
    return remarks

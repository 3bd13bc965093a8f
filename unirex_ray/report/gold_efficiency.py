"""Plausibility by the share of gold rationales, as a table; `plots` has the figure."""

from __future__ import annotations

from unirex_ray.analysis.gold_efficiency import GoldEfficiency
from unirex_ray.metrics.table import AUPRC
from unirex_ray.report.table import Column, ReportTable, method_label, method_labels, metric_column, over_seeds


def gold_efficiency_table(efficiency: GoldEfficiency) -> ReportTable:
    """One row per method, one column per share: test AUPRC, mean ± std over seeds.

    In the CSV a method that uses no gold rationales has one row, without a percent.
    """
    curves = efficiency.curves
    over = over_seeds(point.seeds for curve in curves for point in curve.points)
    first, *further = ((percent_text(percent), _column(efficiency, percent)) for percent in efficiency.percents)
    return ReportTable(
        title=f"Test {AUPRC.label} ↑ by the share of train instances with gold rationales, {over}",
        lead={"Method": [method_label(curve.method) for curve in curves]},
        scores=dict([first]),
        raw=dict(further),
        remarks=_remarks(efficiency),
        records=[
            {
                "method": curve.method,
                "label": method_label(curve.method),
                "gold_percent": point.percent,
                AUPRC.on("test"): point.auprc,
                f"{AUPRC.on('test')}_std": point.std,
                "seeds": list(point.seeds),
                "configuration": point.configuration,
                "candidates": point.candidates,
            }
            for curve in curves
            for point in curve.points
        ],
    )


def percent_text(percent: float) -> str:
    """A share for people, e.g. `0.5%`."""
    return f"{percent:g}%"


def _column(efficiency: GoldEfficiency, percent: float) -> Column:
    points = [curve.at(percent) for curve in efficiency.curves]
    means = [{AUPRC.key: point.auprc} if point else {} for point in points]
    return metric_column(AUPRC, means, [{AUPRC.key: point.std} if point else {} for point in points])


def _remarks(efficiency: GoldEfficiency) -> list[str]:
    """Constant rows, choices within a share, and what is missing."""
    remarks = []
    constant = [curve.method for curve in efficiency.curves if curve.constant]
    if constant:
        remarks.append(f"No gold rationales are used, at any share, by {method_labels(constant)}.")
    if any(point.candidates > 1 for curve in efficiency.curves for point in curve.points):
        remarks.append("Of several configurations of one method and share, the best by dev CNRG is shown.")
    remarks += [
        f"{method_label(curve.method)} has no complete configuration at {', '.join(map(percent_text, curve.missing))}."
        for curve in efficiency.curves
        if curve.missing
    ]
    if efficiency.unknown:
        remarks.append(f"Left out, because data.gold_percent was not varied: {method_labels(efficiency.unknown)}.")
    return remarks

"""Plausibility by the share of gold rationales, as a table; `plots` has the figure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from unirex_ray.analysis.gold_efficiency import GoldEfficiency
from unirex_ray.metrics.table import AUPRC
from unirex_ray.report.table import (
    Columns,
    markdown_table,
    marked,
    method_label,
    number_text,
    over_seeds,
    plus_minus,
    print_columns,
)


def print_efficiency(efficiency: GoldEfficiency | None, out: Console) -> None:
    """One row per method, one column per share: test AUPRC, mean ± std over seeds; nothing where there is none."""
    if efficiency is None:
        return
    columns: Columns = {
        header: [(cell, "bold" if best else "") for cell, best in cells]
        for header, cells in _columns(efficiency).items()
    }
    first, *_ = columns
    lead: Columns = {"Method": [(method_label(curve.method), "") for curve in efficiency.curves]}
    rest: Columns = {header: cells for header, cells in columns.items() if header != first}
    ends = [False] * len(efficiency.curves)
    print_columns(out, _title(efficiency), lead, {first: columns[first]}, rest, ends)
    for remark in efficiency_remarks(efficiency):
        out.print(Text(remark))


def efficiency_markdown(efficiency: GoldEfficiency) -> str:
    """The table of `print_efficiency` in Markdown, with its remarks below it."""
    methods = [curve.method for curve in efficiency.curves]
    return markdown_table(_title(efficiency), methods, _columns(efficiency), efficiency_remarks(efficiency))


def efficiency_remarks(efficiency: GoldEfficiency) -> list[str]:
    """What a reader has to know beside the numbers: constant rows, choices within a share, and what is missing."""
    remarks = []
    constant = [curve.method for curve in efficiency.curves if curve.constant]
    if constant:
        remarks.append(f"No gold rationales are used, at any share, by {_listed(constant)}.")
    if any(point.candidates > 1 for curve in efficiency.curves for point in curve.points):
        remarks.append("Of several configurations of one method and share, the best by dev CNRG is shown.")
    remarks += [
        f"{method_label(curve.method)} has no complete configuration at {', '.join(map(percent_text, curve.missing))}."
        for curve in efficiency.curves
        if curve.missing
    ]
    if efficiency.unknown:
        remarks.append(f"Left out, because data.gold_percent was not varied: {_listed(efficiency.unknown)}.")
    return remarks


def efficiency_rows(efficiency: GoldEfficiency) -> list[dict[str, Any]]:
    """The same as flat rows for CSV; methods that use no gold rationales have one row without a percent."""
    return [
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
        for curve in efficiency.curves
        for point in curve.points
    ]


def percent_text(percent: float) -> str:
    """A share for people, e.g. `0.5%`."""
    return f"{percent:g}%"


def _title(efficiency: GoldEfficiency) -> str:
    over = over_seeds(point.seeds for curve in efficiency.curves for point in curve.points)
    return f"Test {AUPRC.label} ↑ by the share of train instances with gold rationales, {over}"


def _columns(efficiency: GoldEfficiency) -> dict[str, list[tuple[str, bool]]]:
    """Header -> per method the cell and whether it is the column's best."""
    columns = {}
    for percent in efficiency.percents:
        points = [curve.at(percent) for curve in efficiency.curves]
        values = [point.auprc if point else None for point in points]
        cells = [
            number_text(point.auprc, AUPRC.decimals) + plus_minus(point.std, AUPRC.decimals) if point else ""
            for point in points
        ]
        columns[percent_text(percent)] = marked(cells, values, higher_is_better=AUPRC.higher_is_better)
    return columns


def _listed(methods: Iterable[str]) -> str:
    return ", ".join(map(method_label, methods))

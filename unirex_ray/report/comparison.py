"""The leaderboard of a sweep and the comparison of methods, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.text import Text

from unirex_ray.analysis.compare import Comparison, Row, score_metrics
from unirex_ray.analysis.leaderboard import Place
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.report.table import (
    Columns,
    arrow,
    constant_labels,
    markdown_table,
    marked,
    method_label,
    number_text,
    over_seeds,
    parameters_text,
    plus_minus,
    print_columns,
    raw_columns,
    score_text,
)

_NRG_LABELS = {"cnrg": "CNRG", "fnrg": "FNRG", "pnrg": "PNRG", "tnrg": "TNRG"}


def print_leaderboard(places: Sequence[Place], out: Console) -> None:
    """One row per configuration: rank and CNRG within its method, sampled parameters, mean dev metrics.

    Where the console is too narrow for all columns, the raw metrics follow in tables of their own.
    """
    means = [place.configuration.mean("dev") for place in places]
    shown = [metric for metric in NRG_METRICS if any(metric.key in mean for mean in means)]
    lead = {
        "#": ["-" if place.rank is None else str(place.rank) for place in places],
        "Method": [method_label(p.configuration.method) + (" *" if p.best else "") for p in places],
        "Config": [place.configuration.key for place in places],
    }
    scores = {
        "Parameters": [place.note or parameters_text(place.configuration.parameters) for place in places],
        "CNRG": [score_text(place.scores.cnrg if place.scores else None) for place in places],
        "Global": [score_text(place.global_cnrg) for place in places],
    }
    raw = {arrow(m): [number_text(mean.get(m.key), m.decimals) for mean in means] for m in shown}
    styles = ["bold" if place.best else "dim" if place.rank is None else "" for place in places]

    def styled(columns: Mapping[str, list[str]]) -> Columns:
        return {header: list(zip(cells, styles, strict=True)) for header, cells in columns.items()}

    ends = [a.configuration.method != b.configuration.method for a, b in pairwise(places)] + [False]
    print_columns(
        out,
        "Leaderboard (dev, mean over seeds)",
        styled(lead),
        styled(scores),
        styled(raw),
        ends,
    )
    out.print("* best configuration. CNRG compares configurations of one method, Global the methods' best ones.")


def print_comparison(comparison: Comparison, out: Console) -> None:
    """One row per method: NRG and raw test metrics (mean ± std over seeds), the best of each column in bold.

    Where the console is too narrow for all columns, the raw metrics follow in tables of their own.
    """
    columns = {
        header: [(cell, "bold" if best else "") for cell, best in cells]
        for header, cells in _comparison_columns(comparison).items()
    }
    scores = {header: cells for header, cells in columns.items() if header in (*_NRG_LABELS.values(), "Configs")}
    raw = {header: cells for header, cells in columns.items() if header not in scores}
    lead = {"Method": [(method_label(row.method), "") for row in comparison.rows]}
    print_columns(out, _comparison_title(comparison), lead, scores, raw, [False] * len(comparison.rows))
    for remark in comparison_remarks(comparison):
        out.print(Text(remark))


def comparison_markdown(comparison: Comparison) -> str:
    """The table of `print_comparison` in Markdown, with what is left out below it."""
    return markdown_table(
        _comparison_title(comparison),
        [row.method for row in comparison.rows],
        _comparison_columns(comparison),
        comparison_remarks(comparison),
    )


def comparison_remarks(comparison: Comparison) -> list[str]:
    """What a reader has to know beside the numbers: constant metrics, missing rationales, and what is unscored."""
    remarks = []
    if comparison.population.constant:
        remarks.append(f"All methods are equal on {constant_labels(comparison.population)}: each gets NRG 0.0 there.")
    if comparison.population.scores and not comparison.population.plausibility:
        remarks.append("The corpus has no gold rationales: PNRG is left out of CNRG.")
    remarks += [f"Unscored: {what} ({why})." for what, why in comparison.unscored]
    return remarks


def leaderboard_rows(places: Sequence[Place]) -> list[dict[str, Any]]:
    """Flat rows for CSV; no timings, so that equal sweeps give equal files."""
    rows = []
    for place in places:
        config = place.configuration
        rows.append(
            {
                "method": config.method,
                "rank": place.rank,
                "configuration": config.key,
                "best": place.best,
                "cnrg": place.scores.cnrg if place.scores else None,
                "fnrg": place.scores.fnrg if place.scores else None,
                "pnrg": place.scores.pnrg if place.scores else None,
                "tnrg": place.scores.tnrg if place.scores else None,
                "global_cnrg": place.global_cnrg,
                "seeds": [record.spec.seed for record in config.records if record.status == "completed"],
                **config.parameters,
                **raw_columns(config, "dev"),
                "note": place.note,
            }
        )
    return rows


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Flat rows for CSV: NRG, raw means and standard deviations, and where they come from."""
    return [
        {
            "method": row.method,
            "label": method_label(row.method),
            **(TrialMetrics(nrg=score_metrics(row.scores)).flat() if row.scores else {}),
            **raw_columns(row.configuration, "test"),
            "seeds": [record.spec.seed for record in row.configuration.records],
            "configuration": row.configuration.key,
            "candidates": row.candidates,
            "dev_cnrg": row.dev_cnrg,
            "parameters": dict(row.configuration.parameters),
            "sweep": row.configuration.sweep or comparison.sweeps[0],
            "data_digest": comparison.digest,
        }
        for row in comparison.rows
    ]


def _comparison_title(comparison: Comparison) -> str:
    over = over_seeds([record.spec.seed for record in row.configuration.records] for row in comparison.rows)
    return f"{comparison.experiment}: test, {over}; NRG over {len(comparison.population.scores)} methods"


def _comparison_columns(comparison: Comparison) -> dict[str, list[tuple[str, bool]]]:
    """Header -> per row the cell and whether it is the column's best."""
    rows = comparison.rows
    means = [row.configuration.mean("test") for row in rows]
    stds = [row.configuration.std("test") for row in rows]
    columns: dict[str, list[tuple[str, bool]]] = {}
    for key, label in _NRG_LABELS.items():
        values = [_nrg(row, key) for row in rows]
        if any(value is not None for value in values):
            columns[label] = marked([score_text(value) for value in values], values, higher_is_better=True)
    columns["Configs"] = [(str(row.candidates), False) for row in rows]
    for metric in NRG_METRICS:
        values = [mean.get(metric.key) for mean in means]
        if any(value is not None for value in values):
            cells = [
                number_text(value, metric.decimals) + plus_minus(std.get(metric.key), metric.decimals)
                for value, std in zip(values, stds, strict=True)
            ]
            columns[arrow(metric)] = marked(cells, values, higher_is_better=metric.higher_is_better)
    return columns


def _nrg(row: Row, key: str) -> float | None:
    return None if row.scores is None else getattr(row.scores, key)

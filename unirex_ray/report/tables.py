"""Tables for people (rich, Markdown) and for programs (CSV)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unirex_ray.compare import Comparison, Row, score_metrics
from unirex_ray.methods import METHODS
from unirex_ray.metrics.table import METRICS, NRG_METRICS, Metric, Split
from unirex_ray.report.leaderboard import Place
from unirex_ray.selection import Configuration

_Columns = dict[str, list[tuple[str, str]]]
"""Header -> per row the cell's text and style."""

_PLAIN_WIDTH = 240
_NRG_LABELS = {"cnrg": "CNRG", "fnrg": "FNRG", "pnrg": "PNRG", "tnrg": "TNRG"}


def console() -> Console:
    """Rich on a terminal; elsewhere plain text, wide enough that no row is broken."""
    detected = Console(highlight=False)
    return detected if detected.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def method_label(method: str) -> str:
    """The method's row name in the paper, or its own name where this version does not know it."""
    return METHODS[method].label if method in METHODS else method


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
        "CNRG": [_score(place.scores.cnrg if place.scores else None) for place in places],
        "Global": [_score(place.global_cnrg) for place in places],
    }
    raw = {_arrow(m): [_number(mean.get(m.key), m.decimals) for mean in means] for m in shown}
    styles = ["bold" if place.best else "dim" if place.rank is None else "" for place in places]

    def styled(columns: Mapping[str, list[str]]) -> _Columns:
        return {header: list(zip(cells, styles, strict=True)) for header, cells in columns.items()}

    ends = [a.configuration.method != b.configuration.method for a, b in pairwise(places)] + [False]
    _print(
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
    _print(out, _comparison_title(comparison), lead, scores, raw, [False] * len(comparison.rows))
    for remark in comparison_remarks(comparison):
        out.print(Text(remark))


def comparison_markdown(comparison: Comparison) -> str:
    """The table of `print_comparison` in Markdown, with what is left out below it."""
    columns = _comparison_columns(comparison)
    lines = [
        f"{_comparison_title(comparison)}",
        "",
        "| Method | " + " | ".join(columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for index, row in enumerate(comparison.rows):
        cells = [f"**{cells[index][0]}**" if cells[index][1] else cells[index][0] for cells in columns.values()]
        lines.append("| " + " | ".join([_escape(method_label(row.method)), *cells]) + " |")
    remarks = comparison_remarks(comparison)
    return "\n".join([*lines, "", *(f"- {_escape(remark)}" for remark in remarks)]).rstrip() + "\n"


def comparison_remarks(comparison: Comparison) -> list[str]:
    """What a reader has to know beside the numbers: constant metrics, missing rationales, and what is unscored."""
    labels = {metric.key: metric.label for metric in METRICS}
    remarks = []
    if comparison.population.constant:
        constant = ", ".join(labels[key] for key in comparison.population.constant)
        remarks.append(f"All methods are equal on {constant}: each gets NRG 0.0 there.")
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
                **_raw_columns(config, "dev"),
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
            **(score_metrics(row.scores) if row.scores else {}),
            **_raw_columns(row.configuration, "test"),
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


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV with the union of all columns, in the order of first appearance.

    None is an empty cell, floats have all their digits, lists and mappings are JSON.
    """
    header = list(dict.fromkeys(key for row in rows for key in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(row.get(key)) for key in header] for row in rows)
    return stream.getvalue()


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Sampled parameters on one line; the section is left out where the last part is unique."""
    last = [key.rpartition(".")[2] for key in parameters]
    return " ".join(
        f"{short if last.count(short) == 1 else key}={_value(value)}"
        for (key, value), short in zip(parameters.items(), last, strict=True)
    )


def _print(out: Console, title: str, lead: _Columns, scores: _Columns, raw: _Columns, ends: Sequence[bool]) -> None:
    """Print one table; where that is too wide, one of the scores and as few as will do of the raw metrics."""
    if _fits(out, _table(title, {**lead, **scores, **raw}, ends)):
        out.print(_table(title, {**lead, **scores, **raw}, ends))
        return
    out.print(_table(title, {**lead, **scores}, ends))
    part: _Columns = {}
    for header, cells in raw.items():
        if part and not _fits(out, _table("", {**lead, **part, header: cells}, ends)):
            out.print(_table("", {**lead, **part}, ends))
            part = {}
        part[header] = cells
    if part:
        out.print(_table("", {**lead, **part}, ends))


def _fits(out: Console, table: Table) -> bool:
    return out.measure(table, options=out.options.update(width=1000)).maximum <= out.width


def _table(title: str, columns: _Columns, ends: Sequence[bool]) -> Table:
    table = Table(title=Text(title, style="bold") if title else None, box=box.SIMPLE_HEAD, title_justify="left")
    for header in columns:
        words = header in ("Method", "Parameters", "Config")
        table.add_column(header, justify="left" if words else "right", overflow="fold", no_wrap=header != "Parameters")
    for end, *cells in zip(ends, *columns.values(), strict=True):
        table.add_row(*(Text(cell, style=style) for cell, style in cells), end_section=end)
    return table


def _comparison_title(comparison: Comparison) -> str:
    seeds = sorted({len(row.configuration.records) for row in comparison.rows})
    over = f"mean ± std over {'/'.join(map(str, seeds))} seeds" if seeds != [1] else "one seed"
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
            columns[label] = _marked([_score(value) for value in values], values, higher_is_better=True)
    columns["Configs"] = [(str(row.candidates), False) for row in rows]
    for metric in NRG_METRICS:
        values = [mean.get(metric.key) for mean in means]
        if any(value is not None for value in values):
            cells = [
                _number(value, metric.decimals) + _plus_minus(std.get(metric.key), metric.decimals)
                for value, std in zip(values, stds, strict=True)
            ]
            columns[_arrow(metric)] = _marked(cells, values, higher_is_better=metric.higher_is_better)
    return columns


def _nrg(row: Row, key: str) -> float | None:
    return None if row.scores is None else getattr(row.scores, key)


def _marked(cells: Sequence[str], values: Sequence[float | None], *, higher_is_better: bool) -> list[tuple[str, bool]]:
    known = [value for value in values if value is not None]
    best = (max if higher_is_better else min)(known)
    distinct = len(set(known)) > 1
    return [(cell, distinct and value == best) for cell, value in zip(cells, values, strict=True)]


def _raw_columns(config: Configuration, split: Split) -> dict[str, float]:
    mean, std = config.mean(split), config.std(split)
    known = [metric for metric in METRICS if metric.key in mean]
    columns = {}
    for metric in known:
        columns[metric.on(split)] = mean[metric.key]
        columns[f"{metric.on(split)}_std"] = std[metric.key]
    return columns


def _arrow(metric: Metric) -> str:
    return f"{metric.label} {'↑' if metric.higher_is_better else '↓'}"


def _score(value: float | None) -> str:
    return _number(value, 3)


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:z.{decimals}f}"


def _plus_minus(std: float | None, decimals: int) -> str:
    return "" if std is None or math.isnan(std) else f" ± {std:.{decimals}f}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

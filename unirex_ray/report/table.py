"""How tables are laid out: columns of cells, printed (rich), as Markdown, as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unirex_ray.analysis.selection import Configuration
from unirex_ray.data.schema import Split
from unirex_ray.methods import METHODS
from unirex_ray.metrics.nrg import Population
from unirex_ray.metrics.table import METRICS, Metric

Columns = dict[str, list[tuple[str, str]]]
"""Header -> per row the cell's text and style."""

_PLAIN_WIDTH = 240


def console() -> Console:
    """Rich on a terminal; elsewhere plain text, wide enough that no row is broken."""
    detected = Console(highlight=False)
    return detected if detected.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def method_label(method: str) -> str:
    """The method's row name in the paper, or its own name where this version does not know it."""
    return METHODS[method].label if method in METHODS else method


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


def print_columns(
    out: Console,
    title: str,
    lead: Columns,
    scores: Columns,
    raw: Columns,
    ends: Sequence[bool],
    *,
    together: int = 1,
) -> None:
    """Print one table; where that is too wide, one of the scores and as few as will do of the raw metrics.

    Args:
        together: so many raw columns in a row stay in one table.
    """
    if _fits(out, _table(title, {**lead, **scores, **raw}, ends)):
        out.print(_table(title, {**lead, **scores, **raw}, ends))
        return
    out.print(_table(title, {**lead, **scores}, ends))
    part: Columns = {}
    headers = list(raw)
    for start in range(0, len(headers), together):
        group = {header: raw[header] for header in headers[start : start + together]}
        if part and not _fits(out, _table("", {**lead, **part, **group}, ends)):
            out.print(_table("", {**lead, **part}, ends))
            part = {}
        part |= group
    if part:
        out.print(_table("", {**lead, **part}, ends))


def _fits(out: Console, table: Table) -> bool:
    return out.measure(table, options=out.options.update(width=1000)).maximum <= out.width


def _table(title: str, columns: Columns, ends: Sequence[bool]) -> Table:
    table = Table(title=Text(title, style="bold") if title else None, box=box.SIMPLE_HEAD, title_justify="left")
    for header in columns:
        words = header in ("Method", "Parameters", "Config", "Task", "Dataset")
        table.add_column(header, justify="left" if words else "right", overflow="fold", no_wrap=header != "Parameters")
    for end, *cells in zip(ends, *columns.values(), strict=True):
        table.add_row(*(Text(cell, style=style) for cell, style in cells), end_section=end)
    return table


def markdown_table(
    title: str, methods: Sequence[str], columns: Mapping[str, Sequence[tuple[str, bool]]], remarks: Sequence[str]
) -> str:
    """A table with one row per method, marked cells in bold, and remarks below; without columns the remarks alone."""
    lines = [title, ""]
    if columns:
        lines += ["| Method | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
        for index, method in enumerate(methods):
            cells = [f"**{cells[index][0]}**" if cells[index][1] else cells[index][0] for cells in columns.values()]
            lines.append("| " + " | ".join([escape(method_label(method)), *cells]) + " |")
        lines.append("")
    return "\n".join([*lines, *(f"- {escape(remark)}" for remark in remarks)]).rstrip() + "\n"


def marked(cells: Sequence[str], values: Sequence[float | None], *, higher_is_better: bool) -> list[tuple[str, bool]]:
    """Cells, and which of them is the best of its column: none where all are equal."""
    known = [value for value in values if value is not None]
    best = (max if higher_is_better else min)(known)
    distinct = len(set(known)) > 1
    return [(cell, distinct and value == best) for cell, value in zip(cells, values, strict=True)]


def raw_columns(config: Configuration, split: Split) -> dict[str, float]:
    """Mean and standard deviation over seeds of every metric of a split, by logged key, for CSV."""
    mean, std = config.mean(split), config.std(split)
    known = [metric for metric in METRICS if metric.key in mean]
    columns = {}
    for metric in known:
        columns[metric.on(split)] = mean[metric.key]
        columns[f"{metric.on(split)}_std"] = std[metric.key]
    return columns


def arrow(metric: Metric) -> str:
    """A metric's column header, with its better direction."""
    return f"{metric.label} {'↑' if metric.higher_is_better else '↓'}"


def score_text(value: float | None) -> str:
    """An NRG score; empty where there is none."""
    return number_text(value, 3)


def number_text(value: float | None, decimals: int) -> str:
    """A number, never a negative zero; empty where there is none."""
    return "" if value is None else f"{value:z.{decimals}f}"


def plus_minus(std: float | None, decimals: int) -> str:
    """A standard deviation behind its mean; empty for one seed."""
    return "" if std is None or math.isnan(std) else f" ± {std:.{decimals}f}"


def over_seeds(seeds: Iterable[Sequence[int]]) -> str:
    """What numbers are taken over, e.g. `mean ± std over 3 seeds`, or `2/3 seeds` where they differ."""
    counts = sorted({len(each) for each in seeds})
    return "one seed" if counts == [1] else f"mean ± std over {'/'.join(map(str, counts))} seeds"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value)


def escape(text: str) -> str:
    """Text that breaks no Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def constant_labels(population: Population) -> str:
    """Labels of the metrics on which all members are equal."""
    labels = {metric.key: metric.label for metric in METRICS}
    return ", ".join(labels[key] for key in population.constant)

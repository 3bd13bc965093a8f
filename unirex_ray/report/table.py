"""Tables of results: one `ReportTable` is printed to a terminal (rich), as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unirex_ray.analysis.construction import by_construction
from unirex_ray.analysis.selection import Configuration
from unirex_ray.data.schema import Split
from unirex_ray.methods import known_method
from unirex_ray.metrics.nrg import Population
from unirex_ray.metrics.table import METRICS, STANDARD_ERRORS, Metric

Column = Sequence[str | Text]
"""One cell per row; bold text is bold in Markdown as well. A bold part of a cell is a highlight, in [brackets] where no
terminal is."""

Columns = Mapping[str, Column]
"""By header, from left to right."""

_LEFT_ALIGNED = (
    "Method",
    "Ablation",
    "Parameters",
    "Setting",
    "Config",
    "Task",
    "Dataset",
    "Question",
    "Other",
    "Prediction",
    "Ranking",
    "Better / worse in",
    "Annotator",
)
_WRAPPED = ("Parameters", "Rationale", "Remarks")
"""Columns of words that take more than a line."""
_PLAIN_WIDTH = 240


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """One table in three forms. Without rows it has no header either, only its remarks.

    Attributes:
        lead: columns that name a row; repeated in every part of a table that is too wide for the terminal.
        scores: columns of the first part, or parts.
        raw: columns that are spread over further parts.
        raw_group: number of consecutive raw columns that stay in one part.
        remarks: sentences below the table.
        breaks: indices of the rows that are followed by a blank line in the terminal.
        records: rows of the CSV, with every digit and columns of their own.
    """

    title: str
    lead: Columns
    scores: Columns
    raw: Columns
    raw_group: int = 1
    remarks: Sequence[str] = ()
    breaks: Collection[int] = ()
    records: Sequence[Mapping[str, Any]] = ()

    def print(self, out: Console) -> None:
        """Print one table, or as few parts as fit into the width of the terminal, and the remarks."""
        for part in (self if out.is_terminal else self._bracketed())._parts(out):
            out.print(part)
        for remark in self.remarks:
            out.print(Text(remark))

    def markdown(self) -> str:
        """Title, table and a list of the remarks; bold cells stay bold."""
        lines = [self.title, ""]
        if rows := list(zip(*self.columns.values(), strict=True)):
            rule = ["---" if is_left_aligned(header) else "---:" for header in self.columns]
            lines += [f"| {' | '.join(self.columns)} |", f"|{'|'.join(rule)}|"]
            lines += [f"| {' | '.join(map(_markdown, row))} |" for row in rows] + [""]
        return "\n".join([*lines, *(f"- {_escape(remark)}" for remark in self.remarks)]).rstrip() + "\n"

    def latex(self) -> str:
        """A table for LaTeX's booktabs; bold cells stay bold, and the remarks are comments."""
        headers = list(self.columns)
        alignment = "".join(map(_latex_column, headers))
        lines = [f"% {_latex(self.title)}", f"\\begin{{tabular}}{{{alignment}}}", "\\toprule"]
        lines += [f"{' & '.join(map(_latex, headers))} \\\\", "\\midrule"]
        for index, row in enumerate(zip(*self.columns.values(), strict=True)):
            lines += [f"{' & '.join(map(_latex_cell, row))} \\\\", *(["\\midrule"] if index in self.breaks else [])]
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *(f"% {remark}" for remark in self.remarks)]) + "\n"

    def csv(self) -> str:
        """The records (see `to_csv`)."""
        return to_csv(self.records)

    @property
    def columns(self) -> Columns:
        """All of them, from left to right."""
        return {**self.lead, **self.scores, **self.raw}

    def _bracketed(self) -> ReportTable:
        lead, scores, raw = (
            {header: [_brackets(cell) for cell in cells] for header, cells in columns.items()}
            for columns in (self.lead, self.scores, self.raw)
        )
        return replace(self, lead=lead, scores=scores, raw=raw)

    def _parts(self, out: Console) -> Iterator[Table]:
        if not any(self.columns.values()):
            return
        complete = self._table(self.columns, self.title)
        if _fits(complete, out):
            yield complete
            return
        raw = list(self.raw)
        of_raw = [raw[start : start + self.raw_group] for start in range(0, len(raw), self.raw_group)]
        yield from self._spread([[header] for header in self.scores], out, self.title)
        yield from self._spread(of_raw, out, "" if self.scores else self.title)

    def _spread(self, groups: Sequence[Sequence[str]], out: Console, title: str) -> Iterator[Table]:
        """Parts with as many groups of columns as fit, at least one: what is too wide would be cut, numbers as well."""
        part = dict(self.lead)
        for group in groups:
            added = {header: self.columns[header] for header in group}
            if len(part) > len(self.lead) and not _fits(self._table({**part, **added}), out):
                yield self._table(part, title)
                part, title = dict(self.lead), ""
            part |= added
        if groups:
            yield self._table(part, title)

    def _table(self, columns: Columns, title: str = "") -> Table:
        table = Table(title=Text(title, style="bold") if title else None, box=box.SIMPLE_HEAD, title_justify="left")
        for header in columns:
            justify: Literal["left", "right"] = "left" if is_left_aligned(header) else "right"
            table.add_column(header, justify=justify, overflow="fold", no_wrap=not is_wrapped(header))
        for index, cells in enumerate(zip(*columns.values(), strict=True)):
            texts = [Text(cell) if isinstance(cell, str) else cell for cell in cells]
            table.add_row(*texts, end_section=index in self.breaks)
        return table


def is_left_aligned(header: str) -> bool:
    """Whether a column holds words rather than numbers."""
    return header in _LEFT_ALIGNED or is_wrapped(header)


def is_wrapped(header: str) -> bool:
    """Whether a column holds words that take more than a line."""
    return header in _WRAPPED


def is_bold(cell: str | Text) -> bool:
    """Whether a cell stands out, on paper as well."""
    return isinstance(cell, Text) and "bold" in str(cell.style).split()


def stretches(cell: str | Text) -> list[tuple[str, bool]]:
    """A cell cut where bold begins and ends: each stretch, and whether it is."""
    if isinstance(cell, str) or is_bold(cell):
        return [(str(cell), is_bold(cell))]
    found, offset = list[tuple[str, bool]](), 0
    for span in sorted(cell.spans):
        found += [(cell.plain[offset : span.start], False), (cell.plain[span.start : span.end], True)]
        offset = span.end
    return [(text, bold) for text, bold in [*found, (cell.plain[offset:], False)] if text]


def _brackets(cell: str | Text) -> str | Text:
    if isinstance(cell, str) or is_bold(cell):
        return cell
    return "".join(f"[{text}]" if bold else text for text, bold in stretches(cell))


def _fits(table: Table, out: Console) -> bool:
    return out.measure(table, options=out.options.update(width=1000)).maximum <= out.width


def _markdown(cell: str | Text) -> str:
    return "".join(f"**{_escape(text)}**" if bold and text else _escape(text) for text, bold in stretches(cell))


_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≤": r"$\leq$",
    "†": r"$^\dagger$",
    "<": "$<$",
    ">": "$>$",
    "\n": " ",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_cell(cell: str | Text) -> str:
    return "".join(f"\\textbf{{{_latex(text)}}}" if bold and text else _latex(text) for text, bold in stretches(cell))


def _latex_column(header: str) -> str:
    if header == "Rationale":
        return r"p{0.5\linewidth}"
    return "l" if is_left_aligned(header) else "r"


def _escape(text: str) -> str:
    """For Markdown, whose readers take tags for HTML."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text).replace("|", "\\|").replace("\n", " ")


def console() -> Console:
    """Rich on a terminal; elsewhere plain text, wide enough that no row is broken."""
    detected = Console(highlight=False, emoji=False)  # a path may hold :x:
    return detected if detected.is_terminal else Console(highlight=False, emoji=False, width=_PLAIN_WIDTH)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV with the union of all columns, in the order of first appearance.

    None is an empty cell, floats have all their digits, lists and mappings are JSON.
    """
    header = list(dict.fromkeys(key for row in rows for key in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_csv_cell(row.get(key)) for key in header] for row in rows)
    return stream.getvalue()


def _csv_cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value)


def group_breaks(groups: Sequence[str]) -> set[int]:
    """Indices of the rows after which another group begins (for example, another method)."""
    return {index for index, (group, following) in enumerate(pairwise(groups)) if group != following}


def bold_best(
    cells: Iterable[str],
    values: Sequence[float | None],
    *,
    higher_is_better: bool,
    eligible: Sequence[bool] | None = None,
) -> Column:
    """A column with its best cells in bold; none where all values are equal.

    Args:
        eligible: which cells may be bold; None: all.
    """
    allowed = [True] * len(values) if eligible is None else eligible
    known = [value for value, may in zip(values, allowed, strict=True) if may and value is not None and value == value]
    best = (max if higher_is_better else min)(known) if len(set(known)) > 1 else None
    return [
        Text(cell, style="bold") if may and value is not None and value == best else cell
        for cell, value, may in zip(cells, values, allowed, strict=True)
    ]


def metric_column(
    metric: Metric,
    means: Sequence[Mapping[str, float]],
    stds: Sequence[Mapping[str, float]],
    eligible: Sequence[bool] | None = None,
) -> Column:
    """Mean ± std of one metric per row, by metric key; the best in bold (see `bold_best`)."""
    values = [mean.get(metric.key) for mean in means]
    cells = [number_text(value, metric.decimals, std.get(metric.key)) for value, std in zip(values, stds, strict=True)]
    return bold_best(cells, values, higher_is_better=metric.higher_is_better, eligible=eligible)


def metric_columns(
    metrics: Iterable[Metric], rows: Sequence[Configuration], eligible: Sequence[bool] | None = None
) -> Columns:
    """Test metrics of one configuration per row; a metric that none of them has is left out.

    What a method's construction decides is not in bold.

    Args:
        eligible: see `bold_best`.
    """
    means, stds = [row.mean("test") for row in rows], [row.std("test") for row in rows]
    may_be_best = [True] * len(rows) if eligible is None else eligible
    constructed = [by_construction(row.method) for row in rows]

    def earned(metric: Metric) -> list[bool]:
        return [may and metric not in given for may, given in zip(may_be_best, constructed, strict=True)]

    return {
        arrow(metric): metric_column(metric, means, stds, earned(metric))
        for metric in metrics
        if any(metric.key in mean for mean in means)
    }


def raw_metrics(configuration: Configuration, split: Split) -> dict[str, float | bool]:
    """Mean and standard deviation over seeds of every metric of a split, by logged key, for CSV.

    Standard errors over instances and the verdict stand with them where they were recorded.
    """
    mean, std = configuration.mean(split), configuration.std(split)
    columns: dict[str, float | bool] = {}
    for metric in METRICS:
        if metric.key in mean:
            columns[metric.on(split)] = mean[metric.key]
            columns[f"{metric.on(split)}_std"] = std[metric.key]
        if metric.key in STANDARD_ERRORS and (error := STANDARD_ERRORS[metric.key]).key in mean:
            columns[error.on(split)] = mean[error.key]
    verdict = configuration.better_than_majority(split)
    return columns if verdict is None else {**columns, f"{split}/better_than_majority": verdict}


def method_label(method: str) -> str:
    """The method's row name in the paper, or its own name where this version does not know it."""
    known = known_method(method)
    return known.label if known else method


def marked_label(method: str, learned: bool | None) -> str:
    """A method's label, marked where its models are not better than the majority class."""
    return f"{method_label(method)} {NOT_BETTER}" if learned is False else method_label(method)


def method_labels(methods: Iterable[str]) -> str:
    """Labels on one line."""
    return ", ".join(map(method_label, methods))


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Sampled parameters on one line; the section is left out where the last part is unique."""
    last = [key.rpartition(".")[2] for key in parameters]
    return " ".join(
        f"{short if last.count(short) == 1 else key}={f'{value:.4g}' if isinstance(value, float) else value}"
        for (key, value), short in zip(parameters.items(), last, strict=True)
    )


def arrow(metric: Metric) -> str:
    """A metric's column header, with its better direction."""
    return f"{metric.label} {'↑' if metric.higher_is_better else '↓'}"


def score_text(value: float | None) -> str:
    """An NRG score; empty where there is none."""
    return number_text(value, 3)


def number_text(value: float | None, decimals: int, std: float | None = None) -> str:
    """A number, never a negative zero, ± its standard deviation (nan for one seed); empty where there is none."""
    deviation = "" if std is None or math.isnan(std) else f" ± {std:.{decimals}f}"
    return "" if value is None else f"{value:z.{decimals}f}{deviation}"


def over_seeds(seeds: Iterable[Sequence[int]]) -> str:
    """What numbers are taken over, e.g. `mean ± std over 3 seeds`, or `2/3 seeds` where they differ."""
    counts = sorted({len(of_one) for of_one in seeds})
    return "one seed" if counts == [1] else f"mean ± std over {'/'.join(map(str, counts))} seeds"


def constant_labels(population: Population) -> str:
    """Labels of the metrics on which all members are equal."""
    return metric_labels(population.constant)


def metric_labels(keys: Iterable[str]) -> str:
    """Labels of metrics on one line."""
    labels = {metric.key: metric.label for metric in METRICS}
    return ", ".join(labels[key] for key in keys)


NOT_BETTER = "†"
"""Marks a row whose models are not better than the majority class."""

NOT_BETTER_MEANS = f"{NOT_BETTER} not better than the majority class (one-sided test at 5%, of every seed)"
NOT_BETTER_REMARK = f"{NOT_BETTER_MEANS}: such a method is ranked last, and is not the best of anything."

TIE_RULE = "By CNRG without the floor for noise, the paper's order of methods and the lower number"
"""See `analysis.selection.rank`."""


def noise_remark(populations: Mapping[str, Population]) -> list[str]:
    """Which metrics count as constant because they vary by less than their noise, by what was compared, in words."""
    parts = [
        f"{name}: {metric_labels(population.noise)}" for name, population in populations.items() if population.noise
    ]
    if not parts:
        return []
    return [f"Range below twice the standard error over instances, so that NRG is 0.0 there: {'; '.join(parts)}."]

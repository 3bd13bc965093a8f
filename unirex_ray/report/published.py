"""Our methods beside the paper's published results."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from unirex_ray.analysis.paper import PaperComparison
from unirex_ray.metrics.table import NRG_METRICS
from unirex_ray.report.table import (
    arrow,
    constant_labels,
    markdown_table,
    method_label,
    number_text,
    print_columns,
    score_text,
)


def print_published(beside: PaperComparison, out: Console) -> None:
    """One row per method that the paper has as well: CNRG, rank and raw metrics, ours and the paper's.

    Where the console is too narrow for all columns, the raw metrics follow in tables of their own.
    """
    if beside.rows:
        scores, raw = (
            {header: [(cell, "bold" if marked else "") for cell, marked in cells] for header, cells in columns.items()}
            for columns in (_rank_columns(beside), _paired_columns(beside))
        )
        lead = {"Method": [(method_label(row.method), "") for row in beside.rows]}
        print_columns(out, _published_title(beside), lead, scores, raw, [False] * len(beside.rows), together=2)
    for remark in published_remarks(beside):
        out.print(Text(remark))


def published_markdown(beside: PaperComparison) -> str:
    """The table of `print_published` in Markdown, with its remarks below it."""
    columns = {**_rank_columns(beside), **_paired_columns(beside)} if beside.rows else {}
    return markdown_table(
        _published_title(beside), [row.method for row in beside.rows], columns, published_remarks(beside)
    )


def published_remarks(beside: PaperComparison) -> list[str]:
    """What a reader has to know beside the numbers: how the rankings agree, and which methods only one side has."""
    remarks = []
    if any(row.moved for row in beside.rows):
        remarks.append("▲ ranked higher here than in the paper, ▼ lower.")
    if beside.spearman is not None:
        over = len(beside.rows)
        remarks.append(f"Spearman's rank correlation of the two rankings: {beside.spearman:z.2f} ({over} methods).")
    for where, population in (("here", beside.ours), ("in the paper", beside.paper)):
        if population.constant:
            equal = f"All of them are equal on {constant_labels(population)} {where}"
            remarks.append(f"{equal}: each gets NRG 0.0 there.")
    if beside.rows and not beside.ours.plausibility:
        remarks.append("There are no plausibility metrics here: PNRG is left out of both CNRG.")
    if not beside.rows:
        remarks.append("No method is both here and in the paper.")
    for where, methods in (("here", beside.only_ours), ("in the paper", beside.only_paper)):
        if methods:
            remarks.append(f"Only {where}: {', '.join(map(method_label, methods))}.")
    return remarks


def published_rows(beside: PaperComparison) -> list[dict[str, Any]]:
    """Flat rows for CSV; `paper/` keys are the paper's raw metrics, `moved` is how many ranks higher ours is."""
    return [
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
        for row in beside.rows
    ]


def _published_title(beside: PaperComparison) -> str:
    return f"Beside the paper's results (UNIREX, Tables 6-10); NRG over the methods that both have: {len(beside.rows)}"


def _rank_columns(beside: PaperComparison) -> dict[str, list[tuple[str, bool]]]:
    """Header -> per row the cell and whether it is marked: where the ranking differs."""
    rows = beside.rows
    return {
        "CNRG": [(score_text(row.cnrg), False) for row in rows],
        "Paper's CNRG": [(score_text(row.paper_cnrg), False) for row in rows],
        "Rank": [(str(row.rank), False) for row in rows],
        "Paper's rank": [(str(row.paper_rank), False) for row in rows],
        "Moved": [(_moved(row.moved), row.moved != 0) for row in rows],
    }


def _paired_columns(beside: PaperComparison) -> dict[str, list[tuple[str, bool]]]:
    """Raw metrics likewise: each column of ours is followed by the paper's."""
    columns = {}
    for metric in NRG_METRICS:
        columns[arrow(metric)] = [
            (number_text(row.ours.get(metric.key), metric.decimals), False) for row in beside.rows
        ]
        columns[f"Paper's {metric.label}"] = [
            (number_text(row.paper.get(metric.key), metric.decimals), False) for row in beside.rows
        ]
    return columns


def _moved(ranks: int) -> str:
    return "same" if ranks == 0 else f"{'▲' if ranks > 0 else '▼'}{abs(ranks)}"

"""Trained models on corpora that they were not trained on, in the form of the paper's Table 2."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from rich.console import Console
from rich.text import Text

from unirex_ray.analysis.transfer import TASK_NAMES, TRANSFER_METRICS, TransferRow
from unirex_ray.metrics.table import TASK_SCORE, Metric
from unirex_ray.report.table import (
    Columns,
    arrow,
    escape,
    marked,
    method_label,
    number_text,
    over_seeds,
    plus_minus,
    print_columns,
)
from unirex_ray.tracking.records import SAME_LABELS


def print_transfer(rows: Sequence[TransferRow], out: Console) -> None:
    """One row per corpus and method: mean ± std over seeds, the best of each corpus in bold; nothing without rows.

    Where the console is too narrow for all columns, most metrics follow in tables of their own.
    """
    if not rows:
        return
    lead: Columns = {header: [(cell, "") for cell in cells] for header, cells in _lead(rows).items()}
    columns: Columns = {
        header: [(cell, "bold" if best else "") for cell, best in cells] for header, cells in _columns(rows).items()
    }
    first, *_ = columns
    rest: Columns = {header: cells for header, cells in columns.items() if header != first}
    ends = [one.dataset != other.dataset for one, other in pairwise(rows)] + [False]
    print_columns(out, _title(rows), lead, {first: columns[first]}, rest, ends)
    for remark in transfer_remarks(rows):
        out.print(Text(remark))


def transfer_markdown(rows: Sequence[TransferRow]) -> str:
    """The table of `print_transfer` in Markdown, with its remarks below it; empty without rows."""
    if not rows:
        return ""
    lead = {header: [escape(cell) for cell in cells] for header, cells in _lead(rows).items()}
    metrics = {
        header: [f"**{cell}**" if best else cell for cell, best in cells] for header, cells in _columns(rows).items()
    }
    lines = [
        f"| {' | '.join([*lead, *metrics])} |",
        "|" + "---|" * len(lead) + "---:|" * len(metrics),
        *(f"| {' | '.join(cells)} |" for cells in zip(*lead.values(), *metrics.values(), strict=True)),
    ]
    remarks = [f"- {escape(remark)}" for remark in transfer_remarks(rows)]
    return "\n".join([_title(rows), "", *lines, *([""] if remarks else []), *remarks]) + "\n"


def transfer_remarks(rows: Sequence[TransferRow]) -> list[str]:
    """What a reader has to know beside the numbers: what labels and task scores mean, and what was not evaluated."""
    tasks = [f"{short}: {name}" for short, name in TASK_NAMES.items() if any(row.task == short for row in rows)]
    remarks = [f"{'; '.join(tasks)}."] if tasks else []
    remarks += _labels(rows)
    by_metric: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.task_metric and row.dataset not in by_metric[row.task_metric]:
            by_metric[row.task_metric].append(row.dataset)
    if by_metric:
        told = (f"{metric} on {', '.join(datasets)}" for metric, datasets in by_metric.items())
        remarks.append(f"Task score: {'; '.join(told)}.")
    methods = list(dict.fromkeys(row.method for row in rows))
    for dataset, of_dataset in _by_dataset(rows):
        remarks += [
            f"{method_label(row.method)} on {dataset}: seeds {_numbers(row.missing)} are not evaluated."
            if len(row.missing) > 1
            else f"{method_label(row.method)} on {dataset}: seed {_numbers(row.missing)} is not evaluated."
            for row in of_dataset
            if row.missing
        ]
        here = {row.method for row in of_dataset}
        absent = [method_label(method) for method in methods if method not in here]
        if absent:
            remarks.append(f"Not evaluated on {dataset}: {', '.join(absent)}.")
    return remarks


def transfer_csv_rows(rows: Sequence[TransferRow]) -> list[dict[str, Any]]:
    """Flat rows for CSV: raw means and standard deviations, and what they are taken over."""
    return [
        {
            "trained_on": row.trained_on,
            "task": row.task,
            "corpus": row.corpus,
            "digest": row.digest,
            "split": row.split,
            "method": row.method,
            "label": method_label(row.method),
            **_raw(row),
            "task_metric": row.task_metric,
            "seeds": list(row.seeds),
            "missing_seeds": list(row.missing),
            "labels_stand_for": "; ".join(row.labels),
        }
        for row in rows
    ]


def _title(rows: Sequence[TransferRow]) -> str:
    sources = ", ".join(dict.fromkeys(row.trained_on for row in rows))
    return f"Trained on {sources}: faithfulness and task score by corpus, {over_seeds(row.seeds for row in rows)}"


def _by_dataset(rows: Sequence[TransferRow]) -> list[tuple[str, list[TransferRow]]]:
    return [(dataset, list(group)) for dataset, group in groupby(rows, key=lambda row: row.dataset)]


def _lead(rows: Sequence[TransferRow]) -> dict[str, list[str]]:
    """Task and dataset stand in the first row of each dataset alone, as in the paper."""
    firsts = [True] + [one.dataset != other.dataset for one, other in pairwise(rows)]
    return {
        "Task": [row.task if first else "" for row, first in zip(rows, firsts, strict=True)],
        "Dataset": [row.dataset if first else "" for row, first in zip(rows, firsts, strict=True)],
        "Method": [method_label(row.method) for row in rows],
    }


def _columns(rows: Sequence[TransferRow]) -> dict[str, list[tuple[str, bool]]]:
    """Header -> per row the cell and whether it is the best of its dataset."""
    return {
        "Task score ↑" if metric is TASK_SCORE else arrow(metric): [
            cell for _, of_dataset in _by_dataset(rows) for cell in _cells(of_dataset, metric)
        ]
        for metric in TRANSFER_METRICS
        if any(metric.key in row.mean for row in rows)
    }


def _cells(rows: Sequence[TransferRow], metric: Metric) -> list[tuple[str, bool]]:
    values = [row.mean.get(metric.key) for row in rows]
    cells = [
        number_text(value, metric.decimals) + plus_minus(row.std.get(metric.key), metric.decimals)
        for row, value in zip(rows, values, strict=True)
    ]
    known = any(value is not None for value in values)
    return marked(cells, values, higher_is_better=metric.higher_is_better) if known else [("", False)] * len(rows)


def _raw(row: TransferRow) -> Mapping[str, float]:
    columns = {}
    for metric in TRANSFER_METRICS:
        if metric.key in row.mean:
            columns[metric.key] = row.mean[metric.key]
            columns[f"{metric.key}_std"] = row.std[metric.key]
    return columns


def _labels(rows: Sequence[TransferRow]) -> list[str]:
    """One line per dataset; where models differ in what their labels stand for, each way with its methods."""
    remarks = []
    for dataset, of_dataset in _by_dataset(rows):
        methods: dict[str, list[str]] = defaultdict(list)
        for row in of_dataset:
            for labels in row.labels:
                methods[labels].append(method_label(row.method))
        told = [
            labels if len(methods) == 1 else f"{labels} ({', '.join(of_labels)})"
            for labels, of_labels in methods.items()
        ]
        if told and told != [SAME_LABELS]:
            remarks.append(f"Labels on {dataset}, the model's for the corpus': {'; '.join(told)}.")
    return remarks


def _numbers(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))

"""Trained models on corpora that they were not trained on, in the form of the paper's Table 2."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from unirex_ray.analysis.transfer import TASK_NAMES, TRANSFER_METRICS, TransferRow
from unirex_ray.metrics.table import TASK_SCORE
from unirex_ray.report.table import (
    NOT_BETTER,
    Column,
    ReportTable,
    arrow,
    group_breaks,
    marked_label,
    method_label,
    method_labels,
    metric_column,
    over_seeds,
)
from unirex_ray.tracking.records import SAME_LABELS


def transfer_table(rows: Sequence[TransferRow]) -> ReportTable:
    """One row per corpus and method: mean ± std over seeds, the best of each corpus in bold.

    Args:
        rows: at least one; the rows of one dataset stand together.
    """
    breaks = group_breaks([row.dataset for row in rows])
    begins = [index == 0 or index - 1 in breaks for index in range(len(rows))]
    columns: dict[str, Column] = {
        "Task score ↑" if metric is TASK_SCORE else arrow(metric): [
            cell
            for _, group in _by_dataset(rows)
            for cell in metric_column(metric, [row.mean for row in group], [row.std for row in group])
        ]
        for metric in TRANSFER_METRICS
        if any(metric.key in row.mean for row in rows)
    }
    first, *further = columns.items()
    sources = ", ".join(dict.fromkeys(row.trained_on for row in rows))
    return ReportTable(
        title=f"Trained on {sources}: faithfulness and task score by corpus, {over_seeds(row.seeds for row in rows)}",
        lead={  # task and dataset in the first row of each dataset alone, as in the paper
            "Task": [row.task if begin else "" for row, begin in zip(rows, begins, strict=True)],
            "Dataset": [row.dataset if begin else "" for row, begin in zip(rows, begins, strict=True)],
            "Method": [marked_label(row.method, row.better_than_majority) for row in rows],
        },
        scores=dict([first]),
        raw=dict(further),
        remarks=[
            *_task_remarks(rows),
            *_label_remarks(rows),
            *_score_remarks(rows),
            *_missing_remarks(rows),
            *_verdict_remarks(rows),
        ],
        breaks=breaks,
        records=[_record(row) for row in rows],
    )


def _by_dataset(rows: Sequence[TransferRow]) -> list[tuple[str, list[TransferRow]]]:
    return [(dataset, list(group)) for dataset, group in groupby(rows, key=lambda row: row.dataset)]


def _task_remarks(rows: Sequence[TransferRow]) -> list[str]:
    tasks = [f"{short}: {name}" for short, name in TASK_NAMES.items() if any(row.task == short for row in rows)]
    return [f"{'; '.join(tasks)}."] if tasks else []


def _label_remarks(rows: Sequence[TransferRow]) -> list[str]:
    """One line per dataset; where models differ in what their labels stand for, each mapping with its methods."""
    remarks = []
    for dataset, group in _by_dataset(rows):
        methods: dict[str, list[str]] = defaultdict(list)
        for row in group:
            for labels in row.labels:
                methods[labels].append(row.method)
        mappings = [
            labels if len(methods) == 1 else f"{labels} ({method_labels(of_labels)})"
            for labels, of_labels in methods.items()
        ]
        if mappings and mappings != [SAME_LABELS]:
            remarks.append(f"Labels on {dataset}, the model's for the corpus': {'; '.join(mappings)}.")
    return remarks


def _score_remarks(rows: Sequence[TransferRow]) -> list[str]:
    """Which metric the task score repeats on which datasets."""
    datasets: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        if row.task_metric:
            datasets[row.task_metric][row.dataset] = None
    metrics = [f"{metric} on {', '.join(names)}" for metric, names in datasets.items()]
    return [f"Task score: {'; '.join(metrics)}."] if metrics else []


def _missing_remarks(rows: Sequence[TransferRow]) -> list[str]:
    """Seeds and methods that were not evaluated on a dataset."""
    remarks = []
    methods = list(dict.fromkeys(row.method for row in rows))
    for dataset, group in _by_dataset(rows):
        for row in group:
            if row.missing:
                seeds, verb = ("seeds", "are") if len(row.missing) > 1 else ("seed", "is")
                numbers = ", ".join(map(str, row.missing))
                remarks.append(f"{method_label(row.method)} on {dataset}: {seeds} {numbers} {verb} not evaluated.")
        evaluated = {row.method for row in group}
        if absent := [method for method in methods if method not in evaluated]:
            remarks.append(f"Not evaluated on {dataset}: {method_labels(absent)}.")
    return remarks


def _verdict_remarks(rows: Sequence[TransferRow]) -> list[str]:
    if all(row.better_than_majority is not False for row in rows):
        return []
    return [f"{NOT_BETTER} not better than the majority class of that dataset (one-sided test at 5%, of every seed)."]


def _record(row: TransferRow) -> dict[str, Any]:
    metrics: dict[str, float] = {}
    for metric in TRANSFER_METRICS:
        if metric.key in row.mean:
            metrics |= {metric.key: row.mean[metric.key], f"{metric.key}_std": row.std[metric.key]}
    return {
        "trained_on": row.trained_on,
        "task": row.task,
        "corpus": row.corpus,
        "digest": row.digest,
        "split": row.split,
        **row.settings,
        "method": row.method,
        "label": method_label(row.method),
        **metrics,
        "better_than_majority": row.better_than_majority,
        "task_metric": row.task_metric,
        "seeds": list(row.seeds),
        "missing_seeds": list(row.missing),
        "labels_stand_for": "; ".join(row.labels),
    }

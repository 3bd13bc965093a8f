"""Every other method beside a baseline, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unirex_ray.analysis.baseline import AgainstBaseline, Beside
from unirex_ray.analysis.selection import Configuration
from unirex_ray.metrics.table import NRG_METRICS, Metric
from unirex_ray.report.certainty import few_seeds, interval_text
from unirex_ray.report.comparison import select_predict_remark
from unirex_ray.report.table import NOT_BETTER_MEANS, ReportTable, arrow, marked_label, method_label, parameters_text


def baseline_table(experiment: str, found: AgainstBaseline) -> ReportTable:
    """A row per method, and per further configuration of the baseline: differences on test, and what they carry."""
    rows, label = found.rows, method_label(found.baseline.method)
    metrics = [metric for metric in NRG_METRICS if any(metric.key in row.differences for row in rows)]
    own = any(row.configuration.method == found.baseline.method for row in rows)
    parameters = [parameters_text(row.configuration.parameters) for row in rows]
    return ReportTable(
        title=f"{experiment}: differences to {label} on test, with 95 % intervals",
        lead={
            "Method": [
                marked_label(row.configuration.method, row.configuration.better_than_majority("test")) for row in rows
            ],
            **({"Config": [row.configuration.key for row in rows], "Parameters": parameters} if own else {}),
        },
        scores={},
        raw={
            **{arrow(metric): [_difference(row, metric) for row in rows] for metric in metrics},
            "Better / worse in": [f"{_labels(row.better)} / {_labels(row.worse)}" for row in rows],
        },
        remarks=_remarks(found, own=own),
        records=[_record(found.baseline, row) for row in rows],
    )


def _difference(row: Beside, metric: Metric) -> str:
    if metric.key not in row.differences:
        return ""
    difference, bounds = row.differences[metric.key]
    return f"{difference:+z.{metric.decimals}f} ({interval_text(bounds, metric.decimals)})"


def _labels(metrics: Sequence[Metric]) -> str:
    return ", ".join(metric.label for metric in metrics) or "-"


def _remarks(found: AgainstBaseline, *, own: bool) -> list[str]:
    label, others = method_label(found.baseline.method), [row.configuration.method for row in found.rows]
    over = f"{found.instances:,} test instances"
    fewest, most = min(found.seeds), max(found.seeds)
    if most > 1:
        over += f" and {most if fewest == most else f'{fewest} to {most}'} seeds"
    remarks = [
        f"A method's mean minus that of {label}; intervals are of {over}, for one difference at a time. A metric that "
        "the construction of one of both decides is neither better nor worse."
    ]
    if any(row.configuration.better_than_majority("test") is False for row in found.rows):
        remarks.append(f"{NOT_BETTER_MEANS}: its rationales say nothing of the task.")
    if fewest == 1:
        remarks.append("With one seed, how far another seed moves a method is in no interval.")
    remarks += few_seeds(fewest)
    if own:
        selected = ", ".join(filter(None, (found.baseline.key, parameters_text(found.baseline.parameters))))
        remarks.append(f"The baseline is the configuration of {label} that dev selected: {selected}.")
    remarks += select_predict_remark(dict.fromkeys([found.baseline.method, *others]))
    remarks += [f"Without {method_label(one.method)} {one.key}: {why}." for one, why in found.without]
    return remarks


def _record(baseline: Configuration, row: Beside) -> dict[str, Any]:
    configuration = row.configuration
    return {
        "method": configuration.method,
        "label": method_label(configuration.method),
        "configuration": configuration.key,
        "baseline": baseline.method,
        "baseline_configuration": baseline.key,
        **configuration.parameters,
        **{
            f"difference/{key}{end}": value
            for key, (difference, (low, high)) in row.differences.items()
            for end, value in (("", difference), ("_low", low), ("_high", high))
        },
        "better": [metric.key for metric in row.better],
        "worse": [metric.key for metric in row.worse],
    }

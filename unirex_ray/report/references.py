"""One task model under several rationales, as a table and in words."""

from __future__ import annotations

from unirex_ray.analysis.references import COMPARED, GOLD, SHOWN, Explained, OneTaskModel
from unirex_ray.metrics.table import AUPRC, Metric
from unirex_ray.report.certainty import interval_text
from unirex_ray.report.table import (
    NOT_BETTER_MEANS,
    ReportTable,
    arrow,
    marked_label,
    method_label,
    method_labels,
    number_text,
)


def references_table(experiment: str, found: OneTaskModel) -> ReportTable:
    """A row per kind of rationale: test metrics with their intervals, and how far they are from the gold one's."""
    metrics = [metric for metric in SHOWN if all(metric.key in row.intervals for row in found.rows)]
    compared = [metric for metric in COMPARED if any(row.above_gold for row in found.rows)]
    models = "one task model" if found.seeds == 1 else f"{found.seeds} task models (seeds)"
    instances = f"{found.instances} test instances with gold"
    return ReportTable(
        title=f"{experiment}: the rationales of {models}, mean and 95 % interval on {instances}",
        lead={"Method": [marked_label(row.method, _learned(row)) for row in found.rows]},
        scores={arrow(metric): [_with_interval(row, metric) for row in found.rows] for metric in metrics},
        raw={f"{metric.label} - gold's": [_above_gold(row, metric) for row in found.rows] for metric in compared},
        remarks=_remarks(found),
        records=[_record(row) for row in found.rows],
    )


def _learned(row: Explained) -> bool | None:
    return row.configuration.better_than_majority("test")


def _with_interval(row: Explained, metric: Metric) -> str:
    interval = interval_text(row.intervals[metric.key], metric.decimals)
    return f"{number_text(row.mean[metric.key], metric.decimals)} ({interval})"


def _above_gold(row: Explained, metric: Metric) -> str:
    if metric.key not in row.above_gold:
        return ""
    difference, interval = row.above_gold[metric.key]
    return f"{difference:+z.{metric.decimals}f} ({interval_text(interval, metric.decimals)})"


def _remarks(found: OneTaskModel) -> list[str]:
    remarks = [
        "The task models were trained for their task alone, and are the same in all rows: they predict the same on "
        "every instance. Intervals are of instances and seeds, those of differences of both at once."
    ]
    if found.seeds == 1:
        remarks.append("With one seed, the intervals say nothing of other task models.")
    if any(_learned(row) is False for row in found.rows):
        remarks.append(f"{NOT_BETTER_MEANS}: rationales of a model that learned nothing say nothing of the task.")
    remarks += [sentence for row in found.rows if _learned(row) is not False and (sentence := _in_words(row))]
    if any(row.method == GOLD and AUPRC.key in row.intervals for row in found.rows):
        remarks.append("AUPRC of gold and inverse gold is so by definition.")
    others = [row.method for row in found.rows if not row.selected]
    if others:
        remarks.append(
            f"By another configuration than in the comparison, for the same task model: {method_labels(others)}."
        )
    remarks += [f"Without {method_label(method)}: {why}." for method, why in found.apart.items()]
    return remarks


def _in_words(row: Explained) -> str:
    """What the intervals carry; nothing for gold itself."""
    told = []
    for metric in COMPARED:
        if metric.key not in row.above_gold:
            return ""
        difference, (low, high) = row.above_gold[metric.key]
        if low <= 0 <= high:
            told.append(f"{metric.label} cannot be told from the gold rationale's")
        else:
            better = (difference > 0) == metric.higher_is_better
            told.append(f"{metric.label} is {'better' if better else 'worse'} than the gold rationale's")
    return f"{method_label(row.method)}: {'; '.join(told)}."


def _record(row: Explained) -> dict[str, object]:
    ends = ("low", "high")
    return {
        "method": row.method,
        "label": method_label(row.method),
        "configuration": row.configuration.key,
        **{f"test/{key}": value for key, value in row.mean.items()},
        **{f"test/{key}_{end}": v for key, pair in row.intervals.items() for end, v in zip(ends, pair, strict=True)},
        **{f"above_gold/{key}": difference for key, (difference, _) in row.above_gold.items()},
        **{
            f"above_gold/{key}_{end}": value
            for key, (_, pair) in row.above_gold.items()
            for end, value in zip(ends, pair, strict=True)
        },
    }

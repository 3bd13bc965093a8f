"""Test metrics by the number of train instances, as a table; `plots` has the figure."""

from __future__ import annotations

import math

from unirex_ray.analysis.learning_curve import LearningCurves
from unirex_ray.metrics.table import NRG_METRICS
from unirex_ray.report.table import (
    NOT_BETTER_MEANS,
    ReportTable,
    marked_label,
    method_label,
    metric_columns,
    over_seeds,
    raw_metrics,
)


def learning_curve_table(curves: LearningCurves) -> ReportTable:
    """A row per method and size: the raw test metrics of the best configuration of that size, none in bold."""
    rows = [(method, point) for method, points in curves.curves.items() for point in points]
    configurations = [point.configuration for _, point in rows]
    remarks = ["NRG is for methods on as many instances: across sizes, compare the raw metrics."]
    if any(point.candidates > 1 for _, point in rows):
        remarks.append("Of several configurations of one method and size, the best by dev CNRG is shown.")
    if any(point.learned is False for _, point in rows):
        remarks.append(f"{NOT_BETTER_MEANS}; hollow in the figure.")
    missing = [
        f"{method_label(method)} at {', '.join(size_text(size) for size in lacking)}"
        for method, points in curves.curves.items()
        if (lacking := [size for size in curves.sizes if size not in [point.size for point in points]])
    ]
    remarks += [f"No complete configuration: {'; '.join(missing)}."] if missing else []
    return ReportTable(
        title=f"Test metrics by train instances, {over_seeds(c.seeds for c in configurations)}",
        lead={
            "Method": [marked_label(method, point.learned) for method, point in rows],
            "Train": [size_text(point.size) for _, point in rows],
        },
        scores={},
        raw=metric_columns(NRG_METRICS, configurations, [False] * len(rows)),
        remarks=remarks,
        records=[
            {
                "method": method,
                "label": method_label(method),
                "train_limit": None if math.isinf(point.size) else int(point.size),
                **raw_metrics(point.configuration, "test"),
                "seeds": list(point.configuration.seeds),
                "configuration": point.configuration.key,
                "candidates": point.candidates,
            }
            for method, point in rows
        ],
    )


def size_text(size: float) -> str:
    """Train instances for people, e.g. `1,500` or `all`."""
    return "all" if math.isinf(size) else f"{size:,.0f}"

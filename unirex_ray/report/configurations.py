"""Every complete configuration by its raw test metrics: what an ablation is read from (paper, Tables 1 and 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console

from unirex_ray.analysis.selection import Configuration
from unirex_ray.metrics.table import CONVERGENCE_DELTA, CSD, EXTRACTION_S, NRG_METRICS
from unirex_ray.report.table import (
    Columns,
    arrow,
    marked,
    method_label,
    number_text,
    parameters_text,
    plus_minus,
    print_columns,
    raw_columns,
)

_METRICS = (CSD, *NRG_METRICS, CONVERGENCE_DELTA)


def print_configurations(variants: Mapping[str, Sequence[Configuration]], out: Console) -> None:
    """One row per configuration: sampled parameters, raw test metrics (mean ± std over seeds), time per instance."""
    rows = _rows(variants)
    means, stds = [row.mean("test") for row in rows], [row.std("test") for row in rows]
    lead: Columns = {
        "Method": [(method_label(row.method), "") for row in rows],
        "Parameters": [(parameters_text(row.parameters), "") for row in rows],
    }
    raw: Columns = {}
    for metric in _METRICS:
        values = [mean.get(metric.key) for mean in means]
        if any(value is not None for value in values):
            cells = [
                number_text(value, metric.decimals) + plus_minus(std.get(metric.key), metric.decimals)
                for value, std in zip(values, stds, strict=True)
            ]
            best = marked(cells, values, higher_is_better=metric.higher_is_better)
            raw[arrow(metric)] = [(cell, "bold" if is_best else "") for cell, is_best in best]
    seconds = [row.mean("time").get(EXTRACTION_S.key) for row in rows]
    if any(value is not None for value in seconds):
        raw["ms ↓"] = [(number_text(None if s is None else 1000 * s, 2), "") for s in seconds]
    several = any(len(of_method) > 1 for of_method in variants.values())
    ends = [several and one.method != other.method for one, other in pairwise(rows)] + [False] * bool(rows)
    print_columns(out, "Configurations (test, mean over seeds)", lead, {}, raw, ends)


def configuration_rows(variants: Mapping[str, Sequence[Configuration]]) -> list[dict[str, Any]]:
    """The same as flat rows for CSV, with every metric and seconds per instance."""
    return [
        {
            "method": row.method,
            "configuration": row.key,
            **row.parameters,
            **raw_columns(row, "test"),
            "extraction_s": row.mean("time").get(EXTRACTION_S.key),
            "seeds": [record.spec.seed for record in row.records],
        }
        for row in _rows(variants)
    ]


def _rows(variants: Mapping[str, Sequence[Configuration]]) -> list[Configuration]:
    return [configuration for of_method in variants.values() for configuration in of_method]

"""Every complete configuration by its raw test metrics: what an ablation is read from (paper, Tables 1 and 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unirex_ray.analysis.selection import Configuration
from unirex_ray.metrics.table import CONVERGENCE_DELTA, CSD, EXTRACTION_S, NRG_METRICS
from unirex_ray.report.table import (
    ReportTable,
    group_breaks,
    method_label,
    metric_columns,
    number_text,
    parameters_text,
    raw_metrics,
)

_METRICS = (CSD, *NRG_METRICS, CONVERGENCE_DELTA)


def configurations_table(variants: Mapping[str, Sequence[Configuration]]) -> ReportTable:
    """One row per configuration: sampled parameters, raw test metrics (mean ± std over seeds), time per instance.

    The CSV has every metric, and the time in seconds.
    """
    rows = [configuration for of_method in variants.values() for configuration in of_method]
    seconds = [row.mean("time").get(EXTRACTION_S.key) for row in rows]
    times = [number_text(None if s is None else 1000 * s, 2) for s in seconds]
    several = any(len(of_method) > 1 for of_method in variants.values())
    return ReportTable(
        title="Configurations (test, mean over seeds)",
        lead={
            "Method": [method_label(row.method) for row in rows],
            "Parameters": [parameters_text(row.parameters) for row in rows],
        },
        scores={},
        raw={**metric_columns(_METRICS, rows), **({"ms ↓": times} if any(times) else {})},
        breaks=group_breaks([row.method for row in rows]) if several else (),
        records=[
            {
                "method": row.method,
                "configuration": row.key,
                **row.parameters,
                **raw_metrics(row, "test"),
                "extraction_s": extraction_s,
                "seeds": list(row.seeds),
            }
            for row, extraction_s in zip(rows, seconds, strict=True)
        ],
    )

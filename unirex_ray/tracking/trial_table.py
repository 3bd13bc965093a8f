"""Trials as one Parquet file, a row each: what pandas, DuckDB or Polars need to look at a whole sweep."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from sys import intern

import pyarrow as pa
from pyarrow import parquet

from unirex_ray.errors import UserError, first_line
from unirex_ray.metrics.instance_file import CHECKED
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.records import TrialRecord, TrialSpec

TRIALS = "trials.parquet"
_ABOUT = ("trial_id", "method", "configuration", "seed", "status", "reason", "run_id", "parameters", "tags")


def to_parquet(trials: Sequence[TrialRecord]) -> bytes:
    """One row per trial, without history: who it is, its searched parameters and tags as JSON, a column per metric."""
    metrics = [trial.metrics.flat() for trial in trials]
    about = {
        "trial_id": [trial.spec.trial_id for trial in trials],
        "method": [trial.spec.method for trial in trials],
        "configuration": [trial.spec.configuration for trial in trials],
        "seed": [trial.spec.seed for trial in trials],
        "status": [trial.status for trial in trials],
        "reason": pa.array([trial.reason for trial in trials], pa.string()),
        "run_id": pa.array([trial.run_id for trial in trials], pa.string()),
        "parameters": [json.dumps(dict(trial.spec.parameters)) for trial in trials],
        "tags": [json.dumps(dict(trial.tags)) for trial in trials],
    }
    keys = sorted({key for flat in metrics for key in flat})
    columns = {key: pa.array([flat.get(key) for flat in metrics], pa.float64()) for key in keys}
    stream = io.BytesIO()
    parquet.write_table(pa.table({**about, **columns}), stream, **CHECKED)
    return stream.getvalue()


def from_parquet(data: bytes) -> list[TrialRecord]:
    """What `to_parquet` was given.

    Raises:
        UserError: where this is not such a file.
    """
    try:
        table = parquet.read_table(io.BytesIO(data), use_threads=False, page_checksum_verification=True)
        keys = [name for name in table.column_names if name not in _ABOUT]
        metrics = zip(*(table[key].to_pylist() for key in keys), strict=True) if keys else iter([()] * len(table))
        return [
            TrialRecord(
                spec=TrialSpec(
                    **{name: row[name] for name in ("trial_id", "method", "configuration", "seed")},
                    parameters=json.loads(row["parameters"]),
                ),
                status=row["status"],
                metrics=TrialMetrics.from_flat({k: v for k, v in zip(keys, values, strict=True) if v is not None}),
                reason=row["reason"],
                run_id=row["run_id"],
                # Most tags are the same in all trials.
                tags={intern(key): intern(value) for key, value in json.loads(row["tags"]).items()},
            )
            for row, values in zip(table.select(_ABOUT).to_pylist(), metrics, strict=True)
        ]
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{TRIALS} is damaged, or holds no trials: {first_line(error)}") from None

"""Results by instance as one small Parquet file, which pandas, DuckDB or Polars read as it is."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet

from unirex_ray.data.schema import Split
from unirex_ray.errors import UserError, first_line
from unirex_ray.metrics.instances import (
    COMP,
    OTHERS,
    PLAUSIBILITY,
    PREDICTED_AT,
    PROBABILITY_AT,
    SUFF,
    InstanceResults,
)
from unirex_ray.metrics.table import METRICS_VERSION

INSTANCES = "instances.parquet"
CHECKED: Mapping[str, Any] = {"compression": "zstd", "write_page_checksum": True}
"""How our tables are written: a changed bit is noticed."""
_ABOUT = b"unirex_ray"
_MEASURED = (*PROBABILITY_AT, *COMP, *SUFF, *PLAUSIBILITY, *OTHERS)


def to_parquet(results: Mapping[Split, InstanceResults], labels: tuple[str, ...], about: Mapping[str, Any]) -> bytes:
    """One row per instance; measured values in single precision.

    Args:
        labels: class names by index; of a multi-choice corpus the choices.
        about: kept in the file's metadata: whose results these are.
    """
    tables = [_table(split, found, labels) for split, found in results.items()]
    table = pa.concat_tables(tables, promote_options="permissive")
    (task_metric,) = {found.task_metric for found in results.values()}
    metadata = {"metrics_version": METRICS_VERSION, "labels": list(labels), "task_metric": task_metric, **about}
    stream = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata({_ABOUT: json.dumps(metadata)}), stream, **CHECKED)
    return stream.getvalue()


def from_parquet(data: bytes, name: str = INSTANCES) -> dict[Split, InstanceResults]:
    """What `to_parquet` was given.

    Args:
        name: for the error.

    Raises:
        UserError: where this is not such a file.
    """
    try:
        table = _checked(data)
        about = json.loads(table.schema.metadata[_ABOUT])
        splits = table["split"].to_pylist()
        starts = [index for index, split in enumerate(splits) if index == 0 or split != splits[index - 1]]
        ends = [*starts[1:], len(splits)]
        return {
            splits[start]: _results(table.slice(start, end - start), about)
            for start, end in zip(starts, ends, strict=True)
        }
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{name} is damaged, or holds no results by instance: {first_line(error)}") from None


def of_split(data: bytes, split: Split) -> bytes:
    """A file with the rows of one split alone, packed as small as it gets.

    Raises:
        UserError: where this is not such a file.
    """
    try:
        table = _checked(data)
        rows = table.filter(compute.equal(table["split"], split))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{INSTANCES} is damaged, or holds no results by instance: {first_line(error)}") from None
    stream = io.BytesIO()
    numbers = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    parquet.write_table(
        rows,
        stream,
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in numbers],
        use_byte_stream_split=numbers,
        **CHECKED,
    )
    return stream.getvalue()


def _checked(data: bytes) -> pa.Table:
    return parquet.read_table(io.BytesIO(data), page_checksum_verification=True)


def _table(split: Split, results: InstanceResults, labels: tuple[str, ...]) -> pa.Table:
    names = pa.array(labels, pa.string())

    def classes(numbers: np.ndarray) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int16()), names)

    columns = {
        "split": pa.array([split] * len(results), pa.string()),
        "id": pa.array(results.ids, pa.string()),
        "label": classes(results.labels),
        "predicted": classes(results.predicted),
        "probability": pa.array(results.probability, pa.float32()),
        **{name: classes(results.measured[name]) for name in PREDICTED_AT if name in results.measured},
        "tokens": pa.array(results.tokens, pa.int32()),
        "gold_rows": pa.array(results.gold_rows, pa.int16()),
        **{
            name: pa.array(results.measured[name], pa.float32(), from_pandas=True)  # nan is a missing value
            for name in _MEASURED
            if name in results.measured
        },
    }
    return pa.table(columns)


def _results(table: pa.Table, about: Mapping[str, Any]) -> InstanceResults:
    labels = pa.array(about["labels"], pa.string())

    def classes(name: str) -> np.ndarray:
        # The file keeps the names that occur, in no order to rely on.
        return numbers(compute.index_in(table[name].cast(pa.string()), value_set=labels))

    def numbers(column: pa.ChunkedArray) -> np.ndarray:
        found: np.ndarray = column.to_numpy()
        return found

    # A column that another split has and this one has not is nothing but missing values.
    there = [name for name in table.column_names if table[name].null_count < len(table)]
    return InstanceResults(
        ids=tuple(table["id"].to_pylist()),
        labels=classes("label").astype(np.int64),
        predicted=classes("predicted").astype(np.int64),
        probability=numbers(table["probability"]).astype(np.float64),
        tokens=numbers(table["tokens"]).astype(np.int64),
        gold_rows=numbers(table["gold_rows"]).astype(np.int64),
        measured={
            **{name: classes(name).astype(np.float64) for name in PREDICTED_AT if name in there},
            **{name: numbers(table[name]).astype(np.float64) for name in _MEASURED if name in there},
        },
        classes=len(labels),
        task_metric=about["task_metric"],
    )

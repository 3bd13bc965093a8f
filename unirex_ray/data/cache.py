"""Tokenised corpora as Arrow files: written once, then mapped into every process that wants them."""

from __future__ import annotations

import json
import mmap
import os
import uuid
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.schema import SPLITS
from unirex_ray.metrics.table import Split

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("labels", "input_ids", "token_types", "gold", "offsets", "has_gold", "truncated", "spans")

Stored = tuple[Mapping[Split, EncodedSplit], tuple[str, ...]]


def write_splits(file: Path, key: str, splits: Mapping[Split, EncodedSplit], notes: tuple[str, ...]) -> None:
    """Put a tokenised corpus in place as a whole: a reader, or another writer, never sees half of it.

    The file holds one record batch of one row; each column is a list, named `split/column`.

    Args:
        key: what the file was made from; `read_splits` wants the same.

    Raises:
        OSError: if it cannot be written.
    """
    import pyarrow as pa

    arrays: dict[str, pa.Array] = {}
    checksum = 0
    for split in SPLITS:
        for column in _COLUMNS:
            values = _plain(getattr(splits[split], column))
            checksum = zlib.crc32(values.data, checksum)
            arrays[f"{split}/{column}"] = pa.LargeListArray.from_arrays([0, len(values)], pa.array(values))
        arrays[f"{split}/ids"] = pa.array([list(splits[split].ids)], type=pa.large_list(pa.large_string()))
    about = {
        "key": key,
        "notes": notes,
        "choices": {split: splits[split].choices for split in SPLITS},
        "checksum": checksum,
    }
    batch = pa.RecordBatch.from_pydict(arrays, metadata={"unirex_ray": json.dumps(about)})

    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as stream, pa.ipc.new_file(stream, batch.schema) as writer:
            writer.write_batch(batch)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def read_splits(file: Path, key: str) -> Stored | None:
    """Map what `write_splits` wrote; None where there is no file, or it is stale, cut short or damaged."""
    import pyarrow as pa

    try:
        with file.open("rb") as stream:
            # Copy on write: a stray in-place operation changes pages of this process, never the file.
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        reader = pa.ipc.open_file(pa.py_buffer(mapped))
        about = json.loads((reader.schema.metadata or {}).get(b"unirex_ray", b"{}"))
        if about.get("key") != key:
            return None
        batch = reader.get_batch(0)
        batch.validate(full=True)
        splits: dict[Split, EncodedSplit] = {}
        checksum = 0
        for split in SPLITS:
            columns: dict[str, Tensor] = {}
            for column in _COLUMNS:
                values = batch.column(f"{split}/{column}")[0].values.to_numpy(zero_copy_only=True)
                checksum = zlib.crc32(values.data, checksum)
                columns[column] = _tensor(column, values)
            ids = tuple(batch.column(f"{split}/ids")[0].as_py())
            splits[split] = EncodedSplit(ids=ids, choices=about["choices"][split], **columns)
        return (splits, tuple(about["notes"])) if checksum == about["checksum"] else None
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, pa.ArrowException):
        return None


_FLAGS = ("gold", "has_gold", "truncated")


def _plain(column: Tensor) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    """One dimension, and bytes for flags, which Arrow would otherwise pack into bits."""
    if column.dtype == torch.bool:
        column = column.view(torch.uint8)
    return column.contiguous().view(-1).numpy()


def _tensor(column: str, values: np.ndarray[tuple[int], np.dtype[np.generic]]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(values)
    if column in _FLAGS:
        return tensor.view(torch.bool)
    return tensor.view(-1, 3) if column == "spans" else tensor

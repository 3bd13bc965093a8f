"""Corpora as Arrow files: written once, then mapped into every process that wants them."""

from __future__ import annotations

import json
import mmap
import os
import uuid
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from unirex_ray.data.columns import Column, Columns, InstanceTable, Strings
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.schema import SPLITS, Corpus, Split
from unirex_ray.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

_TENSORS = ("labels", "input_ids", "token_types", "gold", "offsets", "has_gold", "cut", "last_window", "spans")
_WIDTHS = {"spans": 3, "cut": 3}

_T = TypeVar("_T")

Stored = tuple[Mapping[Split, EncodedSplit], tuple[str, ...]]


def cache_folder(configured: str | Path | None) -> Path:
    """`data.cache`, else `unirex_ray` in `XDG_CACHE_HOME` or `~/.cache`."""
    return Path(configured or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "unirex_ray").expanduser()


def read_or_make(
    configured: str | Path | None, read: Callable[[], _T | None], make: Callable[[], _T], write: Callable[[_T], None]
) -> _T:
    """What a cached file holds; made, and written once, where there is no such file.

    Args:
        configured: `data.cache`; a cache that the user named has to work, the default one may be missing.

    Raises:
        UserError: for a `data.cache` that cannot be written.
    """
    cached = read()
    if cached is not None:
        return cached
    made = make()
    try:
        # Another process may have been faster, and on network storage its readers lose a file that is replaced.
        if read() is None:
            write(made)
    except OSError as error:
        if configured is not None:
            reason = error.strerror or error
            raise UserError(f"data.cache = {str(configured)!r} cannot be written: {reason}") from None
    return made


def write_corpus(file: Path, key: str, corpus: Corpus) -> None:
    """Put a corpus in place as a whole (see `write_columns`)."""
    rules = {name: value for name, value in vars(corpus).items() if name != "splits" and not name.startswith("_")}
    columns = {f"{s}/{name}": column for s in SPLITS for name, column in corpus.splits[s].columns().items()}
    write_columns(file, key, columns, rules)


def read_corpus(file: Path, key: str) -> Corpus | None:
    """Map what `write_corpus` wrote; None where there is no file, or it is stale, cut short or damaged."""
    found = read_columns(file, key)
    if found is None:
        return None
    columns, rules = found
    lists = {name: tuple(rules[name]) for name in ("labels", "notes")}
    splits = {split: InstanceTable.from_columns(_below(columns, split)) for split in SPLITS}
    return Corpus(**{**rules, **lists, "splits": splits})


def write_splits(file: Path, key: str, splits: Mapping[Split, EncodedSplit], notes: tuple[str, ...]) -> None:
    """Put a tokenised corpus in place as a whole (see `write_columns`)."""
    columns: dict[str, Column] = {}
    for split in SPLITS:
        tensors = {name: getattr(splits[split], name).contiguous().view(-1).numpy() for name in _TENSORS}
        ids = Strings.from_texts(splits[split].ids).columns("ids")
        columns |= {f"{split}/{name}": column for name, column in {**tensors, **ids}.items()}
    about = {"notes": notes, "choices": {split: splits[split].choices for split in SPLITS}}
    write_columns(file, key, columns, about)


def read_splits(file: Path, key: str) -> Stored | None:
    """Map what `write_splits` wrote; None where there is no file, or it is stale, cut short or damaged."""
    found = read_columns(file, key)
    if found is None:
        return None
    columns, about = found
    splits: dict[Split, EncodedSplit] = {}
    for split in SPLITS:
        mine = _below(columns, split)
        tensors = {name: _tensor(name, mine[name]) for name in _TENSORS}
        ids = Strings.from_columns(mine, "ids")
        splits[split] = EncodedSplit(ids=ids, choices=about["choices"][split], **tensors)
    return splits, tuple(about["notes"])


def write_columns(file: Path, key: str, columns: Columns, about: Mapping[str, Any]) -> None:
    """Put arrays in place as a whole: a reader, or another writer, never sees half of them.

    The file holds one record batch of one row; each column is a list.

    Args:
        key: what the file was made from; `read_columns` wants the same.
        about: plain values that go along.

    Raises:
        OSError: if it cannot be written.
    """
    import pyarrow as pa

    arrays: dict[str, pa.Array] = {}
    header = {"key": key, "about": about, "types": {name: str(column.dtype) for name, column in columns.items()}}
    checksum = zlib.crc32(json.dumps(header).encode())
    for name, column in columns.items():
        # Bytes for flags, which Arrow would otherwise pack into bits.
        plain = np.ascontiguousarray(column.view(np.uint8) if column.dtype == np.bool_ else column)
        checksum = zlib.crc32(plain.data, checksum)
        arrays[name] = pa.LargeListArray.from_arrays([0, len(plain)], pa.array(plain))
    metadata = json.dumps({**header, "checksum": checksum})
    batch = pa.RecordBatch.from_pydict(arrays, metadata={"unirex_ray": metadata})

    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as stream, pa.ipc.new_file(stream, batch.schema) as writer:
            writer.write_batch(batch)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def read_columns(file: Path, key: str) -> tuple[dict[str, Column], dict[str, Any]] | None:
    """Map what `write_columns` wrote; None where there is no file, or it is stale, cut short or damaged."""
    import pyarrow as pa

    try:
        with file.open("rb") as stream:
            # Copy on write: a stray in-place operation changes pages of this process, never the file.
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        reader = pa.ipc.open_file(pa.py_buffer(mapped))
        header = json.loads((reader.schema.metadata or {}).get(b"unirex_ray", b"{}"))
        if header.get("key") != key:
            return None
        batch = reader.get_batch(0)
        batch.validate(full=True)
        columns: dict[str, Column] = {}
        wanted = header.pop("checksum")
        checksum = zlib.crc32(json.dumps(header).encode())
        for name, dtype in header["types"].items():
            values = batch.column(name)[0].values.to_numpy(zero_copy_only=True)
            checksum = zlib.crc32(values.data, checksum)
            columns[name] = values.view(dtype)
        return (columns, header["about"]) if checksum == wanted else None
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, pa.ArrowException):
        return None


def _below(columns: Columns, split: Split) -> dict[str, Column]:
    return {name.removeprefix(f"{split}/"): column for name, column in columns.items() if name.startswith(f"{split}/")}


def _tensor(name: str, values: Column) -> Tensor:
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(values)
    return tensor.view(-1, _WIDTHS[name]) if name in _WIDTHS else tensor

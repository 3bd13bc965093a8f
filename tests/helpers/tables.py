"""Tables in memory, of every kind."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from helpers.labelled_corpora import source
from pyarrow import parquet

from unirex_ray.config import DataConfig
from unirex_ray.data.corpora.table import load_table
from unirex_ray.data.files.source import Source
from unirex_ray.data.schema import Corpus

LABELS = ("no", "yes")


def table(files: Mapping[str, str | bytes], labels: Sequence[str] = LABELS, **options: Any) -> Corpus:
    return load_table(source(files), DataConfig(**options), labels)


def load_yes_or_no(corpus: Source, config: DataConfig) -> Corpus:
    return load_table(corpus, config, LABELS)


def as_csv(records: Sequence[Mapping[str, Any]], delimiter: str = ",") -> bytes:
    def field(value: Any) -> str:
        return '"' + str(value).replace('"', '""') + '"'

    lines = [delimiter.join(records[0]), *(delimiter.join(map(field, record.values())) for record in records)]
    return "".join(f"{line}\r\n" for line in lines).encode()


def as_tsv(records: Sequence[Mapping[str, Any]]) -> bytes:
    return as_csv(records, "\t")


def as_jsonl(records: Sequence[Mapping[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, records)).encode()


def as_parquet(records: Sequence[Mapping[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(records)), buffer)
    return buffer.getvalue()


KINDS = {"csv": as_csv, "tsv": as_tsv, "jsonl": as_jsonl, "parquet": as_parquet}

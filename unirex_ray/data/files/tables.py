"""Rows of tables with named columns: delimited text, JSON lines, Parquet; each row knows where it stands."""

from __future__ import annotations

import csv
import json
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from unirex_ray.data.files.source import Source
from unirex_ray.errors import UserError, one_line

_LARGEST_FIELD = 16 << 20


@dataclass(frozen=True)
class TableRow:
    """One row of a table, with its location for messages."""

    location: str
    values: Mapping[str, Any]

    def get(self, column: str, kind: type, allowed: str) -> Any:
        """What a column of JSON holds.

        Args:
            allowed: the kind in words.

        Raises:
            UserError: if it is of another kind, or missing.
        """
        value = self.values.get(column)
        if type(value) is not kind:
            raise UserError(f"{self.location}: {column!r} must be {allowed}, but is {brief(value)}")
        return value

    def text(self, column: str) -> str:
        """What a column holds.

        Raises:
            UserError: if that is no text, or blank.
        """
        value = self.values[column]
        if not isinstance(value, str):
            raise UserError(f"{self.location}: {column!r} must be text, but is {reprlib.repr(value)}")
        if not value.strip():
            raise UserError(f"{self.location}: {column!r} must be text, but is empty")
        _refuse_nul(self.location, value)
        return value

    def index(self, column: str, labels: Sequence[str]) -> int:
        """Which of the labels a column holds, compared as text.

        Raises:
            UserError: if it is none of them.
        """
        value = self.values[column]
        label = json.dumps(value) if isinstance(value, bool | None) else str(value)
        if label not in labels:
            raise UserError(
                f"{self.location}: {column!r} must be one of {', '.join(labels)}, but is {reprlib.repr(label)}"
            )
        return labels.index(label)

    def changed(self, **values: Any) -> TableRow:
        """The same row with other or more values."""
        return replace(self, values={**self.values, **values})


class QuotedCommas(csv.excel):
    """CSV; a quote that is not closed is an error."""

    strict = True


class QuotedTabs(csv.excel_tab):
    """The same with tabs."""

    strict = True


class PlainTabs(csv.excel_tab):
    """Tabs, and quotes that mean nothing."""

    quoting = csv.QUOTE_NONE


def delimited(
    source: Source, file: str, columns: Sequence[str], dialect: type[csv.Dialect], *, headed: bool = True
) -> Iterator[TableRow]:
    """Rows of a file with delimiters.

    Args:
        columns: that the header must name, among others; without a header, all columns.

    Raises:
        UserError: for a missing column, a ragged row or an unclosed quote, with its line.
    """
    csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_FIELD))
    reader = csv.reader((f"{line}\n" for _, line in _lines(source, file)), dialect)
    names = None if headed else columns
    while True:
        # A quoted field may hold line ends: its row lies where it begins.
        location = f"{source.label}: {file}, line {reader.line_num + 1}"
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise UserError(
                f"{location}: must be a row whose quotes come in pairs, with fields of at most "
                f"{_LARGEST_FIELD >> 20} MiB, but is broken ({error})"
            ) from None
        if names is None:
            names = values or ()
            _check_columns(location, names, columns)
        elif values is None:
            return
        elif dialect.delimiter == "\t" and any("\n" in value for value in values):
            # A stray quote, more likely than a text of several lines, would swallow the rows up to the next one.
            raise UserError(f"{location}: must be a row on one line, but a quote that opens here closes further down")
        elif len(values) == len(names):
            yield TableRow(location, dict(zip(names, values, strict=True)))
        elif values:
            raise UserError(f"{location}: must have {len(names)} columns, but has {len(values)}")


def json_lines(source: Source, file: str) -> Iterator[TableRow]:
    """The objects of a file with one JSON object a line; blank lines are skipped.

    Raises:
        UserError: for anything else, with its line.
    """
    for number, line in source.lines(file):
        if not line.strip():
            continue
        location = f"{source.label}: {file}, line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{location}: broken JSON ({error})") from None
        if not isinstance(values, dict):
            raise UserError(f"{location}: must be a JSON object, but is {reprlib.repr(values)}")
        yield TableRow(location, values)


def _json_table(source: Source, file: str, columns: Sequence[str]) -> Iterator[TableRow]:
    for row in json_lines(source, file):
        _check_columns(row.location, tuple(row.values), columns)
        yield row


def _parquet(source: Source, file: str, columns: Sequence[str]) -> Iterator[TableRow]:
    import pyarrow as pa
    from pyarrow import parquet

    location, number = f"{source.label}: {file}", 0
    try:
        table = parquet.ParquetFile(pa.BufferReader(source.content(file)))
        _check_columns(location, table.schema_arrow.names, columns)
        for batch in table.iter_batches(columns=list(columns)):
            for row in range(len(batch)):
                number += 1
                values = {column: batch.column(column)[row].as_py() for column in columns}
                yield TableRow(f"{location}, row {number}", values)
    except UnicodeDecodeError:
        raise UserError(f"{location}, row {number}: must be UTF-8 text, but is not") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{location}, row {number + 1}: broken Parquet ({one_line(error)})") from None


READERS: dict[str, Callable[[Source, str, Sequence[str]], Iterator[TableRow]]] = {
    ".csv": partial(delimited, dialect=QuotedCommas),
    ".tsv": partial(delimited, dialect=QuotedTabs),
    ".jsonl": _json_table,
    ".parquet": _parquet,
}


def _lines(source: Source, file: str) -> Iterator[tuple[int, str]]:
    for number, line in source.lines(file):
        _refuse_nul(f"{source.label}: {file}, line {number}", line)
        yield number, line


def _refuse_nul(location: str, text: str) -> None:
    if "\0" in text:
        raise UserError(f"{location}: must be text, but holds a NUL character")


def _check_columns(location: str, names: Sequence[str], needed: Sequence[str]) -> None:
    for column in needed:
        if names.count(column) != 1:
            present = ", ".join(map(repr, names)) or "no columns"
            raise UserError(f"{location}: must have one column {column!r}, but has {present}")


def brief(value: object) -> str:
    """A value as JSON, cut to a line's length."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

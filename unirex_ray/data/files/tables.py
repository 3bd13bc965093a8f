"""Rows of tables with named columns: delimited text, JSON, Parquet, Arrow; each row knows where it stands."""

from __future__ import annotations

import csv
import json
import re
import reprlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, product
from pathlib import PurePosixPath
from typing import Any

from unirex_ray.data.files.source import COMPRESSED, Source
from unirex_ray.data.instance import is_blank
from unirex_ray.errors import UserError, one_line

_LARGEST_FIELD = 16 << 20
_DELIMITERS = ",;\t|"
_HEADER_LINES = 16
_NAME_YOURS = "; for data.name=table, name yours with data.text_columns and data.label_column"
_MISSING = ("", "nan", "null", "none", "na", "n/a", "<na>")
"""What software writes for a value that is not there."""
_WHOLE = re.compile(r"([+-]?\d+)\.0*")


_Opened = Callable[[Any, Sequence[str]], tuple[Sequence[str], Iterator[Any]]]


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
        if is_blank(value):
            raise UserError(f"{self.location}: {column!r} must be text, but is empty")
        _refuse_nul(self.location, value)
        return value

    def index(self, column: str, labels: Sequence[str]) -> int:
        """Which of the labels a column holds, compared as text.

        Where it is none of them, another spelling of one will do: True for true, and 1.0 for 1, as software writes
        whole numbers in a column that lacks some.

        Raises:
            UserError: if it is none of them, or missing.
        """
        value = self.values.get(column)
        label = json.dumps(value) if isinstance(value, bool | None) else str(value)
        if label in labels:
            return labels.index(label)
        allowed = ", ".join(labels)
        if is_missing(value):
            raise UserError(f"{self.location}: {column!r} is missing; take the row out, or give it one of {allowed}")
        alike = [number for number, known in enumerate(labels) if _spelling(known) == _spelling(label)]
        if len(alike) != 1:
            raise UserError(f"{self.location}: {column!r} must be one of {allowed}, but is {reprlib.repr(label)}")
        return alike[0]

    def changed(self, **values: Any) -> TableRow:
        """The same row with other or more values."""
        return replace(self, values={**self.values, **values})


def is_missing(value: object) -> bool:
    """Whether a value is what software writes where there is none."""
    return not isinstance(value, list) and str(value).strip().lower() in _MISSING


def _spelling(label: str) -> str:
    """What the spellings of a label have in common."""
    text = label.strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text.lower() if text.lower() in ("true", "false") else text


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
    source: Source,
    file: str,
    columns: Sequence[str],
    dialect: type[csv.Dialect],
    *,
    headed: bool = True,
    remedy: str = "",
) -> Iterator[TableRow]:
    """Rows of a file with delimiters.

    Args:
        columns: that the header must name, among others; without a header, all columns.
        dialect: where it skips blanks before a value, those around the names do not count either.
        remedy: what to do about a missing column.

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
            names = _names(values or (), dialect)
            _check_columns(location, names, columns, remedy)
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


def _names(header: Sequence[str], dialect: type[csv.Dialect]) -> Sequence[str]:
    return [name.strip() for name in header] if dialect.skipinitialspace else header


def _found_dialect(source: Source, file: str, columns: Sequence[str], dialect: type[csv.Dialect]) -> type[csv.Dialect]:
    """The dialect with the first delimiter that gives a file the columns; else with one that gives it several."""
    lines = [f"{line}\n" for _, line in islice(_lines(source, file), _HEADER_LINES)]
    several = []
    delimiters = sorted(_DELIMITERS, key=lambda delimiter: delimiter != dialect.delimiter)
    for delimiter, loose in product(delimiters, (False, True)):
        tried: type[csv.Dialect] = type(
            dialect.__name__, (dialect,), {"delimiter": delimiter, "skipinitialspace": loose}
        )
        try:
            names = _names(next(csv.reader(lines, tried), ()), tried)
        except csv.Error:
            continue
        if all(names.count(column) == 1 for column in columns):
            return tried
        if len(names) > 1:
            several.append(tried)
    return several[0] if several else dialect


def _comma_table(source: Source, file: str, columns: Sequence[str]) -> Iterator[TableRow]:
    dialect = _found_dialect(source, file, columns, QuotedCommas)
    if dialect.delimiter == "\t":
        return _tab_table(source, file, columns)
    return delimited(source, file, columns, dialect, remedy=_NAME_YOURS)


def _tab_table(source: Source, file: str, columns: Sequence[str]) -> Iterator[TableRow]:
    """Quotes mean something where all of a file can be read so; otherwise, as in GLUE's files, they are text."""

    def read(dialect: type[csv.Dialect]) -> Iterator[TableRow]:
        return delimited(source, file, columns, _found_dialect(source, file, columns, dialect), remedy=_NAME_YOURS)

    if b'"' not in source.content(file):
        return read(QuotedTabs)
    try:
        deque(read(QuotedTabs), maxlen=0)
    except UserError as as_quoted:
        try:
            deque(read(PlainTabs), maxlen=0)
        except UserError:
            raise as_quoted from None
        return read(PlainTabs)
    return read(QuotedTabs)


def _json_table(source: Source, file: str, columns: Sequence[str]) -> Iterator[TableRow]:
    for row in json_lines(source, file):
        _check_columns(row.location, tuple(row.values), columns, _NAME_YOURS)
        yield row


def _json_array(source: Source, file: str, columns: Sequence[str]) -> Iterator[TableRow]:
    """The records of one JSON array, or, in a file that is none, of its lines."""
    first = next((line for _, line in source.lines(file) if line.strip()), "")
    if not first.lstrip().startswith("["):
        yield from _json_table(source, file, columns)
        return
    try:
        records = json.loads(source.decode(file, source.content(file)))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source.label}: {file}: broken JSON ({error})") from None
    for number, values in enumerate(records, start=1):
        location = f"{source.label}: {file}, record {number}"
        if not isinstance(values, dict):
            raise UserError(f"{location}: must be a JSON object, but is {reprlib.repr(values)}")
        _check_columns(location, tuple(values), columns, _NAME_YOURS)
        yield TableRow(location, values)


def _open_parquet(content: Any, columns: Sequence[str]) -> tuple[Sequence[str], Iterator[Any]]:
    from pyarrow import parquet

    table = parquet.ParquetFile(content)
    return table.schema_arrow.names, table.iter_batches(columns=list(columns))


def _open_arrow(content: Any, columns: Sequence[str]) -> tuple[Sequence[str], Iterator[Any]]:
    """Of Arrow's two formats, the one that `datasets` writes, and the one with an index."""
    from pyarrow import ipc

    try:
        stream = ipc.open_stream(content)
        return stream.schema.names, iter(stream)
    except ValueError:  # pyarrow.ArrowInvalid
        file = ipc.open_file(content)
        return file.schema.names, map(file.get_batch, range(file.num_record_batches))


def _columnar(source: Source, file: str, columns: Sequence[str], *, kind: str, opened: _Opened) -> Iterator[TableRow]:
    import pyarrow as pa

    location, number = f"{source.label}: {file}", 0
    try:
        names, batches = opened(pa.BufferReader(source.content(file)), columns)
        _check_columns(location, names, columns, _NAME_YOURS)
        for batch in batches:
            for row in range(len(batch)):
                number += 1
                values = {column: batch.column(column)[row].as_py() for column in columns}
                yield TableRow(f"{location}, row {number}", values)
    except UnicodeDecodeError:
        raise UserError(f"{location}, row {number}: must be UTF-8 text, but is not") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{location}, row {number + 1}: broken {kind} ({one_line(error)})") from None


READERS: dict[str, Callable[[Source, str, Sequence[str]], Iterator[TableRow]]] = {
    ".csv": _comma_table,
    ".tsv": _tab_table,
    ".jsonl": _json_table,
    ".json": _json_array,
    ".parquet": partial(_columnar, kind="Parquet", opened=_open_parquet),
    ".arrow": partial(_columnar, kind="Arrow", opened=_open_arrow),
}


def table_rows(source: Source, file: str, columns: Sequence[str]) -> Iterator[TableRow]:
    """The rows of a table, read as its name says.

    Raises:
        UserError: for a missing column or anything broken, with its line, record or row.
    """
    return READERS[unpacked_name(PurePosixPath(file)).suffix.lower()](source, file, columns)


def unpacked_name(file: PurePosixPath) -> PurePosixPath:
    """A file's name without what says that it is compressed: data.csv for data.csv.gz."""
    return file.with_suffix("") if file.suffix.lower() in COMPRESSED else file


def _lines(source: Source, file: str) -> Iterator[tuple[int, str]]:
    for number, line in source.lines(file):
        _refuse_nul(f"{source.label}: {file}, line {number}", line)
        yield number, line


def _refuse_nul(location: str, text: str) -> None:
    if "\0" in text:
        raise UserError(f"{location}: must be text, but holds a NUL character")


def _check_columns(location: str, names: Sequence[str], needed: Sequence[str], remedy: str = "") -> None:
    for column in needed:
        if names.count(column) != 1:
            present = ", ".join(map(repr, names)) or "no columns"
            raise UserError(f"{location}: must have one column {column!r}, but has {present}{remedy}")


def brief(value: object) -> str:
    """A value as JSON, cut to a line's length."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Gold rationales in a column of a table, in whichever of several forms it holds."""

from __future__ import annotations

import json
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

from unirex_ray.data.files.tables import TableRow, is_missing
from unirex_ray.errors import UserError

Place = tuple[int, int]
"""Half-open: the first character, and the one behind the last."""

FORMS = (
    "character spans [[start, end], ...], one 0 or 1 per word, a list of pieces of the text, or the text with "
    "**marks** or <mark>marks</mark>"
)

_LISTS = (
    'that, or a list as JSON has it: of pieces ["dull", "film"], of spans [[start, end], ...], or of one 0 or 1 per '
    "word (pandas' to_csv writes lists otherwise; JSONL and Parquet keep them)"
)

_WORD = re.compile(r"\S+")
_TAG = re.compile(r"</?mark>")
_STARS = re.compile(r"\*\*")


def plain_text(row: TableRow, column: str) -> str:
    """A column's text; of a list of tokens, these joined by single blanks.

    Raises:
        UserError: if it is no text, and no list of tokens.
    """
    tokens = row.values[column]
    if not isinstance(tokens, list):
        return row.text(column)
    if not tokens or not all(isinstance(token, str) and token for token in tokens):
        raise UserError(f"{row.location}: {column!r} must be text or a list of tokens, but is {reprlib.repr(tokens)}")
    return row.changed(**{column: " ".join(tokens)}).text(column)


def words_of(tokens: Any, text: str) -> list[Place]:
    """Where the words of a text lie: the tokens of the list that it was made of, otherwise what blanks part."""
    if not isinstance(tokens, list):
        return [match.span() for match in _WORD.finditer(text)]
    ends = accumulate((len(token) + 1 for token in tokens), initial=0)
    return [(start, end - 1) for start, end in pairwise(ends)]


def without_marks(row: TableRow, column: str) -> tuple[str, list[Place]]:
    """A column's text without its marks, and what they mark.

    Marks are `<mark>` and `</mark>` where one of them is there, and pairs of `**` otherwise.

    Raises:
        UserError: if they do not come in pairs.
    """
    marked = row.text(column)
    mark = _TAG if _TAG.search(marked) else _STARS
    parts: list[str] = []
    places: list[Place] = []
    opened: int | None = None
    position = size = 0
    for match in mark.finditer(marked):
        parts.append(marked[position : match.start()])
        position, size = match.end(), size + len(parts[-1])
        if match[0] != "**" and (match[0] == "</mark>") == (opened is None):
            raise _unpaired(row, column, match)
        if opened is None:
            opened, opening = size, match
        else:
            places, opened = [*places, (opened, size)], None
    if opened is not None:
        raise _unpaired(row, column, opening)
    text = "".join([*parts, marked[position:]])
    return row.changed(**{column: text}).text(column), joined(places)


def gold_of(row: TableRow, column: str, text: str, text_column: str) -> list[Place]:
    """What a column marks in a text; empty where it marks nothing.

    A piece of the text is found where it first stands between words; one that is listed again, where it next does.
    Other pieces may lie in the same place.

    Args:
        text: of `text_column`.

    Raises:
        UserError: for a value of no known form, or one that does not fit the text.
    """
    value = _parsed(row.values[column])
    if is_missing(value) or value == []:
        return []
    if isinstance(value, str):
        unmarked, places = without_marks(row, column)
        if unmarked != text:
            raise UserError(
                f"{row.location}: {column!r} must be the text of {text_column!r} with marks, but without them it is "
                f"{reprlib.repr(unmarked)}; give {_LISTS}"
            )
        return places
    if isinstance(value, list):
        if all(flag in (0, 1) and not isinstance(flag, str) for flag in value):
            return _of_mask(row, column, value, words_of(row.values[text_column], text))
        if all(isinstance(piece, str) for piece in value):
            return _of_pieces(row, column, value, text)
        spans = [_span(entry) for entry in value]
        if None not in spans:
            return _of_spans(row, column, [span for span in spans if span is not None], text)
    raise UserError(f"{row.location}: {column!r} must be {FORMS}, but is {reprlib.repr(value)}")


def joined(places: Iterable[Place]) -> list[Place]:
    """Places in reading order, those that overlap or touch as one, empty ones left out."""
    found: list[Place] = []
    for start, end in sorted(place for place in places if place[0] < place[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _unpaired(row: TableRow, column: str, mark: re.Match[str]) -> UserError:
    return UserError(
        f"{row.location}: {column!r} must have its marks in pairs, one behind the other, but {mark[0]!r} at character "
        f"{mark.start()} has no other one; close it, or take it out"
    )


def _parsed(value: Any) -> Any:
    """Text that is a list in JSON, as delimited files have it, as that list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _span(entry: Any) -> Place | None:
    if isinstance(entry, dict):
        entry = [entry.get("start"), entry.get("end")]
    return (entry[0], entry[1]) if isinstance(entry, list) and [*map(type, entry)] == [int, int] else None


def _of_spans(row: TableRow, column: str, spans: Sequence[Place], text: str) -> list[Place]:
    for start, end in spans:
        if start >= end:
            raise UserError(
                f"{row.location}: {column!r} has the span [{start}, {end}), which must end behind its start; give the "
                "first character and the one behind the last, not a length"
            )
        if start < 0 or end > len(text):
            raise UserError(
                f"{row.location}: {column!r} has the span [{start}, {end}), which must lie within the {len(text)} "
                "characters of its text; count characters from 0, the end excluded"
            )
    return joined(spans)


def _of_mask(row: TableRow, column: str, mask: Sequence[Any], words: Sequence[Place]) -> list[Place]:
    if len(mask) != len(words):
        raise UserError(
            f"{row.location}: {column!r} must have one 0 or 1 for each of the {len(words)} words of its text, but has "
            f"{len(mask)}; words are what blanks part, unless the text is a list of them"
        )
    places: list[Place] = []
    previous = 0
    for flag, (start, end) in zip(mask, words, strict=True):
        if flag:
            places.append((places.pop()[0] if previous else start, end))
        previous = flag
    return places


def _of_pieces(row: TableRow, column: str, pieces: Sequence[str], text: str) -> list[Place]:
    found: list[Place] = []
    for words, times in Counter(tuple(piece.split()) for piece in pieces if piece.strip()).items():
        start, end = (r"(?<!\w)" if words[0][0].isalnum() else ""), (r"(?!\w)" if words[-1][-1].isalnum() else "")
        wanted = re.compile(start + r"\s+".join(map(re.escape, words)) + end)
        places = [match.span() for match in wanted.finditer(text)]
        if not places:
            raise UserError(
                f"{row.location}: {column!r} has {reprlib.repr(' '.join(words))}, which must be a piece of its text, "
                "but is not in it; give it as the text has it"
            )
        found += places[:times]
    return joined(found)

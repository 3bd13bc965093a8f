"""A study as tables for spreadsheets (CSV), and answers from them, also after a spreadsheet has saved them anew."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from unirex_ray.study.answers import RawAnswer
from unirex_ray.study.manifest import Study
from unirex_ray.study.markup import NOTHING
from unirex_ray.study.sheet import Page, Part, Passage, sheet_of
from unirex_ray.study.tasks import QUESTIONS, Question

FOLDER = "csv"

NOT_ASKED = "not asked"
"""Stands in the column of a question that the row's task does not ask."""
_READ = ("study", "annotator", "item", *(question.name for question in QUESTIONS))

_LINE_ENDS = re.compile(r"[\t\r\n\v\f\x85\u2028\u2029]+")
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_FORMULA_WITHIN = re.compile(r";(?=[=+@]|-[\w(])")
"""Where semicolons part cells, what follows one begins a cell, quotes or not."""

_NUMBER = re.compile(r"([0-9]{1,9})(?:[.,]0+)?(?: *[=:].*)?", re.DOTALL)
"""Also as spreadsheets show it, and with the words that stand beside it."""


def csv_files(study: Study) -> dict[str, str]:
    """A table per annotator and task, by path: a row per item in the order in which it is shown, to be filled in.

    Ratings show what forward simulation asks for, so that their table is to be handed out after the other one. The
    content begins with a byte order mark, without which Excel takes UTF-8 for something else.
    """
    brackets = _brackets(study)
    return {
        f"{FOLDER}/{annotator}-{part.task.name}.csv": _table(study, annotator, part, brackets)
        for annotator in study.sheets
        for part in sheet_of(study, annotator).parts
    }


def csv_answers(text: str, source: str) -> list[RawAnswer]:
    """What a table holds; rows without any answer are unanswered.

    Raises:
        ValueError: saying what is wrong with the file as a whole.
    """
    header, rows = table(text)
    if missing := [name for name in _READ if name not in header]:
        raise ValueError(f"its table has no column {missing[0]!r}")
    found = []
    for row in rows:
        answered = [question for question in QUESTIONS if row[question.name] not in ("", NOT_ASKED)]
        if answered:
            found.append(
                RawAnswer(
                    annotator=row["annotator"],
                    item=row["item"].removeprefix(_ITEM),
                    values={question.name: _value(question, row[question.name]) for question in answered},
                    study=row["study"].removeprefix(_STUDY),
                    source=source,
                )
            )
    return found


def table(text: str) -> tuple[list[str], list[dict[str, str]]]:
    """Names of columns, and rows by them, cells without blanks around them; commas, semicolons or tabs part cells.

    Raises:
        ValueError: if it is no table, if a column stands there twice, or if a row has cells beside all columns.
    """
    text = text.removeprefix("\ufeff")
    if re.match(r'"?sep=', text):
        text = text.partition("\n")[2]
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    try:
        cells = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f"its table is broken ({error})") from None
    lines = [[cell.strip() for cell in line] for line in cells if any(cell.strip() for cell in line)]
    header = lines[0] if lines else []
    names = [name for name in header if name]
    if len(names) < 2:
        raise ValueError("it is no table with a line of names at its top")
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ValueError(f"its table has the column {twice[0]!r} twice")
    for number, line in enumerate(lines[1:], start=2):
        if any(line[len(header) :]):
            raise ValueError(f"row {number} of its table has more cells than the first one")
    return header, [dict(zip(header, [*line, *[""] * len(header)], strict=False)) for line in lines[1:]]


_STUDY, _ITEM = "study ", "item "
"""Before identifiers: a spreadsheet would make a number of one that has digits alone, or an `e` among them."""


def _table(study: Study, annotator: str, part: Part, brackets: tuple[str, str]) -> str:
    out = io.StringIO(newline="")
    text = f"text (highlighted words stand in {brackets[0]}brackets{brackets[1]})"
    header = ["study", "annotator", "task", "item", text, "predicted", "options", "how to answer"]
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow([*header, *(question.name for question in QUESTIONS)])
    for page in part.pages:
        cells = [
            _STUDY + study.id,
            annotator,
            part.task.name,
            _ITEM + page.item,
            _text(page, brackets),
            page.predicted or "",
            _numbered(page.options) if part.task.asks_for_label else "",
            "; ".join(f"{question.name}: {_allowed(question)}" for question in part.task.questions),
            *("" if question in part.task.questions else NOT_ASKED for question in QUESTIONS),
        ]
        writer.writerow([_cell(cell) for cell in cells])
    return "\ufeff" + out.getvalue()


def _allowed(question: Question) -> str:
    return _numbered(question.scale) if question.scale else "the number of one of the options"


def _numbered(words: Sequence[str]) -> str:
    return ", ".join(f"{number} = {word}" for number, word in enumerate(words, start=1))


def _brackets(study: Study) -> tuple[str, str]:
    """Doubled where a text has some of its own."""
    texts = "".join(part for instance in study.instances for text in instance.texts for part in text.segments)
    return ("[[", "]]") if "[" in texts or "]" in texts else ("[", "]")


def _text(page: Page, brackets: tuple[str, str]) -> str:
    shown = " / ".join(_passage(passage, brackets) for passage in page.passages)
    return shown if page.highlighted else f"({NOTHING}) {shown}"


def _passage(passage: Passage, brackets: tuple[str, str]) -> str:
    text = "".join(f"{brackets[0]}{text}{brackets[1]}" if marked else text for text, marked in passage.runs)
    return f"{passage.choice}: {text}" if passage.choice else text


def _cell(text: str) -> str:
    """Text of which no spreadsheet makes a formula or several rows."""
    text = _FORMULA_WITHIN.sub("; ", _LINE_ENDS.sub(" ", text))
    return f"'{text}" if _FORMULA.match(text) else text


def _value(question: Question, cell: str) -> Any:
    """The index of a label, or the number of an answer of a scale; what is neither as it is."""
    if number := _NUMBER.fullmatch(cell):
        return int(number[1]) - (0 if question.scale else 1)
    words: Mapping[str, int] = {word: number for number, word in enumerate(question.scale, start=1)}
    return words.get(cell.casefold(), cell)

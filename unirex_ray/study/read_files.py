"""Answers from files of any kind that annotators or tools hand in; the content says which kind it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from unirex_ray.errors import UserError, one_line
from unirex_ray.study.answers import FORMAT, Answers, RawAnswer, collect, raw_answers
from unirex_ray.study.argilla import argilla_answers, is_argilla
from unirex_ray.study.label_studio import is_label_studio, label_studio_answers
from unirex_ray.study.manifest import MANIFEST, Study
from unirex_ray.study.sheets import csv_answers, table
from unirex_ray.study.tasks import TASKS

MOST_BYTES = 64 * 2**20
"""Of a file that is read as a whole."""

_SQLITE = b"SQLite format 3\x00"
_WORKBOOK = b"PK\x03\x04"
_WIDE = (b"\xff\xfe", b"\xfe\xff")

_OTHERS = {MANIFEST, "tokens.json", "simulated.json", *(f"{task}-settings.json" for task in TASKS)}
_OTHER_KINDS = (".html", ".md", ".xml", "-journal")
"""Ends of names of what lies beside answers: forms, instructions, configurations, what SQLite keeps."""

_TOLD = 10
"""Problems that an error lists."""


def read_answers(paths: Sequence[Path], study: Study) -> Answers:
    """The answers of files and folders; of a folder all files but those that are known to hold none.

    Raises:
        UserError: if a path does not exist; if no file gives an answer, with what is wrong with them; as `collect`.
    """
    raw, problems = list[RawAnswer](), list[str]()
    for file in _files(paths):
        source = _harmless(str(file))
        try:
            raw += _read(file, source)
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            problems.append(f"{source}: {_harmless(_reason(error))}")
    answers = collect(study, raw, problems)
    if not answers.answers:
        told = [*answers.problems[:_TOLD], *(["..."] if len(answers.problems) > _TOLD else [])]
        places = ", ".join(_harmless(str(path)) for path in paths)
        raise UserError(f"no answers to study {study.id} in {places}: {'; '.join(told) or 'nothing is answered'}")
    return answers


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise UserError(f"{_harmless(str(path))!r} does not exist; give files of answers, or folders of them")
        if path.is_dir():
            yield from (file for file in sorted(path.iterdir()) if file.is_file() and not _is_other(file.name))
        else:
            yield path


def _is_other(name: str) -> bool:
    return name.startswith(".") or name in _OTHERS or name.lower().endswith(_OTHER_KINDS)


def _read(file: Path, source: str) -> list[RawAnswer]:
    with file.open("rb") as opened:
        start = opened.read(len(_SQLITE))
        if start == _SQLITE:
            from unirex_ray.study.answer_store import stored_answers

            return [replace(answer, source=source) for answer in stored_answers(file)]
        content = start + opened.read(MOST_BYTES)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES // 2**20} MB, and no file of answers is")
    if content.startswith(_WORKBOOK):
        raise ValueError("it is a workbook or an archive; save the table as CSV, or unpack it")
    text = _text(content)
    if not text.strip():
        raise ValueError("it is empty")
    return _of_json(text, source) if text.lstrip()[0] in "[{" else _of_table(text, source)


def _text(content: bytes) -> str:
    if content.startswith(_WIDE):
        return content.decode("utf-16")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252")  # as Excel saves CSV where it is not told otherwise
    if "\x00" in text:
        raise ValueError("it is no text")
    return text


def _of_json(text: str, source: str) -> list[RawAnswer]:
    values = json.loads(text)
    if isinstance(values, dict) and values.get("format") == FORMAT:
        return raw_answers(values, source)
    first = values[0] if isinstance(values, list) and values else None
    if isinstance(first, dict) and is_argilla(first):
        return argilla_answers(values, source)
    if isinstance(first, dict) and is_label_studio(first):
        return label_studio_answers(values, source)
    raise ValueError(_UNKNOWN)


_UNKNOWN = "it holds no answers in a known format: a form's, Label Studio's, Argilla's, or a table's"


def _of_table(text: str, source: str) -> list[RawAnswer]:
    header, rows = table(text)
    if is_label_studio(dict.fromkeys(header)):
        return label_studio_answers(rows, source)
    return csv_answers(text, source)


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return "it is no text"
    if isinstance(error, json.JSONDecodeError):
        return f"it is broken JSON ({one_line(error)})"
    return one_line(error)


def _harmless(text: str) -> str:
    """Text without what a terminal takes as commands, or what turns the order of its characters."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)

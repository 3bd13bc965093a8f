"""The form in which one annotator answers: an HTML file that needs no network."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

from unirex_ray.report.html import script_hash, template
from unirex_ray.study.answers import own_format
from unirex_ray.study.sheet import Page, Part, Sheet
from unirex_ray.study.tasks import Question

_FOLDER = Path(__file__).parent
_SCRIPT = _FOLDER / "form.js"

_CHARACTERS_PER_MINUTE = 1000
"""About what people read, slowly."""
_QUESTIONS_PER_MINUTE = 8
"""About what they answer, once they have read."""


def form_page(sheet: Sheet, *, server: bool = False) -> str:
    """One self-contained HTML page, in which a script shows one item at a time.

    It keeps every answer in the browser at once, and exports them in the format that `own_format` describes.

    Args:
        server: whether the page lies on a server that keeps answers as well, under `answers` relative to the page: GET
            gives them, POST takes one.
    """
    script = _SCRIPT.read_text(encoding="utf-8")
    return template("form.html", _FOLDER).render(
        sheet=sheet,
        minutes=minutes(sheet),
        server=server,
        values=_values(sheet, server=server),
        script=script,
        script_hash=script_hash(script),
    )


def minutes(sheet: Sheet) -> int:
    """About how long an annotator takes, rounded up to multiples of 5."""
    characters = sum(len(passage.text) for part in sheet.parts for page in part.pages for passage in page.passages)
    questions = sum(len(part.task.questions) * len(part.pages) for part in sheet.parts)
    return 5 * ceil((characters / _CHARACTERS_PER_MINUTE + questions / _QUESTIONS_PER_MINUTE) / 5)


def _values(sheet: Sheet, *, server: bool) -> dict[str, Any]:
    """What the script reads, in plain values."""
    return {
        "export": own_format(sheet.study, sheet.annotator, ()),
        "server": server,
        "parts": [_part(part) for part in sheet.parts],
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "title": part.task.title,
        "questions": [_question(question) for question in part.task.questions],
        "pages": [_page(page) for page in part.pages],
    }


def _question(question: Question) -> dict[str, Any]:
    return {"name": question.name, "text": question.text, "scale": question.scale, "first": question.allowed(1)[0]}


def _page(page: Page) -> dict[str, Any]:
    return {
        "item": page.item,
        "passages": [{"choice": passage.choice, "runs": passage.runs} for passage in page.passages],
        "options": page.options,
        "predicted": page.predicted,
    }

"""A page as HTML for other tools, which show it within pages of their own."""

from __future__ import annotations

import re

from unirex_ray.study.sheet import Page, Passage

NOTHING = "Nothing is highlighted in this text."

_MARK = '<mark style="background:#ffd166;color:#000;font-weight:bold;text-decoration:underline">'
"""Bold and underlined too: not everybody tells colours apart."""

_LINE_END = re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]")
_SPECIAL = re.compile(r"[][\\`*_{}#!|$~^<>&\"]")


def as_html(page: Page) -> str:
    """What an annotator sees of a page but the questions; on one line, which Markdown takes as one block of HTML."""
    shown = [_paragraph(passage) for passage in page.passages]
    if page.predicted is not None:
        shown.insert(0, f"<p>Predicted label: <strong>{escaped(page.predicted)}</strong></p>")
    if not page.highlighted:
        shown.append(f"<p><em>{NOTHING}</em></p>")
    return f"<div>{''.join(shown)}</div>"


def escaped(text: str) -> str:
    """Text as HTML in which neither tags, nor Markdown, nor formulas are found; line ends stay."""
    return _LINE_END.sub("<br>", _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", text))


def _paragraph(passage: Passage) -> str:
    runs = [f"{_MARK}{escaped(text)}</mark>" if marked else escaped(text) for text, marked in passage.runs]
    choice = f"<strong>{escaped(passage.choice)}</strong><br>" if passage.choice else ""
    return f'<p dir="auto">{choice}{"".join(runs)}</p>'

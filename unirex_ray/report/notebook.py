"""Explanations in a notebook's cell: a part of a page, with its styles inline, so that it changes nothing around it."""

from __future__ import annotations

from collections.abc import Sequence

from unirex_ray.data.highlight import HighlightedInstance
from unirex_ray.report.html import template
from unirex_ray.report.marked_text import pieces


def explanations_html(shown: Sequence[tuple[HighlightedInstance, str]], *, more: int = 0) -> str:
    """HTML of instances, each with a line about it; all texts are escaped.

    Args:
        more: how many are not shown.
    """
    return template("notebook.html").render(shown=shown, more=more, pieces=pieces)

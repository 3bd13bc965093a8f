"""A comparison as one self-contained HTML page, which needs no network and no scripts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from rich.text import Text

from unirex_ray.report.html import template
from unirex_ray.report.table import ReportTable, is_bold, is_left_aligned, is_wrapped, stretches


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page.

    Attributes:
        figures: PNG, by what they show, in words.
    """

    heading: str
    tables: Sequence[ReportTable] = ()
    figures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunLink:
    """A run that numbers come from.

    Attributes:
        method: its label.
        link: of its page; None where it has none on the web.
    """

    method: str
    seed: int
    run_id: str
    link: str | None


def report_page(
    sections: Sequence[Section],
    *,
    title: str,
    subtitle: str,
    answer: Sequence[str] = (),
    facts: Mapping[str, str],
    runs: Sequence[RunLink] = (),
    rationales: str | None = None,
    terms: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The page: what was found, tables and charts, and where they come from; every text is escaped.

    Args:
        answer: sentences that stand above all.
        facts: what somebody needs to repeat it, by name.
        rationales: the page of the methods' rationales, relative to this one.
        terms: what columns mean, by name.
    """
    return template("report.html").render(
        title=title,
        subtitle=subtitle,
        answer=answer,
        sections=sections,
        facts=facts,
        runs=runs,
        rationales=rationales,
        terms=terms,
        rows_of=_rows,
        left=is_left_aligned,
        wrapped=is_wrapped,
        bold=is_bold,
        stretches=stretches,
        base64=lambda image: base64.b64encode(image).decode(),
    )


def _rows(table: ReportTable) -> list[list[tuple[str, str | Text]]]:
    """Each row's cells with their headers."""
    return [list(zip(table.columns, row, strict=True)) for row in zip(*table.columns.values(), strict=True)]

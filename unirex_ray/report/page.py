"""A comparison as one self-contained HTML page, which needs no network and no scripts."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from rich.text import Text

from unirex_ray.report.table import ReportTable, is_bold, is_left_aligned


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page.

    Attributes:
        figures: by what they show, in words.
    """

    heading: str
    tables: Sequence[ReportTable] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)


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
) -> str:
    """The page: what was found, tables and charts, and where they come from; every text is escaped.

    Args:
        answer: sentences that stand above all.
        facts: what somebody needs to repeat it, by name.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    drawn = [
        {
            "heading": section.heading,
            "tables": section.tables,
            "figures": {name: _png(figure) for name, figure in section.figures.items()},
        }
        for section in sections
    ]
    return environment.get_template("report.html").render(
        title=title,
        subtitle=subtitle,
        answer=answer,
        sections=drawn,
        facts=facts,
        runs=runs,
        rows_of=_rows,
        left=is_left_aligned,
        bold=is_bold,
    )


def _rows(table: ReportTable) -> list[list[tuple[str, str | Text]]]:
    """Each row's cells with their headers."""
    return [list(zip(table.columns, row, strict=True)) for row in zip(*table.columns.values(), strict=True)]


def _png(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, bbox_inches="tight", format="png")
    return base64.b64encode(stream.getvalue()).decode()

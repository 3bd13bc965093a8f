"""Files that a comparison leaves on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unirex_ray.analysis.agreement import agreement
from unirex_ray.analysis.baseline import AgainstBaseline
from unirex_ray.analysis.compare import Comparison
from unirex_ray.analysis.extraction_time import NO_TIMES, ExtractionTimes
from unirex_ray.analysis.gold_efficiency import GoldEfficiency
from unirex_ray.analysis.learning_curve import LearningCurves
from unirex_ray.analysis.paper import PaperComparison
from unirex_ray.analysis.references import OneTaskModel
from unirex_ray.analysis.transfer import TransferRow
from unirex_ray.errors import UserError
from unirex_ray.report.baseline import baseline_table
from unirex_ray.report.certainty import certainty_table, pairs_table
from unirex_ray.report.comparison import comparison_table
from unirex_ray.report.configurations import configurations_table
from unirex_ray.report.gold_efficiency import gold_efficiency_table
from unirex_ray.report.learning_curve import learning_curve_table, size_text
from unirex_ray.report.paper_tables import paper_tables
from unirex_ray.report.plots import cnrg_figure, desiderata_figure, gold_efficiency_figure, learning_curve_figure, png
from unirex_ray.report.published import agreement_table, published_table
from unirex_ray.report.references import references_table
from unirex_ray.report.table import ReportTable, method_label
from unirex_ray.report.transfer import transfer_table

REPORT = "report.html"
CONFIGURATIONS = "configurations"
_SOMETIMES = (
    "comparison_cnrg",
    "comparison_desiderata",
    "certainty",
    "pairs",
    "comparison_published",
    "agreement",
    "baseline",
    "references",
    "learning_curve",
    "gold_efficiency",
    "transfer",
    "table_1",
    "table_4",
)
"""Tables, and charts of the same names, that not every comparison has."""


def comparison_tables(
    comparison: Comparison,
    against_paper: PaperComparison | None = None,
    efficiency: GoldEfficiency | None = None,
    transfer: Sequence[TransferRow] = (),
    times: ExtractionTimes = NO_TIMES,
    references: OneTaskModel | None = None,
    learning: LearningCurves | None = None,
    baseline: AgainstBaseline | None = None,
) -> dict[str, ReportTable]:
    """The tables of a comparison, by the name of their CSV file; most only where there are such results."""
    found = comparison.certainty
    tables = {
        "comparison": comparison_table(comparison),
        **({"certainty": certainty_table(comparison, found)} if found else {}),
        **({"pairs": pairs_table(comparison, found)} if found and found.pairs else {}),
        CONFIGURATIONS: configurations_table(comparison.variants),
        **({"baseline": baseline_table(comparison.experiment, baseline)} if baseline else {}),
        **({"comparison_published": published_table(against_paper)} if against_paper else {}),
        **({"agreement": agreement_table(agreement(found, against_paper))} if found and against_paper else {}),
        **({"references": references_table(comparison.experiment, references)} if references else {}),
        **({"learning_curve": learning_curve_table(learning)} if learning else {}),
        **({"gold_efficiency": gold_efficiency_table(efficiency)} if efficiency else {}),
        **({"transfer": transfer_table(transfer)} if transfer else {}),
        **paper_tables(comparison, times),
    }
    about = _protocol_remarks(comparison)
    return {name: replace(table, remarks=[*table.remarks, *about]) for name, table in tables.items()}


def unfinished_remarks(unfinished: Sequence[str]) -> list[str]:
    """That a result stands on sweeps which lack trials, each of them in words."""
    if not unfinished:
        return []
    return [f"UNFINISHED: {'; '.join(unfinished)}: a method's configuration may be the best of fewer than planned."]


def _protocol_remarks(comparison: Comparison) -> list[str]:
    """What every table says: its protocol, or that several were pooled, and whose budget was larger than others'."""
    remarks = [*unfinished_remarks(comparison.unfinished), *comparison.protocols.values()]
    if comparison.protocol_differences:
        remarks.append(
            f"POOLED ALTHOUGH THE PROTOCOLS DIFFER, in {comparison.protocol_differences}: a difference between methods "
            "may be one between these settings."
        )
    if comparison.train_sizes:
        *_, most = sizes = [size_text(size) for size in comparison.train_sizes]
        remarks.append(f"data.train_limit was searched over {', '.join(sizes)}; methods are compared at {most}.")
    searched = {
        method: len({c.sweep for c in of_method}) for method, of_method in comparison.variants.items() if of_method
    }
    if len(set(searched.values())) > 1:
        often = ", ".join(f"{method_label(method)} in {count}" for method, count in searched.items() if count > 1)
        remarks.append(f"Searched in several sweeps, and so with a larger budget than the other methods: {often}.")
    return remarks


def comparison_figures(
    comparison: Comparison, efficiency: GoldEfficiency | None = None, learning: LearningCurves | None = None
) -> dict[str, bytes]:
    """The charts of a comparison as PNG, by the name of their file without its ending.

    Args:
        efficiency, learning: drawn where there are some.
    """
    figures = {}
    if not comparison.alone:
        figures = {"comparison_cnrg": cnrg_figure(comparison), "comparison_desiderata": desiderata_figure(comparison)}
    if efficiency:
        figures["gold_efficiency"] = gold_efficiency_figure(comparison.experiment, efficiency)
    if learning:
        figures["learning_curve"] = learning_curve_figure(comparison.experiment, learning)
    return {name: png(figure) for name, figure in figures.items()}


def write_results(
    folder: str | Path,
    name: str,
    tables: Mapping[str, ReportTable],
    figures: Mapping[str, bytes],
    pages: Mapping[str, str],
) -> tuple[str, ...]:
    """Write tables as CSV, into one LaTeX file and, but for the configurations, one Markdown file; charts; the pages.

    Tables and charts of an earlier comparison that this one does not have are deleted: they would pass for its own.

    Args:
        name: of the Markdown and the LaTeX file, without its ending.
        tables, figures, pages: by name.

    Returns:
        Names of the files.

    Raises:
        UserError: if the folder cannot be written.
    """
    folder = Path(folder)
    shown = [table.markdown() for table_name, table in tables.items() if table_name != CONFIGURATIONS]
    texts = {
        **pages,
        f"{name}.md": "\n".join(shown),
        f"{name}.tex": "\n".join(table.latex() for table in tables.values()),
        **{f"{table_name}.csv": table.csv() for table_name, table in tables.items()},
    }
    charts = {f"{chart}.png": image for chart, image in figures.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
        for chart, image in charts.items():
            (folder / chart).write_bytes(image)
        for earlier in {f"{table}.{ending}" for table in _SOMETIMES for ending in ("csv", "png")} - {*texts, *charts}:
            (folder / earlier).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to output = {str(folder)!r}: {error}") from None
    return (*texts, *charts)

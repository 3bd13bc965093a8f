"""Files that a comparison leaves on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unirex_ray.analysis.compare import Comparison
from unirex_ray.analysis.gold_efficiency import GoldEfficiency
from unirex_ray.analysis.paper import PaperComparison
from unirex_ray.analysis.transfer import TransferRow
from unirex_ray.errors import UserError
from unirex_ray.report.certainty import certainty_table, pairs_table
from unirex_ray.report.comparison import comparison_table
from unirex_ray.report.configurations import configurations_table
from unirex_ray.report.gold_efficiency import gold_efficiency_table
from unirex_ray.report.plots import plot_cnrg, plot_desiderata, plot_gold_efficiency
from unirex_ray.report.published import published_table
from unirex_ray.report.table import ReportTable, method_label
from unirex_ray.report.transfer import transfer_table


def comparison_tables(
    comparison: Comparison,
    against_paper: PaperComparison | None = None,
    efficiency: GoldEfficiency | None = None,
    transfer: Sequence[TransferRow] = (),
) -> dict[str, ReportTable]:
    """The tables of a comparison, by the name of their CSV file; the last three only where there are such results."""
    found = comparison.certainty
    tables = {
        "comparison": comparison_table(comparison),
        **({"certainty": certainty_table(comparison, found), "pairs": pairs_table(comparison, found)} if found else {}),
        "configurations": configurations_table(comparison.variants),
        **({"comparison_published": published_table(against_paper)} if against_paper else {}),
        **({"gold_efficiency": gold_efficiency_table(efficiency)} if efficiency else {}),
        **({"transfer": transfer_table(transfer)} if transfer else {}),
    }
    about = _protocol_remarks(comparison)
    return {name: replace(table, remarks=[*table.remarks, *about]) for name, table in tables.items()}


def _protocol_remarks(comparison: Comparison) -> list[str]:
    """What every table says: its protocol, or that several were pooled, and whose budget was larger than others'."""
    remarks = list(comparison.protocols.values())
    if comparison.protocol_differences:
        remarks.append(
            f"POOLED ALTHOUGH THE PROTOCOLS DIFFER, in {comparison.protocol_differences}: a difference between methods "
            "may be one between these settings."
        )
    searched = {method: len({c.sweep for c in of_method}) for method, of_method in comparison.variants.items()}
    if len(set(searched.values())) > 1:
        often = ", ".join(f"{method_label(method)} in {count}" for method, count in searched.items() if count > 1)
        remarks.append(f"Searched in several sweeps, and so with a larger budget than the other methods: {often}.")
    return remarks


def write_comparison(
    comparison: Comparison,
    folder: str | Path,
    tables: Mapping[str, ReportTable],
    efficiency: GoldEfficiency | None = None,
) -> tuple[str, ...]:
    """Write tables and charts of a comparison; `comparison.md` holds all tables but the configurations.

    Args:
        tables: see `comparison_tables`.
        efficiency: its chart goes into `gold_efficiency.png`.

    Returns:
        Names of the files.

    Raises:
        UserError: if the folder cannot be written.
    """
    folder = Path(folder)
    texts = {
        "comparison.csv": tables["comparison"].csv(),
        "comparison.md": "\n".join(table.markdown() for name, table in tables.items() if name != "configurations"),
        **{f"{name}.csv": table.csv() for name, table in tables.items()},
    }
    charts: dict[str, Callable[[Path], None]] = {
        "comparison_cnrg.png": lambda path: plot_cnrg(comparison, path),
        "comparison_desiderata.png": lambda path: plot_desiderata(comparison, path),
    }
    if efficiency:
        charts["gold_efficiency.png"] = lambda path: plot_gold_efficiency(comparison.experiment, efficiency, path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        for name, plot in charts.items():
            plot(folder / name)
    except OSError as error:
        raise UserError(f"cannot write to output = {str(folder)!r}: {error}") from None
    return (*texts, *charts)

"""What a comparison leaves on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from unirex_ray.analysis.compare import Comparison
from unirex_ray.analysis.gold_efficiency import GoldEfficiency
from unirex_ray.analysis.paper import PaperComparison
from unirex_ray.analysis.transfer import TransferRow
from unirex_ray.errors import UserError
from unirex_ray.report.comparison import comparison_markdown, comparison_rows
from unirex_ray.report.configurations import configuration_rows
from unirex_ray.report.gold_efficiency import efficiency_markdown, efficiency_rows
from unirex_ray.report.plots import plot_cnrg, plot_desiderata, plot_gold_efficiency
from unirex_ray.report.published import published_markdown, published_rows
from unirex_ray.report.table import to_csv
from unirex_ray.report.transfer import transfer_csv_rows, transfer_markdown


def write_comparison(
    comparison: Comparison,
    folder: str | Path,
    beside: PaperComparison | None = None,
    efficiency: GoldEfficiency | None = None,
    transfer: Sequence[TransferRow] = (),
) -> tuple[str, ...]:
    """Write tables and charts of a comparison; each of the further ones also below the table of `comparison.md`.

    Args:
        beside: the paper's results, which go into `comparison_published.csv`.
        efficiency: goes into `gold_efficiency.csv` and `gold_efficiency.png`.
        transfer: goes into `transfer.csv`.

    Returns:
        Names of the files.

    Raises:
        UserError: if the folder cannot be written.
    """
    folder = Path(folder)
    sections = [
        comparison_markdown(comparison),
        *([published_markdown(beside)] if beside else []),
        *([efficiency_markdown(efficiency)] if efficiency else []),
        *([transfer_markdown(transfer)] if transfer else []),
    ]
    texts = {
        "comparison.csv": to_csv(comparison_rows(comparison)),
        "comparison.md": "\n".join(sections),
        "configurations.csv": to_csv(configuration_rows(comparison.variants)),
        **({"comparison_published.csv": to_csv(published_rows(beside))} if beside else {}),
        **({"gold_efficiency.csv": to_csv(efficiency_rows(efficiency))} if efficiency else {}),
        **({"transfer.csv": to_csv(transfer_csv_rows(transfer))} if transfer else {}),
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

"""What a comparison leaves on disk."""

from __future__ import annotations

from pathlib import Path

from unirex_ray.compare import Comparison, PaperComparison
from unirex_ray.errors import UserError
from unirex_ray.report.configuration_table import configuration_rows
from unirex_ray.report.layout import to_csv
from unirex_ray.report.plots import plot_cnrg, plot_desiderata
from unirex_ray.report.published_table import published_markdown, published_rows
from unirex_ray.report.tables import comparison_markdown, comparison_rows


def write_comparison(
    comparison: Comparison, folder: str | Path, beside: PaperComparison | None = None
) -> tuple[str, ...]:
    """Write tables and charts of a comparison.

    Args:
        beside: the paper's results, which go into `comparison_published.csv` and below the table of `comparison.md`.

    Returns:
        Names of the files.

    Raises:
        UserError: if the folder cannot be written.
    """
    folder = Path(folder)
    texts = {
        "comparison.csv": to_csv(comparison_rows(comparison)),
        "comparison.md": comparison_markdown(comparison) + (f"\n{published_markdown(beside)}" if beside else ""),
        "configurations.csv": to_csv(configuration_rows(comparison.variants)),
        **({"comparison_published.csv": to_csv(published_rows(beside))} if beside else {}),
    }
    charts = {"comparison_cnrg.png": plot_cnrg, "comparison_desiderata.png": plot_desiderata}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        for name, plot in charts.items():
            plot(comparison, folder / name)
    except OSError as error:
        raise UserError(f"cannot write to output = {str(folder)!r}: {error}") from None
    return (*texts, *charts)

"""What a comparison leaves on disk."""

from __future__ import annotations

from pathlib import Path

from unirex_ray.compare import Comparison
from unirex_ray.errors import UserError
from unirex_ray.report.plots import plot_cnrg, plot_desiderata
from unirex_ray.report.tables import comparison_markdown, comparison_rows, to_csv


def write_comparison(comparison: Comparison, folder: str | Path) -> None:
    """Write `comparison.csv`, `comparison.md`, `comparison_cnrg.png` and `comparison_desiderata.png`.

    Raises:
        UserError: if the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "comparison.csv").write_text(to_csv(comparison_rows(comparison)), encoding="utf-8")
        (folder / "comparison.md").write_text(comparison_markdown(comparison), encoding="utf-8")
        plot_cnrg(comparison, folder / "comparison_cnrg.png")
        plot_desiderata(comparison, folder / "comparison_desiderata.png")
    except OSError as error:
        raise UserError(f"cannot write to output = {str(folder)!r}: {error}") from None

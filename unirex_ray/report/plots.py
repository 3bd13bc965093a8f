"""Bar charts of a comparison, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unirex_ray.compare import Comparison, Row
from unirex_ray.report.layout import method_label

# Okabe and Ito's colours: told apart by colour-blind readers as well.
_COLOURS = {"CNRG": "#0072B2", "FNRG": "#E69F00", "PNRG": "#009E73", "TNRG": "#CC79A7"}


def plot_cnrg(comparison: Comparison, path: str | Path) -> None:
    """Write a bar chart of global CNRG by method, best on top."""
    rows = _scored(comparison)
    _bars(path, rows, {"CNRG": [row.scores.cnrg for row in rows if row.scores]}, _title(comparison, "CNRG"))


def plot_desiderata(comparison: Comparison, path: str | Path) -> None:
    """Write a bar chart of FNRG, PNRG (where there are gold rationales) and TNRG by method, in the order of CNRG."""
    rows = _scored(comparison)
    scores = [row.scores for row in rows if row.scores]
    series = {
        "FNRG": [each.fnrg for each in scores],
        "PNRG": [each.pnrg for each in scores if each.pnrg is not None],
        "TNRG": [each.tnrg for each in scores],
    }
    known = {name: values for name, values in series.items() if values}
    _bars(path, rows, known, _title(comparison, ", ".join(known)))


def _scored(comparison: Comparison) -> list[Row]:
    return [row for row in comparison.rows if row.scores is not None]


def _title(comparison: Comparison, what: str) -> str:
    return f"{comparison.experiment}: {what} on test"


def _bars(path: str | Path, rows: Sequence[Row], series: Mapping[str, Sequence[float]], title: str) -> None:
    thick = 0.8 / len(series)
    figure = Figure(figsize=(7.5, 1.2 + 0.28 * len(rows) * (1 + len(series)) / 2 + 0.12 * len(rows)), dpi=150)
    axes: Axes = figure.add_subplot()
    for index, (name, values) in enumerate(series.items()):
        places = [row + (index - (len(series) - 1) / 2) * thick for row in range(len(rows))]
        drawn = axes.barh(places, values, height=thick * 0.92, color=_COLOURS[name], label=name)
        axes.bar_label(drawn, fmt="%.3f", padding=3, fontsize=8, color="#333333")
    # A label may hold dollar signs, which matplotlib would read as mathematics.
    axes.set_yticks(range(len(rows)), [method_label(row.method).replace("$", r"\$") for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=11)
    if len(series) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    figure.savefig(path, bbox_inches="tight", format="png")

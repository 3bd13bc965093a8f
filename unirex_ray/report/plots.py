"""Charts of a comparison, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unirex_ray.analysis.compare import Comparison, MethodRow
from unirex_ray.analysis.gold_efficiency import Curve, GoldEfficiency
from unirex_ray.metrics.table import AUPRC
from unirex_ray.report.certainty import intervals_of
from unirex_ray.report.gold_efficiency import percent_text
from unirex_ray.report.table import NOT_BETTER, marked_label, method_label, over_seeds

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = {"CNRG": "#0072B2", "FNRG": "#E69F00", "PNRG": "#009E73", "TNRG": "#CC79A7"}
_LINES = ("#56B4E9", "#E69F00", "#CC79A7", "#0072B2", "#D55E00", "#009E73", "#000000")
_MARKERS = ("o", "s", "^", "D", "v")
_INTERVAL: dict[str, Any] = {"fmt": "none", "ecolor": "#333333", "elinewidth": 1.0, "capsize": 2.0}
_NUMBER: dict[str, Any] = {"fontsize": 8, "color": "#333333"}
_DASHES = ((0, (5, 2)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)))


def plot_cnrg(comparison: Comparison, path: str | Path) -> None:
    """Write a bar chart of global CNRG by method, best on top."""
    rows = _scored(comparison)
    _bars(path, comparison, {"CNRG": [row.scores.cnrg for row in rows if row.scores]}, _title(comparison, "CNRG"))


def plot_desiderata(comparison: Comparison, path: str | Path) -> None:
    """Write a bar chart of FNRG, PNRG (where there are gold rationales) and TNRG by method, in the order of CNRG."""
    rows = _scored(comparison)
    scores = [row.scores for row in rows if row.scores]
    series = {
        "FNRG": [score.fnrg for score in scores],
        "PNRG": [score.pnrg for score in scores if score.pnrg is not None],
        "TNRG": [score.tnrg for score in scores],
    }
    drawn = {name: values for name, values in series.items() if values}
    _bars(path, comparison, drawn, _title(comparison, ", ".join(drawn)))


def plot_gold_efficiency(experiment: str, efficiency: GoldEfficiency, path: str | Path) -> None:
    """Write a line chart of test AUPRC (x100) by share of gold rationales (see `gold_efficiency_figure`)."""
    gold_efficiency_figure(experiment, efficiency).savefig(path, bbox_inches="tight", format="png")


def gold_efficiency_figure(experiment: str, efficiency: GoldEfficiency) -> Figure:
    """A line per method with a band of one standard deviation on either side; dashed where no gold rationales are used.

    The x-axis is logarithmic, in percent; the legend has the order of the lines at its right end.
    """
    figure = Figure(figsize=(6.4, 3.9), dpi=150)
    axes: Axes = figure.add_subplot()
    low, high = efficiency.percents[0], efficiency.percents[-1]
    for index, curve in enumerate(efficiency.curves):
        colour = _LINES[index % len(_LINES)]
        xs, ys, stds = _line(curve, low, high)
        look = (
            {"linestyle": _DASHES[index % len(_DASHES)]}
            if curve.constant
            else {"marker": _MARKERS[index % len(_MARKERS)], "markersize": 6, "markeredgecolor": "white"}
        )
        axes.plot(xs, ys, color=colour, linewidth=1.6, label=_text(method_label(curve.method)), **look)
        below, above = ([y + sign * std for y, std in zip(ys, stds, strict=True)] for sign in (-1, 1))
        axes.fill_between(xs, below, above, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(efficiency.percents, [percent_text(percent) for percent in efficiency.percents])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("Train instances with gold rationales")
    axes.set_ylabel(f"{AUPRC.label} (%)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    over = over_seeds(point.seeds for curve in efficiency.curves for point in curve.points)
    axes.set_title(_text(f"{experiment}: {AUPRC.label} on test, {over}"), loc="left", fontsize=11)
    ranked = sorted(zip(efficiency.curves, axes.get_lines(), strict=True), key=lambda pair: -pair[0].points[-1].auprc)
    axes.legend(handles=[line for _, line in ranked], loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _line(curve: Curve, low: float, high: float) -> tuple[list[float], list[float], list[float]]:
    """Percents, means and standard deviations; from end to end where the curve is constant."""
    points = curve.points * 2 if curve.constant else curve.points
    xs = [low, high] if curve.constant else [point.percent for point in points if point.percent is not None]
    return xs, [point.auprc for point in points], [point.std for point in points]


def _text(text: str) -> str:
    # matplotlib reads dollar signs as mathematics.
    return text.replace("$", r"\$")


def _scored(comparison: Comparison) -> list[MethodRow]:
    return [row for row in comparison.rows if row.scores is not None]


def _title(comparison: Comparison, scores: str) -> str:
    return f"{comparison.experiment}: {scores} on test"


def _bars(path: str | Path, comparison: Comparison, series: Mapping[str, Sequence[float]], title: str) -> None:
    """A bar per method and series, with its interval where there is one."""
    rows = _scored(comparison)
    thickness = 0.8 / len(series)
    figure = Figure(figsize=(7.5, 1.2 + 0.28 * len(rows) * (1 + len(series)) / 2 + 0.12 * len(rows)), dpi=150)
    axes: Axes = figure.add_subplot()
    for index, (name, values) in enumerate(series.items()):
        centres = [row + (index - (len(series) - 1) / 2) * thickness for row in range(len(rows))]
        axes.barh(centres, values, height=thickness * 0.92, color=_COLOURS[name], label=name)
        intervals = intervals_of(comparison, name.lower())
        if intervals:
            bounds = [intervals[row.method] for row in rows]
            # A score may lie outside the percentiles of its draws: the bar of an interval never points inwards.
            apart = [
                (max(0.0, value - low), max(0.0, high - value))
                for value, (low, high) in zip(values, bounds, strict=True)
            ]
            axes.errorbar(values, centres, xerr=list(zip(*apart, strict=True)), **_INTERVAL)
            ends = [max(value, high) for value, (_, high) in zip(values, bounds, strict=True)]
        else:
            ends = list(values)
        for value, end, centre in zip(values, ends, centres, strict=True):
            axes.annotate(f"{value:.3f}", (end, centre), (3, 0), textcoords="offset points", va="center", **_NUMBER)
    axes.set_yticks(range(len(rows)), [_text(marked_label(row.method, row.learned)) for row in rows])
    if any(row.learned is False for row in rows):
        axes.set_xlabel(f"{NOT_BETTER} not better than the majority class", loc="left", fontsize=8)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    over = " with 95 % intervals" if comparison.certainty else ""
    axes.set_title(_text(title + over), loc="left", fontsize=11)
    if len(series) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    figure.savefig(path, bbox_inches="tight", format="png")

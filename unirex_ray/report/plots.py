"""Charts of a comparison."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from unirex_ray.analysis.certainty import Interval
from unirex_ray.analysis.compare import Comparison
from unirex_ray.analysis.gold_efficiency import Curve, GoldEfficiency
from unirex_ray.analysis.learning_curve import LearningCurves
from unirex_ray.metrics.table import AUPRC, NRG_METRICS
from unirex_ray.report.gold_efficiency import percent_text
from unirex_ray.report.learning_curve import size_text
from unirex_ray.report.table import NOT_BETTER, arrow, marked_label, method_label, over_seeds

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = {"CNRG": "#0072B2", "FNRG": "#E69F00", "PNRG": "#009E73", "TNRG": "#CC79A7"}
_LINES = ("#56B4E9", "#E69F00", "#CC79A7", "#0072B2", "#D55E00", "#009E73", "#000000")
_MARKERS = ("o", "s", "^", "D", "v")
_INTERVAL: dict[str, Any] = {"fmt": "none", "ecolor": "#333333", "elinewidth": 1.0, "capsize": 2.0}
_NUMBER: dict[str, Any] = {"fontsize": 8, "color": "#333333"}
_DASHES = ((0, (5, 2)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)))


def cnrg_figure(comparison: Comparison) -> Figure:
    """A bar chart of global CNRG by method, best on top."""
    return _comparison_figure(comparison, ("CNRG",))


def desiderata_figure(comparison: Comparison) -> Figure:
    """A bar chart of FNRG, PNRG (where there are gold rationales) and TNRG by method, in the order of CNRG."""
    return _comparison_figure(comparison, ("FNRG", "PNRG", "TNRG"))


def _comparison_figure(comparison: Comparison, names: Sequence[str]) -> Figure:
    rows = [row for row in comparison.rows if row.scores is not None]
    scores = [row.scores.by_key() for row in rows if row.scores]
    series = {name: [s[name.lower()] for s in scores] for name in names if all(name.lower() in s for s in scores)}
    found = comparison.certainty
    intervals = {name: [found.intervals[row.method][name.lower()] for row in rows] for name in series} if found else {}
    title = f"{comparison.experiment}: {', '.join(series)} on test" + (" with 95 % intervals" if found else "")
    unlearned = any(row.learned is False for row in rows)
    note = f"{NOT_BETTER} not better than the majority class" if unlearned else ""
    return bars_figure([marked_label(row.method, row.learned) for row in rows], series, intervals, title, note=note)


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


def learning_curve_figure(experiment: str, curves: LearningCurves) -> Figure:
    """A panel per raw metric, a line per method with a band of one standard deviation; sizes are spaced evenly.

    Markers of models that are not better than the majority class are hollow.
    """
    every = [point.configuration for points in curves.curves.values() for point in points]
    metrics = [metric for metric in NRG_METRICS if any(metric.key in each.mean("test") for each in every)]
    columns = 3
    lines = math.ceil((len(metrics) + 1) / columns)  # the legend takes a place as well
    figure = Figure(figsize=(3.2 * columns, 2.8 * lines), dpi=150, layout="constrained")
    panels = [figure.add_subplot(lines, columns, number + 1) for number in range(len(metrics))]
    for axes, metric in zip(panels, metrics, strict=True):
        for index, (method, points) in enumerate(curves.curves.items()):
            look: dict[str, Any] = {"color": _LINES[index % len(_LINES)], "marker": _MARKERS[index % len(_MARKERS)]}
            xs = [curves.sizes.index(point.size) for point in points]
            ys = [point.configuration.mean("test").get(metric.key, math.nan) for point in points]
            stds = [point.configuration.std("test").get(metric.key, math.nan) for point in points]
            axes.plot(xs, ys, linewidth=1.6, label=_text(method_label(method)), **look)
            hollow = [index for index, point in enumerate(points) if point.learned is False]
            if hollow:
                where = ([xs[index] for index in hollow], [ys[index] for index in hollow])
                axes.plot(*where, linestyle="", markerfacecolor="white", **look)
            below, above = ([y + sign * std for y, std in zip(ys, stds, strict=True)] for sign in (-1, 1))
            axes.fill_between(xs, below, above, color=look["color"], alpha=0.15, linewidth=0)
        axes.set_xticks(range(len(curves.sizes)), [size_text(size) for size in curves.sizes])
        axes.set_title(arrow(metric), loc="left", fontsize=10)
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    over = over_seeds(each.seeds for each in every)
    figure.suptitle(_text(f"{experiment}: test metrics by train instances, {over}"), x=0.01, ha="left", fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    if any(point.learned is False for points in curves.curves.values() for point in points):
        handles.append(Line2D([], [], linestyle="", marker="o", color="#555555", markerfacecolor="white"))
        labels.append("not better than the majority class")
    beside = figure.add_subplot(lines, columns, lines * columns)
    beside.set_axis_off()
    beside.legend(handles, labels, loc="center", frameon=False)
    return figure


def _line(curve: Curve, low: float, high: float) -> tuple[list[float], list[float], list[float]]:
    """Percents, means and standard deviations; from end to end where the curve is constant."""
    points = curve.points * 2 if curve.constant else curve.points
    xs = [low, high] if curve.constant else [point.percent for point in points if point.percent is not None]
    return xs, [point.auprc for point in points], [point.std for point in points]


def _text(text: str) -> str:
    # matplotlib reads dollar signs as mathematics.
    return text.replace("$", r"\$")


def bars_figure(
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    intervals: Mapping[str, Sequence[Interval | None]],
    title: str,
    *,
    note: str = "",
) -> Figure:
    """Horizontal bars of scores in [0, 1], the first on top.

    Args:
        labels: of the rows.
        series: values of the rows, by name.
        intervals: around them, for the series that have some.
        note: below the axis.
    """
    thickness = 0.8 / max(1, len(series))
    rows = len(labels)
    figure = Figure(figsize=(7.5, 1.2 + 0.28 * rows * (1 + len(series)) / 2 + 0.12 * rows), dpi=150)
    axes: Axes = figure.add_subplot()
    for index, (name, values) in enumerate(series.items()):
        centres = [row + (index - (len(series) - 1) / 2) * thickness for row in range(rows)]
        colour = _COLOURS.get(name, _LINES[index % len(_LINES)])
        axes.barh(centres, values, height=thickness * 0.92, color=colour, label=_text(name))
        known = intervals.get(name, [None] * rows)
        bounds = [interval or (value, value) for value, interval in zip(values, known, strict=True)]
        _draw_numbers(axes, values, bounds, centres)
    axes.set_yticks(range(rows), [_text(label) for label in labels])
    if note:
        axes.set_xlabel(note, loc="left", fontsize=8)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(_text(title), loc="left", fontsize=11)
    if len(series) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _draw_numbers(axes: Axes, values: Sequence[float], bounds: Sequence[Interval], centres: Sequence[float]) -> None:
    """Each value behind its bar or interval."""
    # A score may lie outside the percentiles of its draws: the bar of an interval never points inwards.
    apart = [(max(0.0, value - low), max(0.0, high - value)) for value, (low, high) in zip(values, bounds, strict=True)]
    if any(low or high for low, high in apart):
        axes.errorbar(values, centres, xerr=list(zip(*apart, strict=True)), **_INTERVAL)
    for value, (_, high), centre in zip(values, bounds, centres, strict=True):
        place = (max(value, high), centre)
        axes.annotate(f"{value:.3f}", place, (3, 0), textcoords="offset points", va="center", **_NUMBER)


def png(figure: Figure) -> bytes:
    """A chart as a file's content."""
    stream = io.BytesIO()
    figure.savefig(stream, bbox_inches="tight", format="png")
    return stream.getvalue()

"""Our results in the form of the paper's tables: rows by their names there, in its order."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unirex_ray.analysis.compare import Comparison, in_table_order
from unirex_ray.analysis.extraction_time import NO_TIMES, ExtractionTimes
from unirex_ray.analysis.selection import Configuration
from unirex_ray.methods import METHODS
from unirex_ray.metrics.table import (
    AUPRC,
    COMPREHENSIVENESS,
    CONVERGENCE_DELTA,
    CSD,
    EXTRACTION_S,
    NRG_METRICS,
    SUFFICIENCY,
    TASK_SCORE,
    TOKEN_F1,
    Metric,
)
from unirex_ray.report.table import (
    Column,
    ReportTable,
    arrow,
    bold_best,
    group_breaks,
    marked_label,
    metric_column,
    metric_columns,
    number_text,
    over_seeds,
    raw_metrics,
    score_text,
)

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of an ablation: the configuration of a method whose searched settings are these.

    Attributes:
        telling: whether it belongs to an ablation, where the others may be of any sweep.
        settings: those that it matches, where there is one choice of them.
    """

    label: str
    method: str
    matches: Callable[[Settings], bool]
    telling: bool = True
    settings: Settings = field(default_factory=dict)


def _row(label: str, method: str, **wanted: Any) -> TableRow:
    """Settings with `__` for the dot; none: a configuration of which nothing was searched."""
    expected = {key.replace("__", "."): value for key, value in wanted.items()}
    telling = bool(expected) or not METHODS[method].in_global_nrg
    return TableRow(
        label=label,
        method=method,
        matches=lambda settings: dict(settings) == expected,
        telling=telling,
        settings=expected,
    )


_SLM_FP = "unirex-slm-fp"
_WEIGHTS = ("loss.comp_weight", "loss.suff_weight")


def _weights_row(label: str, which: Callable[[float, float], bool], *, telling: bool = True) -> TableRow:
    """By the two weights, of which nothing else was searched; one that a configuration lacks is not 0."""

    def matches(settings: Settings) -> bool:
        comp, suff = (settings.get(key, 1.0) for key in _WEIGHTS)
        return len(settings) > 0 and {*settings} <= {*_WEIGHTS} and which(comp, suff)

    return TableRow(label=label, method=_SLM_FP, matches=matches, telling=telling)


TABLE_1: Mapping[str, tuple[TableRow, ...]] = {
    "Ext Type (F)": (
        _row("AA-F (Rand)", "unirex-aa-f-rand"),
        _row("AA-F (Gold)", "unirex-aa-f-gold"),
        _row("AA-F (Inv)", "unirex-aa-f-inv"),
        _row("AA-F (IG)", "unirex-aa-f"),
    ),
    "Ext Type (FP)": (
        _row("AA-FP (Sum)", "unirex-aa-fp", model__pooling="sum"),
        _row("AA-FP (MLP)", "unirex-aa-fp", model__pooling="mlp"),
        _row("DLM-FP", "unirex-dlm-fp"),
        _row("SLM-FP", _SLM_FP),
    ),
    "Comp/Suff Loss": (
        _weights_row("SLM-FP (Comp)", lambda comp, suff: suff == 0),
        _weights_row("SLM-FP (Suff)", lambda comp, suff: comp == 0),
        _weights_row("SLM-FP (Comp+Suff)", lambda comp, suff: comp != 0 and suff != 0, telling=False),
    ),
    "Suff Criterion": (
        _row("SLM-FP (KL Div)", _SLM_FP, loss__suff="kl"),
        _row("SLM-FP (MAE)", _SLM_FP, loss__suff="mae"),
        _row("SLM-FP (Margin)", _SLM_FP, loss__suff="margin"),
    ),
    "SLM Ext Head": (
        _row("SLM-FP (Linear)", _SLM_FP, model__head="linear"),
        _row("SLM-FP (MLP-2048-2)", _SLM_FP, model__head="mlp-2048-2"),
        _row("SLM-FP (MLP-4096-3)", _SLM_FP, model__head="mlp-4096-3"),
    ),
}
"""The paper's five ablations, each of them one of the spaces `ablation-...`."""

IG_STEPS = (3, 5, 10, 30, 50, 70, 100, 500, 1000)
TABLE_4 = (
    *(_row(f"AA (IG-{steps})", "aa-ig", model__ig_steps=steps) for steps in IG_STEPS),
    _row("UNIREX (AA-F)", "unirex-aa-f"),
    _row("UNIREX (DLM-FP)", "unirex-dlm-fp"),
    _row("UNIREX (SLM-FP)", _SLM_FP),
)

_Found = Sequence[tuple[str, TableRow, Configuration]]
"""Block, row and configuration."""


def paper_tables(comparison: Comparison, times: ExtractionTimes = NO_TIMES) -> dict[str, ReportTable]:
    """Those for which there are results, by name: `table_main` (Tables 6 to 10), `table_1`, `table_4`.

    Args:
        times: of the rows of Table 4.
    """
    found = {"table_main": _main(comparison)}
    blocks = [entry for name, rows in TABLE_1.items() for entry in _block(name, rows, comparison.variants)]
    if blocks:
        found["table_1"] = _ablations(comparison, blocks)
    steps = _block("", TABLE_4, comparison.variants)
    if steps:
        found["table_4"] = _efficiency(comparison, steps, times)
    return found


def _block(
    name: str, rows: Sequence[TableRow], variants: Mapping[str, Sequence[Configuration]]
) -> list[tuple[str, TableRow, Configuration]]:
    """A block's configurations from the one sweep that has most of its rows; nothing where none is a telling one."""
    by_sweep: dict[str, list[tuple[str, TableRow, Configuration]]] = {}
    for row in rows:
        for configuration in variants.get(row.method, ()):
            if row.matches(configuration.parameters):
                by_sweep.setdefault(configuration.sweep, []).append((name, row, configuration))
    # A grid over the weights has several configurations that could be one row: it is no ablation.
    by_sweep = {sweep: found for sweep, found in by_sweep.items() if len({r.label for _, r, _ in found}) == len(found)}
    with_telling = [found for found in by_sweep.values() if any(row.telling for _, row, _ in found)]
    return max(with_telling, key=len, default=[])


def _main(comparison: Comparison) -> ReportTable:
    """As Tables 6 to 10: NRG beside the raw metrics of each desideratum."""
    known = {row.method: row for row in comparison.rows}
    rows = [known[method] for method in in_table_order(known)]
    eligible = [row.learned is not False for row in rows]
    raw = metric_columns(NRG_METRICS, [row.configuration for row in rows], eligible)

    def nrg(key: str) -> Column:
        values = [None if row.scores is None else row.scores.by_key().get(key) for row in rows]
        return bold_best(map(score_text, values), values, higher_is_better=True, eligible=eligible)

    def of(*metrics: Metric) -> dict[str, Column]:
        return {arrow(metric): raw[arrow(metric)] for metric in metrics if arrow(metric) in raw}

    columns = {"CNRG": nrg("cnrg"), "FNRG": nrg("fnrg"), **of(COMPREHENSIVENESS, SUFFICIENCY)}
    if comparison.population.plausibility:
        columns |= {"PNRG": nrg("pnrg"), **of(AUPRC, TOKEN_F1)}
    columns |= {"TNRG": nrg("tnrg"), **of(TASK_SCORE)}
    over = over_seeds(row.configuration.seeds for row in rows)
    return ReportTable(
        title=f"{comparison.experiment}: main results on test in the form of the paper's Tables 6 to 10, {over}",
        lead={"Method": [marked_label(row.method, row.learned) for row in rows]},
        scores={"CNRG": columns.pop("CNRG")},
        raw=columns,
        records=[
            {
                "method": row.method,
                **(row.scores.by_key() if row.scores else {}),
                **raw_metrics(row.configuration, "test"),
            }
            for row in rows
        ],
    )


def _ablations(comparison: Comparison, found: _Found) -> ReportTable:
    blocks = [block for block, _, _ in found]
    columns = {
        arrow(metric): [
            cell
            for block in dict.fromkeys(blocks)
            for cell in _cells(metric, [configuration for name, _, configuration in found if name == block])
        ]
        for metric in (COMPREHENSIVENESS, SUFFICIENCY, AUPRC, TASK_SCORE)
        if any(metric.key in configuration.mean("test") for _, _, configuration in found)
    }
    missing = [
        f"{name}: {row.label}"
        for name, rows in TABLE_1.items()
        for row in rows
        if (name, row.label) not in {(block, other.label) for block, other, _ in found}
    ]
    first, *further = columns.items()
    return ReportTable(
        title=f"{comparison.experiment}: ablations on test in the form of the paper's Table 1, {_over(found)}",
        lead={
            "Ablation": [name if index == 0 or blocks[index - 1] != name else "" for index, name in enumerate(blocks)],
            "Method": [row.label for _, row, _ in found],
        },
        scores=dict([first]),
        raw=dict(further),
        remarks=[
            "Numbers of one block and column compare; the best is in bold.",
            *([f"Not there: {', '.join(missing)} (search spaces ablation-...)."] if missing else []),
        ],
        breaks=group_breaks(blocks),
        records=[{"ablation": block, "row": row.label, **_record(c)} for block, row, c in found],
    )


def _efficiency(comparison: Comparison, found: _Found, times: ExtractionTimes) -> ReportTable:
    configs = [configuration for _, _, configuration in found]
    if not times.seconds:
        seconds = [configuration.mean("time").get(EXTRACTION_S.key) for configuration in configs]
        spread = [configuration.std("time").get(EXTRACTION_S.key) for configuration in configs]
    else:
        measured = [times.seconds.get(row.label) for _, row, _ in found]
        seconds = [statistics.mean(runs) if runs else None for runs in measured]
        spread = [statistics.stdev(runs) if runs and len(runs) > 1 else None for runs in measured]
    slowest = {row.label: second for (_, row, _), second in zip(found, seconds, strict=True)}.get(
        f"AA (IG-{IG_STEPS[-1]})"
    )
    columns = metric_columns((CSD, *NRG_METRICS, CONVERGENCE_DELTA), configs)
    columns = {**columns, "ms per instance ↓": [_milliseconds(s, std) for s, std in zip(seconds, spread, strict=True)]}
    if slowest is not None:
        columns["x faster than IG-1000"] = ["" if not s else f"{slowest / s:.1f}" for s in seconds]
    first, *further = columns.items()
    return ReportTable(
        title=f"{comparison.experiment}: efficiency on test in the form of the paper's Table 4, {_over(found)}",
        lead={"Method": [row.label for _, row, _ in found]},
        scores=dict([first]),
        raw=dict(further),
        remarks=[f"Time: extraction with the prediction that it explains, {times.conditions}"],
        records=[
            {"row": row.label, **_record(c), "extraction_s": s} for (_, row, c), s in zip(found, seconds, strict=True)
        ],
    )


def _milliseconds(mean: float | None, std: float | None) -> str:
    return "" if mean is None else number_text(1000 * mean, 3, None if std is None else 1000 * std)


def _cells(metric: Metric, configs: Sequence[Configuration]) -> Column:
    means, stds = ([c.mean("test") for c in configs], [c.std("test") for c in configs])
    return metric_column(metric, means, stds)


def _over(found: _Found) -> str:
    return over_seeds(c.seeds for _, _, c in found)


def _record(configuration: Configuration) -> dict[str, Any]:
    return {
        "method": configuration.method,
        "configuration": configuration.key,
        **configuration.parameters,
        **raw_metrics(configuration, "test"),
    }

"""The leaderboard of a sweep and the comparison of methods, as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.text import Text

from unirex_ray.analysis.compare import Comparison
from unirex_ray.analysis.construction import predicts_from_rationale
from unirex_ray.analysis.leaderboard import Leaderboard, LeaderboardRow
from unirex_ray.methods import REFERENCES
from unirex_ray.metrics.nrg import Scores
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.report.certainty import (
    certainty_record,
    certainty_remarks,
    findings,
    interval_text,
    share_text,
)
from unirex_ray.report.table import (
    NOT_BETTER_REMARK,
    TIE_RULE,
    ReportTable,
    arrow,
    bold_best,
    constant_labels,
    group_breaks,
    marked_label,
    method_label,
    method_labels,
    metric_columns,
    noise_remark,
    number_text,
    over_seeds,
    parameters_text,
    raw_metrics,
    score_text,
)

_NRG = ("cnrg", "fnrg", "pnrg", "tnrg")


def leaderboard_table(board: Leaderboard, protocol: str = "") -> ReportTable:
    """One row per configuration: rank and CNRG within its method, sampled parameters, mean dev metrics.

    The CSV has no timings, so that equal sweeps give equal files.

    Args:
        protocol: in one line.
    """
    rows = board.rows
    means = [row.configuration.mean("dev") for row in rows]
    styles = ["bold" if row.best else "dim" if row.rank is None else "" for row in rows]

    def styled(cells: Iterable[str]) -> list[Text]:
        return [Text(cell, style=style) for cell, style in zip(cells, styles, strict=True)]

    return ReportTable(
        title="Leaderboard (dev, mean over seeds)",
        lead={
            "#": styled("-" if row.rank is None else str(row.rank) for row in rows),
            "Method": styled(
                marked_label(row.configuration.method, row.configuration.better_than_majority("dev"))
                + (" *" if row.best else "")
                for row in rows
            ),
            "Config": styled(row.configuration.key for row in rows),
        },
        scores={
            "Parameters": styled(row.note or parameters_text(row.configuration.parameters) for row in rows),
            "CNRG": styled(score_text(_score(row.scores, "cnrg")) for row in rows),
            "Global": styled(score_text(row.global_cnrg) for row in rows),
        },
        raw={
            arrow(metric): styled(number_text(mean.get(metric.key), metric.decimals) for mean in means)
            for metric in NRG_METRICS
            if any(metric.key in mean for mean in means)
        },
        remarks=[*_leaderboard_remarks(board), *([protocol] if protocol else [])],
        breaks=group_breaks([row.configuration.method for row in rows]),
        records=[_leaderboard_record(row) for row in rows],
    )


def _leaderboard_remarks(board: Leaderboard) -> list[str]:
    remarks = ["* best configuration. CNRG compares configurations of one method, Global the methods' best ones."]
    if any(row.configuration.better_than_majority("dev") is False for row in board.rows):
        remarks.append(NOT_BETTER_REMARK)
    if board.best is None and any(row.rank is not None for row in board.rows):
        remarks.append("No configuration has models that are better than the majority class: there is no best one.")
    ties = [
        f"{method_label(method)} {', '.join(configuration.key for configuration in ranking.tied)}"
        for method, ranking in board.variants.items()
        if ranking.tied
    ]
    if board.methods.tied:
        ties.append(method_labels(configuration.method for configuration in board.methods.tied))
    if ties:
        remarks.append(f"Ties for the best CNRG: {'; '.join(ties)}. {TIE_RULE}, the first of them was taken.")
    populations = {method_label(method): ranking.population for method, ranking in board.variants.items()}
    return remarks + noise_remark({**populations, "methods": board.methods.population})


def comparison_table(comparison: Comparison) -> ReportTable:
    """One row per method: NRG and raw test metrics (mean ± std over seeds), the best of each column in bold."""
    rows = comparison.rows
    # Nobody competes with what people marked.
    eligible = [row.learned is not False and row.method not in REFERENCES for row in rows]
    nrg = {key.upper(): [_score(row.scores, key) for row in rows] for key in _NRG}
    scores = {
        header: bold_best(map(score_text, values), values, higher_is_better=True, eligible=eligible)
        for header, values in nrg.items()
        if set(values) != {None} and not comparison.alone
    }
    found = comparison.certainty
    if found is not None and scores:
        known = found.intervals
        bounds = [interval_text(known[r.method]["cnrg"], 2) if r.method in known else "" for r in rows]
        firsts = [share_text(found.first[r.method]) if r.method in known else "" for r in rows]
        scores = {"CNRG": scores.pop("CNRG"), "95 %": bounds, "First": firsts, **scores}
    over = over_seeds(row.configuration.seeds for row in rows)
    return ReportTable(
        title=f"{comparison.experiment}: test, {over}"
        + ("" if comparison.alone else f"; NRG over {len(comparison.population.scores)} methods"),
        lead={"Method": [marked_label(row.method, row.learned) for row in rows]},
        scores={**scores, "Configs": [str(row.candidates) for row in rows]},
        raw=metric_columns(NRG_METRICS, [row.configuration for row in rows], eligible),
        remarks=_remarks(comparison),
        records=_comparison_records(comparison),
    )


def _remarks(comparison: Comparison) -> list[str]:
    """How sure the order is, constant metrics, missing gold rationales, and what is unscored."""
    found = comparison.certainty
    remarks = [*findings(found), *certainty_remarks(found)] if found else []
    if comparison.no_certainty:
        remarks.append(f"NO INTERVALS, so that a difference may be chance: {comparison.no_certainty}.")
    if comparison.alone:
        return [
            *remarks,
            "NRG compares methods, so that one alone has none: sweep others under the same protocol.",
            *_verdicts(comparison),
        ]
    if comparison.population.constant:
        remarks.append(f"All methods are equal on {constant_labels(comparison.population)}: each gets NRG 0.0 there.")
    if comparison.population.scores and not comparison.population.plausibility:
        remarks.append("The corpus has no gold rationales: PNRG is left out of CNRG.")
    remarks += noise_remark({"methods": comparison.population})
    if comparison.tied:
        remarks.append(
            f"Tie for the best CNRG: {method_labels(comparison.tied)}. {TIE_RULE}, they stand in this order."
        )
    return [*remarks, *_verdicts(comparison)]


def select_predict_remark(methods: Iterable[str]) -> list[str]:
    """What Comp and Suff are of pipelines that see their rationale alone; nothing without one."""
    pipelines = [method for method in methods if predicts_from_rationale(method)]
    if not pipelines:
        return []
    return [
        f"{method_labels(pipelines)}: the prediction is made from the rationale alone, so that Suff is 0 by "
        "construction, and Comp compares with an empty input. Neither says how well the rationale was chosen, and "
        "neither is in bold."
    ]


def _verdicts(comparison: Comparison) -> list[str]:
    """Whose numbers are so by construction, which models learned nothing, or may have, and what is unscored."""
    remarks: list[str] = []
    remarks += select_predict_remark(row.method for row in comparison.rows)
    verdicts = {row.learned for row in comparison.rows}
    if False in verdicts:
        remarks.append(NOT_BETTER_REMARK)
    if None in verdicts:
        unknown = method_labels(row.method for row in comparison.rows if row.learned is None)
        remarks.append(f"Whether the models are better than the majority class was not recorded: {unknown}.")
    reasons: dict[str, list[str]] = {}
    for name, reason in comparison.unscored:
        reasons.setdefault(reason, []).append(name)
    return [*remarks, *(f"Unscored: {', '.join(names)} ({reason})." for reason, names in reasons.items())]


def _leaderboard_record(row: LeaderboardRow) -> dict[str, Any]:
    configuration = row.configuration
    return {
        "method": configuration.method,
        "rank": row.rank,
        "configuration": configuration.key,
        "best": row.best,
        **{key: _score(row.scores, key) for key in _NRG},
        "global_cnrg": row.global_cnrg,
        "seeds": [record.spec.seed for record in configuration.records if record.status == "completed"],
        **configuration.parameters,
        **raw_metrics(configuration, "dev"),
        "note": row.note,
    }


def _comparison_records(comparison: Comparison) -> list[dict[str, Any]]:
    found = comparison.certainty
    return [
        {
            "method": row.method,
            "label": method_label(row.method),
            **(TrialMetrics(nrg=row.scores.by_key()).flat() if row.scores else {}),
            **raw_metrics(row.configuration, "test"),
            **(certainty_record(found, row.method) if found and row.method in found.intervals else {}),
            "seeds": list(row.configuration.seeds),
            "configuration": row.configuration.key,
            "candidates": row.candidates,
            "dev_cnrg": row.dev_cnrg,
            "parameters": dict(row.configuration.parameters),
            "sweep": row.configuration.sweep or comparison.sweeps[0],
            "data_digest": comparison.digest,
            "protocols": list(comparison.protocols),
        }
        for row in comparison.rows
    ]


def _score(scores: Scores | None, key: str) -> float | None:
    return None if scores is None else getattr(scores, key)

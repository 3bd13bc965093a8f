"""What drives CNRG in a sweep, as a table, in words and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unirex_ray.report.files import unfinished_remarks
from unirex_ray.report.table import ReportTable, group_breaks, method_label
from unirex_ray.sweep.study import FEWEST, SCORES, MethodStudy


def parameters_table(
    studies: Mapping[str, MethodStudy], experiment: str, unfinished: Sequence[str] = ()
) -> ReportTable:
    """One row per method and searched parameter: its share of each score's variation over configurations.

    Args:
        unfinished: sweeps that lack trials, in words.
    """
    rows = [(study, name) for study in studies.values() for name in study.parameters]
    shown = [score for score in SCORES if any(score in study.importance for study in studies.values())]

    def cell(study: MethodStudy, name: str, score: str) -> str:
        found = study.importance.get(score)
        return "" if found is None else f"{100 * found.shares[name]:.0f} %"

    return ReportTable(
        title=f"{experiment}: share of each score's variation on dev by searched parameter (fANOVA)",
        lead={"Method": [method_label(study.method) for study, _ in rows]},
        scores={
            "Setting": [name for _, name in rows],
            "Configs": [str(len(study.trials)) for study, _ in rows],
            **{score.upper(): [cell(study, name, score) for study, name in rows] for score in shown},
        },
        raw={},
        remarks=[*unfinished_remarks(unfinished), *_remarks(studies)],
        breaks=group_breaks([study.method for study, _ in rows]),
        records=[
            {
                "method": study.method,
                "parameter": name,
                "configurations": len(study.trials),
                **{f"share/{score}": found.shares[name] for score, found in study.importance.items()},
                **{f"explained/{score}": found.explained for score, found in study.importance.items()},
            }
            for study, name in rows
        ],
    )


def _remarks(studies: Mapping[str, MethodStudy]) -> list[str]:
    remarks = ["Shares sum to 100 % for any score, one of pure noise as well: see what the settings predict."]
    for study in studies.values():
        label = method_label(study.method)
        if study.left_out:
            remarks.append(f"{label}: left out, as only some configurations have them: {', '.join(study.left_out)}.")
        if not study.importance:
            few = f"{len(study.trials)} configurations"
            remarks.append(f"{label}: {few} are too few to tell importance (at least {FEWEST}), or do not differ.")
            continue
        predicted = {score: found for score, found in study.importance.items() if found.explained > 0}
        noise = [score.upper() for score in study.importance if score not in predicted]
        told = ", ".join(f"{score.upper()} (R² {found.explained:.2f})" for score, found in predicted.items())
        if told:
            remarks.append(f"{label}: from some configurations, the settings predict {told} of the rest.")
        if noise and not study.left_out:
            remarks.append(
                f"{label}: THE SETTINGS PREDICT NOTHING of {', '.join(noise)} of the rest (R² at most 0); "
                "their shares, and which configuration is the best, are noise there. More seeds or instances tell more."
            )
    return remarks

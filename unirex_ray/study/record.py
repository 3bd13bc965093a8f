"""A study in the run store, beside the runs of the models that it judges."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from unirex_ray.config import Config
from unirex_ray.errors import UserError
from unirex_ray.report.files import REPORT
from unirex_ray.report.table import ReportTable
from unirex_ray.study.analysis import Analysis
from unirex_ray.study.answers import Answers, own_format
from unirex_ray.study.in_words import WORDS, findings
from unirex_ray.study.manifest import MANIFEST, Study
from unirex_ray.study.report import TABLES
from unirex_ray.tracking.choose import uri_of_output
from unirex_ray.tracking.provenance import code_version
from unirex_ray.tracking.records import JudgedModel, StudyRecord
from unirex_ray.tracking.store import GIT_VERSION, RunStore, own_database, resolve_tracking_uri

ANSWERS = "answers.json"
"""Artifact with all answers, by annotator."""

_PEOPLE, _SIMULATED = "study", "study_simulated"
"""How the keys of metrics begin: charts put nobody's answers beside simulated ones."""


def record(
    store: RunStore, study: Study, answers: Answers, analysis: Analysis, tables: Mapping[str, ReportTable], page: str
) -> str:
    """Put a study into the store; the same answers again replace it.

    What people made of a model stands beside its trial's own metrics as well, and what simulated annotators did does
    not.

    Args:
        tables, page: of the report.

    Returns:
        The run.
    """
    shown = "\n".join(table.markdown() for table in tables.values())
    files = {
        REPORT: page,
        f"{TABLES}.md": shown,
        **{f"{name}.csv": table.csv() for name, table in tables.items()},
        MANIFEST: json.dumps({"id": study.id, **study.content()}, indent=1),
        ANSWERS: json.dumps(answer_files(study, answers), indent=1),
    }
    about = StudyRecord(
        study=study.id,
        answers=analysis.digest,
        simulated=analysis.simulated,
        corpus=study.corpus["name"],
        digest=study.corpus["digest"],
        metrics=metrics_of(study, analysis),
        models=_models(study, analysis),
    )
    run = store.log_study(
        about,
        params=_params(study),
        tags={GIT_VERSION: code_version()},
        files={name: text.encode() for name, text in files.items()},
    )
    store.describe(run, "\n\n".join([*findings(study, analysis), shown]))
    return run


def store_uri(study: Study, config: Config) -> str:
    """Where a study is recorded: as configured, else beside its models where one output has all of them.

    Args:
        config: whose output is the study's folder, which has the store otherwise.
    """
    outputs = {condition.model["output"] for condition in study.conditions if "output" in condition.model}
    uri = resolve_tracking_uri(config)
    if uri == own_database(config) and len(outputs) == 1:
        with suppress(UserError):  # nothing is recorded there
            return uri_of_output(min(outputs), "output")
    return uri


def answer_files(study: Study, answers: Answers) -> dict[str, Any]:
    """The answers that count, as each annotator's answer file would have them."""
    return {
        annotator: own_format(
            study.id,
            annotator,
            [
                {
                    "item": one.item.id,
                    **{str(name): value for name, value in one.values.items()},
                    **({} if one.seconds is None else {"seconds": one.seconds}),
                    **({} if one.at is None else {"at": one.at.isoformat()}),
                }
                for one in answers.answers
                if one.annotator == annotator
            ],
            simulated=answers.simulated,
        )
        for annotator in study.sheets
    }


def metrics_of(study: Study, analysis: Analysis) -> dict[str, float]:
    """Means by question and condition, and agreement by question; by logged key."""
    group, names = _SIMULATED if analysis.simulated else _PEOPLE, condition_keys(study)
    means = {
        f"{group}/{WORDS[question]}/{names[number]}": cell.mean
        for question, cells in analysis.cells.items()
        for number, cell in cells.items()
    }
    agreement = {
        f"{group}/{measure}/{question}": value
        for question, found in analysis.agreement.items()
        for measure, value in (("kappa", found.kappa), ("alpha", found.alpha))
        if value is not None
    }
    return means | agreement


def condition_keys(study: Study) -> list[str]:
    """A name of each condition that MLflow takes: its method, with the trial where two are of one method."""
    oracles = {"gold": "gold", "none": "no-rationale"}
    methods = [condition.model.get("method", "") for condition in study.conditions]
    keys = []
    for condition, method in zip(study.conditions, methods, strict=True):
        trial = f".{condition.model.get('trial_id', '')}" if methods.count(method) > 1 else ""
        keys.append(oracles.get(condition.kind, re.sub(r"[^A-Za-z0-9_.-]+", "-", method + trial)))
    return keys


def _models(study: Study, analysis: Analysis) -> tuple[JudgedModel, ...]:
    return tuple(
        JudgedModel(
            trial_id=condition.model.get("trial_id", ""),
            trained_on=condition.model.get("trained_on", ""),
            trained_digest=condition.model.get("trained_digest", ""),
            metrics={
                f"{_PEOPLE}/{WORDS[question]}": cells[number].mean
                for question, cells in analysis.cells.items()
                if number in cells and not analysis.simulated
            },
        )
        for number, condition in enumerate(study.conditions)
        if condition.kind == "method"
    )


def _params(study: Study) -> dict[str, Any]:
    settings = {key: value for key, value in study.corpus.items() if key.startswith("data.")}
    return {
        "annotators": len(study.sheets),
        "raters": study.raters,
        "instances": len(study.instances),
        "conditions": [condition.name for condition in study.conditions],
        "tasks": [task.name for task in study.tasks],
        "split": study.corpus["split"],
        "seed": study.seed,
        "study.code": study.code,
        **settings,
    }

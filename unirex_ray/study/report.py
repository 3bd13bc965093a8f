"""A study's page, and the files that it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unirex_ray.report.files import REPORT, write_results
from unirex_ray.report.html import visible
from unirex_ray.report.page import Section, report_page
from unirex_ray.report.table import ReportTable
from unirex_ray.study.analysis import Analysis
from unirex_ray.study.answers import Answers
from unirex_ray.study.in_words import condition_name, findings, interval_remarks, missing, one_line_each
from unirex_ray.study.manifest import Study
from unirex_ray.study.tables import SIMULATED_TITLE

TABLES = "study"
"""Name of the Markdown and of the LaTeX file, without its ending."""

_TOLD = 10
"""Problems that a terminal shows."""


def problem_lines(answers: Answers, most: int = _TOLD) -> list[str]:
    """What was left out and what is missing, in short."""
    lines = [*one_line_each(answers.problems[:most])]
    if len(answers.problems) > most:
        lines.append(f"... and {len(answers.problems) - most} more problems: see {REPORT}")
    return [*lines, *missing(answers)]


def study_page(study: Study, answers: Answers, analysis: Analysis, tables: Mapping[str, ReportTable]) -> str:
    """The page, which needs no network.

    Args:
        tables: as `study_tables` gives them.
    """
    headings = {
        "table3": "What people make of the rationales",
        "pairs": "Which can be told apart",
        "agreement": "How far annotators agree",
        "table5": "Instances that tell something",
        "annotators": "Annotators",
        "simulated": "Simulated annotators (a model, no people)",
    }
    if analysis.simulated:
        headings["table3"] = "What simulated annotators (no people) make of the rationales"
    sections = [Section(heading=headings[name], tables=[table]) for name, table in tables.items()]
    left_out = [
        ReportTable(title=f"{title}: {len(lines):,}", lead={}, scores={}, raw={}, remarks=lines)
        for title, lines in (
            ("Left out", one_line_each(answers.problems)),
            ("Without an answer", _waiting(study, answers)),
        )
        if lines
    ]
    if left_out:
        sections.append(Section(heading="What is missing", tables=left_out))
    return report_page(
        sections,
        title=f"{SIMULATED_TITLE if analysis.simulated else ''}User study on {study.corpus['name']}",
        subtitle=f"study {study.id}: {_design(study)}",
        answer=findings(study, analysis),
        facts=_facts(study, answers, analysis),
    )


def write_report(folder: Path, tables: Mapping[str, ReportTable], page: str) -> tuple[str, ...]:
    """Write the page, the tables in one Markdown and one LaTeX file, and each as CSV.

    Returns:
        Names of the files.

    Raises:
        UserError: if the folder cannot be written.
    """
    return write_results(folder, TABLES, tables, {}, {REPORT: page})


def _design(study: Study) -> str:
    tasks = " and ".join(task.title for task in study.tasks)
    return (
        f"{len(study.sheets)} annotators, {len(study.instances)} instances, {len(study.conditions)} conditions; "
        f"an annotator judges each instance once per task, and {study.raters} or more judge the same items. {tasks}"
    )


def _facts(study: Study, answers: Answers, analysis: Analysis) -> dict[str, str]:
    corpus = study.corpus
    models = {
        f"Model of {condition_name(study, number)}": ", ".join(
            f"{key} {value}" for key, value in condition.model.items() if value
        )
        for number, condition in enumerate(study.conditions)
        if condition.kind == "method"
    }
    return {
        "Study": study.id,
        "Answers": f"{len(answers.answers):,}{' SIMULATED' if answers.simulated else ''}, digest {analysis.digest}",
        "Corpus": f"{corpus['name']}, {corpus['split']}, digest {corpus['digest']}",
        "Design": _design(study),
        "Seed": str(study.seed),
        "Made with": study.code,
        **models,
        "Intervals": " ".join(interval_remarks(analysis)) or "none: nobody has answered yet",
    }


def _waiting(study: Study, answers: Answers) -> list[str]:
    """Of each annotator, the items without an answer."""
    return [
        f"{visible(name)}, {task}: {', '.join(waiting)}"
        for name, items in answers.unanswered.items()
        for task in study.sheets[name]
        if (waiting := [item for item in items if study.by_id[item].task == task])
    ]

"""A study's tables: the paper's Tables 3 and 5, agreement, pairs of conditions, annotators."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.text import Text

from unirex_ray.report.certainty import interval_text, p_text
from unirex_ray.report.html import visible
from unirex_ray.report.table import ReportTable, bold_best, group_breaks, number_text
from unirex_ray.study.agreement import Agreement, verbal
from unirex_ray.study.analysis import LEVEL, Analysis, Annotator, Cell, Telling
from unirex_ray.study.answers import Answers
from unirex_ray.study.in_words import (
    PERCENT,
    WORDS,
    condition_name,
    interval_remarks,
    missing,
    one_line_each,
    pair_sentence,
)
from unirex_ray.study.manifest import Study
from unirex_ray.study.sheet import passages
from unirex_ray.study.tasks import TASKS, TaskName

SIMULATED_TITLE = "SIMULATED ANNOTATORS, NO PEOPLE: "
SIMULATED_REMARK = "SIMULATED: these answers are a model's, no person gave any of them; they say nothing of people."

_TASK_WORDS: Mapping[TaskName, str] = {"forward": "Forward", "rating": "Rating"}
_LONGEST_PLAIN, _KEPT = 300, 100
"""Characters of text without a highlight that Table 5 shows whole; what stays at either end of a longer one."""


def study_tables(
    study: Study, answers: Answers, analysis: Analysis, *, simulated: Mapping[str, Sequence[float]] | None = None
) -> dict[str, ReportTable]:
    """The tables by the name of their CSV file; Table 5 only where there are ratings.

    Args:
        simulated: accuracy of students in the place of people, in [0, 1], by the condition's name: a table of its own.
    """
    tables = {
        "table3": _table_3(study, answers, analysis),
        "agreement": _agreement_table(analysis),
        **({"table5": _table_5(study, analysis)} if "alignment" in analysis.cells else {}),
        "pairs": _pairs_table(study, analysis),
        "annotators": _annotators_table(analysis),
    }
    if analysis.simulated:
        tables = {
            name: replace(table, title=SIMULATED_TITLE + table.title, remarks=[SIMULATED_REMARK, *table.remarks])
            for name, table in tables.items()
        }
    return {**tables, **({"simulated": _students_table(study, analysis, simulated)} if simulated else {})}


def _table_3(study: Study, answers: Answers, analysis: Analysis) -> ReportTable:
    shown = [number for number in analysis.order if any(number in study.shown_in(task.name) for task in study.tasks)]
    is_method = [study.conditions[number].kind == "method" for number in shown]
    scores = {}
    counts = {}
    for task in study.tasks:
        of_task = [analysis.cells[task.questions[0].name].get(number) for number in shown]
        counts[_TASK_WORDS[task.name]] = [f"{one.answers} by {one.annotators}" if one else "" for one in of_task]
        for question in task.questions:
            cells = [analysis.cells[question.name].get(number) for number in shown]
            texts = [number_text(cell.mean, 2, cell.std) if cell else "-" for cell in cells]
            means = [cell.mean if cell else None for cell in cells]
            scores[question.title] = bold_best(texts, means, higher_is_better=True, eligible=is_method)
            scores[f"{WORDS[question.name].capitalize()}, {PERCENT}"] = [
                interval_text(cell.interval, 2) if cell and cell.interval else "" for cell in cells
            ]
    return ReportTable(
        title=f"{study.corpus['name']}, {study.corpus['split']}: user study",
        lead={"Method": [condition_name(study, number) for number in shown]},
        scores={**scores, **counts},
        raw={},
        remarks=[*_table_3_remarks(study, answers, analysis)],
        records=[_condition_record(study, analysis, number) for number in shown],
    )


def _table_3_remarks(study: Study, answers: Answers, analysis: Analysis) -> list[str]:
    remarks = [
        "Mean ± standard deviation over annotators, of each one's mean over their items; in bold, the highest of the "
        "methods. Right is the label that the model predicted; for No Rationale and Gold it is the target label."
    ]
    counts = ", ".join(_TASK_WORDS[task.name] for task in study.tasks)
    remarks.append(f"{counts}: answers, and by how many annotators.")
    return [*remarks, *interval_remarks(analysis), *missing(answers), *one_line_each(study.notes)]


def _condition_record(study: Study, analysis: Analysis, number: int) -> dict[str, Any]:
    record: dict[str, Any] = {"method": study.conditions[number].name, "kind": study.conditions[number].kind}
    for question, cells in analysis.cells.items():
        record |= {f"{WORDS[question]}{key}": value for key, value in _cell_record(cells.get(number)).items()}
    return {**record, "simulated": analysis.simulated}


def _cell_record(cell: Cell | None) -> dict[str, Any]:
    low, high = cell.interval if cell and cell.interval else (None, None)
    return {
        "": cell and cell.mean,
        "_std": cell and cell.std,
        "_low": low,
        "_high": high,
        "_annotators": cell.annotators if cell else 0,
        "_instances": cell.instances if cell else 0,
        "_answers": cell.answers if cell else 0,
    }


def _pairs_table(study: Study, analysis: Analysis) -> ReportTable:
    pairs = analysis.pairs
    questions = [WORDS[pair.question].capitalize() for pair in pairs]
    return ReportTable(
        title="Differences between conditions",
        lead={
            "Question": questions,
            "Method": [condition_name(study, pair.condition) for pair in pairs],
            "Other": [condition_name(study, pair.other) for pair in pairs],
        },
        scores={
            "Difference": [Text(number_text(pair.difference, 2), style="bold" if pair.apart else "") for pair in pairs],
            PERCENT: [interval_text(pair.interval, 2) for pair in pairs],
            "p": [p_text(pair.p).removeprefix("p ").removeprefix("= ") for pair in pairs],
        },
        raw={},
        breaks=group_breaks(questions),
        remarks=[
            "Method minus other, of accuracy in points; from the same draws as the intervals of the means. p is "
            f"corrected for all pairs of a question (Holm); in bold where it is at most {1 - LEVEL:.2f}."
        ]
        if pairs
        else ["No two conditions have enough answers to be compared."],
        records=[
            {
                "question": WORDS[pair.question],
                "method": study.conditions[pair.condition].name,
                "other": study.conditions[pair.other].name,
                "difference": pair.difference,
                "low": pair.interval[0],
                "high": pair.interval[1],
                "p_holm": pair.p,
                "in_words": pair_sentence(study, pair),
                "simulated": analysis.simulated,
            }
            for pair in pairs
        ],
    )


def _agreement_table(analysis: Analysis) -> ReportTable:
    found = list(analysis.agreement.values())
    return ReportTable(
        title="Agreement between annotators",
        lead={"Question": [one.question.capitalize() for one in found]},
        scores={
            "Fleiss' kappa": [_agreement_text(one.kappa) for one in found],
            "Items": [str(one.kappa_items) for one in found],
            "Raters": [str(one.kappa_raters) for one in found],
            "Krippendorff's alpha": [_agreement_text(one.alpha) for one in found],
            "All items": [str(one.items) for one in found],
        },
        raw={},
        remarks=[
            "Kappa is taken over the items that as many annotators answered as answered most items, alpha (ordinal, of "
            "labels nominal) over all that two or more answered. In words as Landis and Koch (1977) have them.",
            *(f"{one.question.capitalize()}: {one.undefined}." for one in found if one.undefined),
        ],
        records=[_agreement_record(one, analysis) for one in found],
    )


def _agreement_text(value: float | None) -> str:
    return "" if value is None else f"{number_text(value, 4)} ({verbal(value)})"


def _agreement_record(one: Agreement, analysis: Analysis) -> dict[str, Any]:
    return {
        "question": one.question,
        "fleiss_kappa": one.kappa,
        "kappa_items": one.kappa_items,
        "kappa_raters": one.kappa_raters,
        "krippendorff_alpha": one.alpha,
        "items": one.items,
        "undefined": one.undefined,
        "simulated": analysis.simulated,
    }


def _table_5(study: Study, analysis: Analysis) -> ReportTable:
    groups = [("Highest mean", one) for one in analysis.highest] + [("Highest std", one) for one in analysis.widest]
    order = [number for number in analysis.order if number in study.shown_in("rating")]
    rows = [(name, one, number) for name, one in groups for number in order]
    return ReportTable(
        title="Instances of highest mean alignment, and of highest standard deviation",
        lead={
            "Ranking": [name if number == order[0] else "" for name, _, number in rows],
            "Instance": [str(one.instance) if number == order[0] else "" for _, one, number in rows],
            "Method": [condition_name(study, number) for _, _, number in rows],
            "Prediction": [_prediction(study, one, number) for _, one, number in rows],
            "Alignment (1-5)": [_ratings_text(one.ratings[number]) for _, one, number in rows],
        },
        scores={"Rationale": [_highlighted(study, one.instance, number) for _, one, number in rows]},
        raw={},
        breaks={index for index in range(len(rows)) if (index + 1) % len(order) == 0},
        remarks=_table_5_remarks(study, analysis, order),
        records=[_telling_record(study, analysis, name, one, number) for name, one, number in rows],
    )


def _table_5_remarks(study: Study, analysis: Analysis, order: Sequence[int]) -> list[str]:
    remarks = [
        f"Of {len(study.instances)} instances, the {analysis.rateable} with two ratings or more. Mean: of each "
        "method's mean over annotators the mean over methods, with Gold. Standard deviation (n - 1): of all ratings of "
        "an instance, over annotators and methods. Ties go to the lower index. Instances are numbered from 0.",
        "Alignment: mean ± standard deviation over annotators, and how many; empty where nobody rated a rationale.",
    ]
    shown = [*analysis.highest, *analysis.widest]
    if any(not one.ratings[number] for one in shown for number in order):
        rated = sorted({sum(bool(one.ratings[number]) for number in order) for one in shown})
        remarks.append(
            f"In this design nobody sees an instance twice: of the {len(order)} conditions, "
            f"{' or '.join(map(str, rated))} were rated on each instance shown, so that its mean and its spread depend "
            "on which."
        )
    return remarks


def _prediction(study: Study, one: Telling, number: int) -> str:
    return visible(study.instances[one.instance].options[study.rationales[one.instance][number].label])


def _ratings_text(given: Sequence[int]) -> str:
    if not given:
        return ""
    std = statistics.stdev(given) if len(given) > 1 else None
    return f"{number_text(statistics.fmean(given), 2, std)} ({len(given)})"


def _highlighted(study: Study, instance: int, number: int) -> Text:
    """A text with its rationale in bold; long stretches without one are cut."""
    text = Text()
    for passage in passages(study, instance, number):
        if text:
            text.append("\n")
        if passage.choice:
            text.append(f"{visible(passage.choice)}: ")
        for part, marked in passage.runs:
            text.append(visible(part if marked else _shortened(part)), "bold underline" if marked else "")
    return text


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_PLAIN else f"{text[:_KEPT]} [...] {text[-_KEPT:]}"


def _telling_record(study: Study, analysis: Analysis, name: str, one: Telling, number: int) -> dict[str, Any]:
    found = passages(study, one.instance, number)
    return {
        "ranking": name,
        "instance": one.instance,
        "id": study.instances[one.instance].id,
        "method": study.conditions[number].name,
        "texts": [passage.text for passage in found],
        "highlighted": [[text for text, marked in passage.runs if marked] for passage in found],
        "prediction": _prediction(study, one, number),
        "ratings": list(one.ratings[number]),
        "instance_mean": one.mean,
        "instance_std": one.std,
        "simulated": analysis.simulated,
    }


def _annotators_table(analysis: Analysis) -> ReportTable:
    people = analysis.annotators
    tasks = [name for name in TASKS if any(name in one.asked for one in people)]
    return ReportTable(
        title="Annotators",
        lead={"Annotator": [visible(one.name) for one in people]},
        scores={
            header: column
            for task in tasks
            for header, column in (
                (_TASK_WORDS[task], [f"{one.answered.get(task, 0)} of {one.asked.get(task, 0)}" for one in people]),
                (f"{_TASK_WORDS[task]}, s", [number_text(one.seconds.get(task), 1) for one in people]),
            )
        }
        | {"Remarks": ["; ".join(one.remarks) for one in people]},
        raw={},
        remarks=["Items answered, and the median of the seconds that one took. Strange answers are named, and count."],
        records=[_annotator_record(one, analysis) for one in people],
    )


def _annotator_record(one: Annotator, analysis: Analysis) -> dict[str, Any]:
    record: dict[str, Any] = {"annotator": one.name}
    for task in one.asked:
        record |= {
            f"{task}_answered": one.answered[task],
            f"{task}_asked": one.asked[task],
            f"{task}_median_s": one.seconds[task],
        }
    return {**record, "remarks": "; ".join(one.remarks), "simulated": analysis.simulated}


def _students_table(study: Study, analysis: Analysis, accuracy: Mapping[str, Sequence[float]]) -> ReportTable:
    known = [number for number in analysis.order if accuracy.get(study.conditions[number].name)]
    percents = [[100 * share for share in accuracy[study.conditions[number].name]] for number in known]
    means = [statistics.fmean(of_condition) for of_condition in percents]
    stds = [statistics.stdev(of_condition) if len(of_condition) > 1 else None for of_condition in percents]
    return ReportTable(
        title="SIMULATED annotators (a model, no people): accuracy of forward simulation",
        lead={"Method": [condition_name(study, number) for number in known]},
        scores={
            "Accuracy (%)": [number_text(mean, 2, std) for mean, std in zip(means, stds, strict=True)],
            "Simulated": [str(len(of_condition)) for of_condition in percents],
        },
        raw={},
        remarks=[
            "Students that learned from the highlighted words of train instances which label the model predicted, "
            "and are asked about all instances; mean ± standard deviation over students. No answer of theirs is in any "
            "other table."
        ],
        records=[
            {"method": study.conditions[number].name, "simulated_accuracy": mean, "std": std, "students": len(each)}
            for number, mean, std, each in zip(known, means, stds, percents, strict=True)
        ],
    )

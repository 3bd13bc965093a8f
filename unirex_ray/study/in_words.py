"""What a study's answers carry, and what they leave out, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unirex_ray.report.certainty import interval_text, p_text
from unirex_ray.report.html import visible
from unirex_ray.report.table import number_text
from unirex_ray.study.analysis import LEVEL, Analysis, Pair
from unirex_ray.study.answers import Answers
from unirex_ray.study.manifest import Study
from unirex_ray.study.tasks import QuestionName

PERCENT = f"{100 * LEVEL:.0f} %"
WORDS: Mapping[QuestionName, str] = {"label": "accuracy", "confidence": "confidence", "alignment": "alignment"}
_FEW_ANNOTATORS, _FEW_INSTANCES = 3, 20


def findings(study: Study, analysis: Analysis) -> list[str]:
    """What can be said of the methods, a sentence or two for each question; of SIMULATED answers it is said first."""
    found = ["SIMULATED annotators, no people:"] if analysis.simulated else []
    for name, word in WORDS.items():
        cells = analysis.cells.get(name, {})
        methods = [number for number in cells if study.conditions[number].kind == "method"]
        if not methods or name == "confidence":
            continue
        best = max(methods, key=lambda number: (cells[number].mean, -number))
        value = f"{cells[best].mean:.2f}{' %' if name == 'label' else ''}"
        if len(methods) > 1:
            found.append(f"{condition_name(study, best)} has the highest mean {word} of the methods ({value}).")
        else:
            found.append(f"{condition_name(study, best)} has a mean {word} of {value}.")
        rivals = [_seen_from(best, pair) for pair in analysis.pairs_of(name) if best in (pair.condition, pair.other)]
        for relation, chosen in (
            ("cannot be told apart from", [pair for pair in rivals if not pair.apart]),
            ("is ahead of", [pair for pair in rivals if pair.apart and pair.difference > 0]),
            ("is behind", [pair for pair in rivals if pair.apart and pair.difference < 0]),
        ):
            if chosen:
                named = ", ".join(f"{condition_name(study, pair.other)} ({_numbers(pair)})" for pair in chosen)
                found.append(f"In {word} it {relation} {named}.")
    return found if len(found) > analysis.simulated else [*found, "No rationale of a method has been judged yet."]


def pair_sentence(study: Study, pair: Pair) -> str:
    """Whether two conditions can be told apart, the higher one first."""
    seen = _seen_from(pair.condition if pair.difference >= 0 else pair.other, pair)
    first, second, word = condition_name(study, seen.condition), condition_name(study, seen.other), WORDS[pair.question]
    if pair.apart:
        return f"{first} is ahead of {second} in {word} ({_numbers(seen)})."
    return f"{first} and {second} cannot be told apart in {word} ({_numbers(seen)})."


def _seen_from(condition: int, pair: Pair) -> Pair:
    """The same with this one first."""
    if condition == pair.condition:
        return pair
    low, high = pair.interval
    return replace(
        pair, condition=pair.other, other=pair.condition, difference=-pair.difference, interval=(-high, -low)
    )


def _numbers(pair: Pair) -> str:
    unit = " points" if pair.question == "label" else ""
    difference, interval = number_text(pair.difference, 2), interval_text(pair.interval, 2)
    return f"difference {difference}{unit}, {PERCENT} interval {interval}, {p_text(pair.p)} by Holm"


def interval_remarks(analysis: Analysis) -> list[str]:
    """What the intervals are, and what they leave out."""
    cells = [cell for of_question in analysis.cells.values() for cell in of_question.values()]
    if not cells:
        return []
    annotators, instances = max(cell.annotators for cell in cells), max(cell.instances for cell in cells)
    of_whom = "instances" if annotators == 1 else "annotators and instances"
    remarks = [
        f"{PERCENT} intervals and p: {analysis.draws:,} bootstrap draws of {of_whom}, rather wide than narrow, the "
        "wider the fewer annotators there are. They speak of these models: what others, trained with other seeds, "
        "would show is no part of them."
    ]
    if annotators == 1:
        remarks.append("WITH ONE ANNOTATOR, how far another one's answers would differ is in no interval and no p.")
    elif annotators < _FEW_ANNOTATORS:
        remarks.append(f"{annotators} annotators tell little of how far people differ: intervals may be too narrow.")
    if instances < _FEW_INSTANCES:
        remarks.append(f"No condition was judged on more than {instances} instances: intervals may be too narrow.")
    return remarks


def missing(answers: Answers) -> list[str]:
    """How many answers are missing, and whose; nothing where all are there."""
    waiting = {name: len(items) for name, items in answers.unanswered.items() if items}
    if not waiting:
        return []
    total = sum(waiting.values())
    each = ", ".join(f"{visible(name)}: {count}" for name, count in waiting.items())
    return [f"{total} of {total + len(answers.answers)} answers are missing ({each})."]


def condition_name(study: Study, number: int) -> str:
    """What a reader sees of a condition."""
    return visible(study.conditions[number].name)


def one_line_each(lines: Sequence[str]) -> list[str]:
    """Each on one line, as LaTeX's comments need it."""
    return [" ".join(visible(line).split()) for line in lines]

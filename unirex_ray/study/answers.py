"""What annotators answered, from whichever file it comes, checked against the study."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from unirex_ray.errors import UserError
from unirex_ray.study.manifest import Item, Study
from unirex_ray.study.tasks import TASKS, QuestionName

FORMAT = "unirex_ray study answers"
VERSION = 1

_TOLD = 60
"""Characters of a foreign value that a message repeats."""


@dataclass(frozen=True, kw_only=True)
class RawAnswer:
    """An answer as a file has it; nothing of it can be relied on.

    Attributes:
        values: by question: a number, or a label in words.
        seconds: that the annotator took.
        at: when it was given, ISO 8601.
        source: the file, for messages.
        study: identifier of the study that it says it belongs to; None where it does not say.
    """

    annotator: Any
    item: Any
    values: Mapping[str, Any]
    source: str
    seconds: Any = None
    at: Any = None
    study: Any = None
    simulated: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that the study asked for.

    Attributes:
        values: by question: the index of the answered label, or a number of the question's scale.
        seconds: None where it is not known.
        at: when it was given; None where it is not known.
    """

    annotator: str
    item: Item
    values: Mapping[QuestionName, int]
    seconds: float | None = None
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """All answers to a study.

    Attributes:
        answers: one per annotator and item, in the order of the sheets.
        simulated: whether no people gave them.
        problems: what was left out and why, a sentence each.
        unanswered: items that wait for an answer, by annotator; those who answered nothing have all of theirs.
    """

    answers: tuple[Answer, ...]
    simulated: bool
    problems: tuple[str, ...] = ()
    unanswered: Mapping[str, Sequence[str]] = field(default_factory=dict)


def own_format(
    study: str, annotator: str, answers: Iterable[Mapping[str, Any]], *, simulated: bool = False
) -> dict[str, Any]:
    """The content of an answer file, as forms export it.

    Args:
        answers: each with `item`, a value per question, and, if known, `seconds` and `at`.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "study": study,
        "annotator": annotator,
        "simulated": simulated,
        "answers": list(answers),
    }


def raw_answers(values: Mapping[str, Any], source: str) -> list[RawAnswer]:
    """What an answer file of our own holds.

    Raises:
        ValueError: saying what is wrong with the file as a whole.
    """
    if values.get("version") != VERSION:
        raise ValueError(f"its version is {_told(values.get('version'))}, and this package reads {VERSION}")
    answers, simulated = values.get("answers"), values.get("simulated", False)
    if not isinstance(answers, list) or not isinstance(simulated, bool):
        raise ValueError("it holds no list of answers")
    names = [question.name for task in TASKS.values() for question in task.questions]
    return [
        RawAnswer(
            annotator=values.get("annotator"),
            item=answer.get("item"),
            values={name: answer[name] for name in names if name in answer},
            seconds=answer.get("seconds"),
            at=answer.get("at"),
            source=source,
            study=values.get("study"),
            simulated=simulated,
        )
        if isinstance(answer, dict)
        else RawAnswer(annotator=values.get("annotator"), item=answer, values={}, source=source)
        for answer in answers
    ]


def collect(study: Study, raw: Iterable[RawAnswer], of_files: Iterable[str] = ()) -> Answers:
    """Keep what the study asked for, and name the rest.

    Of several answers of one annotator to one item the latest counts, or, where a time is missing, the last one.

    Args:
        of_files: what is wrong with files as a whole, a sentence each; comes first among the problems.

    Raises:
        UserError: for answers of people and simulated ones together.
    """
    raw = list(raw)
    if len({answer.simulated for answer in raw}) > 1:
        raise UserError("answers of people and simulated answers do not mix; give files of one kind")
    found, problems = dict[tuple[str, str], Answer](), Counter[str]()
    for answer in raw:
        try:
            checked = check_answer(study, answer)
        except ValueError as error:
            problems[f"{answer.source}: {error}"] += 1
            continue
        key = (checked.annotator, checked.item.id)
        if key in found and (found[key].values, found[key].at) != (checked.values, checked.at):
            who = f"{checked.annotator} answered item {checked.item.id}"
            problems[f"{answer.source}: {who} more than once; the latest answer counts"] += 1
            if not follows(checked.at, found[key].at):
                continue
        found[key] = checked
    order = [(annotator, name) for annotator, sheet in study.sheets.items() for ids in sheet.values() for name in ids]
    unanswered: dict[str, list[str]] = {}
    for annotator, name in order:
        if (annotator, name) not in found:
            unanswered.setdefault(annotator, []).append(name)
    return Answers(
        answers=tuple(found[key] for key in order if key in found),
        simulated=any(answer.simulated for answer in raw),
        problems=(*of_files, *(text if times == 1 else f"{text} ({times} times)" for text, times in problems.items())),
        unanswered=unanswered,
    )


def check_answer(study: Study, raw: RawAnswer) -> Answer:
    """An answer, if the study asked for it.

    Raises:
        ValueError: saying what is wrong with it, in one line.
    """
    if raw.study is not None and raw.study != study.id:
        raise ValueError(f"it belongs to study {_told(raw.study)}, and this one is {study.id}")
    if not isinstance(raw.annotator, str) or raw.annotator not in study.sheets:
        raise ValueError(f"unknown annotator {_told(raw.annotator)}")
    item = study.by_id.get(raw.item) if isinstance(raw.item, str) else None
    if item is None:
        raise ValueError(f"unknown item {_told(raw.item)}")
    if item.id not in study.sheets[raw.annotator].get(item.task, ()):
        raise ValueError(f"item {item.id} was not given to {raw.annotator}")
    options = study.instances[item.instance].options
    values: dict[QuestionName, int] = {}
    for question in TASKS[item.task].questions:
        value = raw.values.get(question.name)
        if question.name == "label" and isinstance(value, str) and value in options:
            value = options.index(value)
        if isinstance(value, bool) or not isinstance(value, int) or value not in question.allowed(len(options)):
            allowed = question.allowed(len(options))
            raise ValueError(
                f"{raw.annotator}, item {item.id}: {question.name} = {_told(value)} must be from {allowed[0]} to "
                f"{allowed[-1]}"
            )
        values[question.name] = value
    return Answer(annotator=raw.annotator, item=item, values=values, seconds=_seconds(raw.seconds), at=time_of(raw.at))


def follows(second: datetime | None, first: datetime | None) -> bool:
    """Whether an answer that came second was given no earlier than the first, as far as both times are known."""
    return second is None or first is None or second >= first


def _seconds(value: Any) -> float | None:
    try:
        found = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an integer that no float reaches
        return None
    return found if math.isfinite(found) and found >= 0 else None


def time_of(value: Any) -> datetime | None:
    """When an answer was given, from ISO 8601 with a time zone; None for anything else."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def _told(value: Any) -> str:
    """A foreign value in a message: short, and without what a terminal takes as commands."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= _TOLD else f"{text[:_TOLD]}..."

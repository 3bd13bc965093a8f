"""What a study found: its means with intervals (the paper's Table 3), agreement, telling instances (Table 5), times."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from unirex_ray.metrics.bootstrap import DRAWS, holm, share_ahead
from unirex_ray.study.agreement import Agreement, agreements
from unirex_ray.study.answers import Answer, Answers
from unirex_ray.study.manifest import Study
from unirex_ray.study.resampling import draw_means, stretched
from unirex_ray.study.tasks import TASKS, Question, QuestionName, TaskName

Array = NDArray[np.float64]
Interval = tuple[float, float]

LEVEL = 0.95
"""Of the intervals, and of what is said to be told apart."""
TELLING = 3
"""Instances of highest mean, and of highest spread, that are shown: the paper's number."""
_FEWEST_RATINGS = 2
_FEWEST_ALIKE = 5
"""Answers that have to be alike before it is worth a word."""
_HASTY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A condition's answers to a question.

    Attributes:
        mean: over annotators, of each one's mean over their items; accuracy in percent.
        std: over the annotators' means (n - 1); None with one annotator.
        interval: 95 %, see `resampling`; None with one instance.
        annotators: who judged the condition.
        instances: on which it was judged.
        answers: of all of them.
    """

    mean: float
    std: float | None
    interval: Interval | None
    annotators: int
    instances: int
    answers: int


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two conditions on a question.

    Attributes:
        condition, other: indices into the study's.
        difference: of the means, the first minus the other; accuracy in percentage points.
        interval: 95 %, of the difference, on the same draws.
        p: two-sided: twice the share of draws on the rarer side, a draw more than there are, corrected for all pairs of
            the question (Holm).
    """

    question: QuestionName
    condition: int
    other: int
    difference: float
    interval: Interval
    p: float

    @property
    def apart(self) -> bool:
        """Whether the two can be told apart."""
        return self.p <= 1 - LEVEL


@dataclass(frozen=True, kw_only=True)
class Telling:
    """An instance that is shown with its ratings.

    Attributes:
        instance: index into the study's.
        mean: alignment: of each condition's mean over annotators the mean over the conditions that were rated, Gold
            among them.
        std: of all its ratings, over annotators and conditions (n - 1).
        ratings: by condition, in the order of the annotators; empty where nobody rated it.
    """

    instance: int
    mean: float
    std: float
    ratings: Mapping[int, Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """What an annotator did.

    Attributes:
        answered, asked: items by task.
        seconds: median per item, by task; None where no time is known.
        remarks: what is strange about their answers, in words; they count all the same.
    """

    name: str
    answered: Mapping[TaskName, int]
    asked: Mapping[TaskName, int]
    seconds: Mapping[TaskName, float | None]
    remarks: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """All of it.

    Attributes:
        digest: of the answers that count, 16 hex digits.
        order: indices of the conditions as the paper's Table 3 has them: No Rationale, the methods, Gold.
        cells: by question and condition; those that somebody answered.
        pairs: of every question, in this order.
        highest: instances of highest mean alignment, the first first; ties to the lower index.
        widest: of highest standard deviation.
        rateable: instances that have the two ratings which these need.
        annotators: by the order of the sheets.
    """

    simulated: bool
    digest: str
    draws: int
    order: Sequence[int]
    cells: Mapping[QuestionName, Mapping[int, Cell]]
    pairs: Sequence[Pair]
    agreement: Mapping[QuestionName, Agreement]
    highest: Sequence[Telling]
    widest: Sequence[Telling]
    rateable: int
    annotators: Sequence[Annotator]

    def pairs_of(self, question: QuestionName) -> list[Pair]:
        """The pairs of a question."""
        return [pair for pair in self.pairs if pair.question == question]


def analyse(study: Study, answers: Answers, *, draws: int = DRAWS, seed: int = 0) -> Analysis:
    """Analyse a study.

    Args:
        draws: of the bootstrap.
        seed: of the draws.
    """
    order = sorted(
        range(len(study.conditions)), key=lambda n: ["none", "method", "gold"].index(study.conditions[n].kind)
    )
    cells: dict[QuestionName, dict[int, Cell]] = {}
    pairs: list[Pair] = []
    for task in study.tasks:
        shown = [number for number in order if number in study.shown_in(task.name)]
        for question in task.questions:
            values = _values(study, answers, question)[:, :, shown]
            if not len(values):
                cells[question.name] = {}
                continue
            drawn = draw_means(values, draws=draws, seed=seed)
            means = _means(values)
            of_conditions = [_cell(values[:, :, n], means[:, n], drawn[:, n], question) for n in range(len(shown))]
            found = {number: cell for number, cell in zip(shown, of_conditions, strict=True) if cell is not None}
            cells[question.name] = found
            columns = {number: (means[:, n], drawn[:, n]) for n, number in enumerate(shown)}
            pairs += _pairs(question.name, found, columns)
    told = _rated(study, answers)
    return Analysis(
        simulated=answers.simulated,
        digest=_digest(answers),
        draws=draws,
        order=order,
        cells=cells,
        pairs=pairs,
        agreement=agreements(study, answers),
        highest=sorted(told, key=lambda one: (-_rounded(one.mean), one.instance))[:TELLING],
        widest=sorted(told, key=lambda one: (-_rounded(one.std), one.instance))[:TELLING],
        rateable=len(told),
        annotators=[_annotator(study, answers, name) for name in study.sheets],
    )


def _digest(answers: Answers) -> str:
    """The same for the same answers, whenever they were given."""
    content = [[one.annotator, one.item.id, sorted(one.values.items())] for one in answers.answers]
    return hashlib.sha256(json.dumps([answers.simulated, content]).encode()).hexdigest()[:16]


def _values(study: Study, answers: Answers, question: Question) -> Array:
    """Of the annotators who answered the question at all, by instance and condition; nan where there is no answer."""
    given = [answer for answer in answers.answers if question.name in answer.values]
    people = {name: row for row, name in enumerate(dict.fromkeys(answer.annotator for answer in given))}
    values = np.full((len(people), len(study.instances), len(study.conditions)), np.nan)
    for answer in given:
        values[people[answer.annotator], answer.item.instance, answer.item.condition] = _score(study, answer, question)
    return values


def _score(study: Study, answer: Answer, question: Question) -> float:
    """An answer as its column counts it: a number of the scale, or 100 where the label is the right one.

    Right is what the condition's model predicted, of the oracles the target label.
    """
    value = answer.values[question.name]
    return float(value) if question.scale else 100.0 * (value == study.rationale(answer.item).label)


def _means(values: Array) -> Array:
    """Each annotator's means over their instances, by condition; nan where there are none."""
    numbers = (~np.isnan(values)).sum(1)
    means: Array = np.where(numbers > 0, np.nansum(values, axis=1) / np.maximum(numbers, 1), np.nan)
    return means


def _cell(values: Array, means: Array, drawn: Array, question: Question) -> Cell | None:
    """Of one condition.

    Args:
        values: by annotator and instance.
        means: by annotator.
        drawn: its mean on every draw.
    """
    known, judges = ~np.isnan(values), means[~np.isnan(means)]
    if not len(judges):
        return None
    mean, instances = float(judges.mean()), int(known.any(0).sum())
    low, high = _interval(stretched(drawn, mean, judges))
    lowest, highest = (1, len(question.scale)) if question.scale else (0, 100)
    return Cell(
        mean=mean,
        std=float(judges.std(ddof=1)) if len(judges) > 1 else None,
        interval=(max(low, lowest), min(high, highest)) if instances > 1 else None,
        annotators=len(judges),
        instances=instances,
        answers=int(known.sum()),
    )


def _interval(drawn: Array) -> Interval:
    """Percentile interval of the draws that hold an answer."""
    low, high = np.nanquantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def _pairs(question: QuestionName, cells: Mapping[int, Cell], columns: Mapping[int, tuple[Array, Array]]) -> list[Pair]:
    """All pairs of conditions that have an interval.

    Args:
        columns: by condition, its mean of each annotator, and its mean on every draw.
    """
    found = []
    for condition, other in combinations((number for number, cell in cells.items() if cell.interval), 2):
        of_annotators, drawn = (ours - theirs for ours, theirs in zip(columns[condition], columns[other], strict=True))
        if not np.isnan(drawn).all():
            difference = cells[condition].mean - cells[other].mean
            moved = stretched(drawn, difference, of_annotators)
            found.append((condition, other, difference, moved[~np.isnan(moved)]))
    # A draw more than there are, as one that nobody has seen may well be the other way round.
    shares = [(share_ahead(drawn, np.zeros_like(drawn)), len(drawn)) for _, _, _, drawn in found]
    p = [min(1.0, 2 * (1 + number * min(share, 1 - share)) / (1 + number)) for share, number in shares]
    return [
        Pair(
            question=question,
            condition=condition,
            other=other,
            difference=difference,
            interval=_interval(drawn),
            p=float(corrected),
        )
        for (condition, other, difference, drawn), corrected in zip(found, holm(np.array(p)), strict=True)
    ]


def _rated(study: Study, answers: Answers) -> list[Telling]:
    """The instances that have at least two ratings."""
    ratings: dict[int, dict[int, list[int]]] = {}
    for answer in answers.answers:
        if "alignment" in answer.values:
            of_instance = ratings.setdefault(answer.item.instance, {number: [] for number in study.shown_in("rating")})
            of_instance[answer.item.condition].append(answer.values["alignment"])
    found = []
    for instance, by_condition in sorted(ratings.items()):
        every = [value for given in by_condition.values() for value in given]
        if len(every) >= _FEWEST_RATINGS:
            mean = statistics.fmean(statistics.fmean(given) for given in by_condition.values() if given)
            std = statistics.stdev(every)
            found.append(Telling(instance=instance, mean=mean, std=std, ratings=by_condition))
    return found


def _rounded(value: float) -> float:
    """Numbers that are equal in exact arithmetic may differ in their last bits, and tie all the same."""
    return round(value, 9)


def _annotator(study: Study, answers: Answers, name: str) -> Annotator:
    own = [answer for answer in answers.answers if answer.annotator == name]
    by_task = {task: [answer for answer in own if answer.item.task == task] for task in study.sheets[name]}
    seconds = {task: _median([answer.seconds for answer in given]) for task, given in by_task.items()}
    return Annotator(
        name=name,
        answered={task: len(given) for task, given in by_task.items()},
        asked={task: len(ids) for task, ids in study.sheets[name].items()},
        seconds=seconds,
        remarks=[remark for task in by_task for remark in _strange(study, task, by_task[task], seconds[task])],
    )


def _median(seconds: Sequence[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return statistics.median(known) if known else None


def _strange(study: Study, task: TaskName, given: Sequence[Answer], seconds: float | None) -> list[str]:
    remarks = []
    for question in TASKS[task].questions:
        values = {answer.values[question.name] for answer in given}
        if len(values) == 1 and len(given) >= _FEWEST_ALIKE:
            (value,) = values
            options = {study.instances[answer.item.instance].options for answer in given}
            word = question.scale[value - 1] if question.scale else next(iter(options))[value]
            shown = repr(word) if question.scale or len(options) == 1 else f"option {value + 1}"
            remarks.append(f"all {len(given)} answers to the question for {question.name} are {shown}")
    if seconds is not None and seconds < _HASTY_SECONDS:
        remarks.append(f"half of the answers of task {task} took less than {_HASTY_SECONDS:.0f} s each")
    return remarks

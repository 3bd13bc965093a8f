"""How far annotators agree, question by question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import krippendorff
import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.inter_rater import fleiss_kappa

from unirex_ray.study.answers import Answers
from unirex_ray.study.manifest import Study
from unirex_ray.study.tasks import Question, QuestionName

Counts = NDArray[np.int64]
"""How many annotators gave an item an answer, by item and answer; at least two answered each."""

_VERBAL = ((0.2, "slight"), (0.4, "fair"), (0.6, "moderate"), (0.8, "substantial"), (1.0, "almost perfect"))
"""Landis and Koch (1977): up to which value agreement is called what; below 0 it is poor."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of one question.

    Attributes:
        items: that at least two annotators answered.
        kappa: Fleiss', at most 1; None where it is undefined.
        kappa_items: those that it is taken over: as many annotators answered each of them as answered most items.
        kappa_raters: how many annotators that is.
        alpha: Krippendorff's over all `items`, at most 1: ordinal, of labels nominal; None where it is undefined.
        undefined: why kappa or alpha is; empty where both are known.
    """

    question: QuestionName
    items: int
    kappa: float | None
    kappa_items: int
    kappa_raters: int
    alpha: float | None
    undefined: str


def agreements(study: Study, answers: Answers) -> dict[QuestionName, Agreement]:
    """Of every question of the study's tasks.

    A label counts by its place among the options, which in multi-choice are others for every instance.
    """
    given: dict[QuestionName, dict[str, list[int]]] = {}
    for answer in answers.answers:
        for name, value in answer.values.items():
            given.setdefault(name, {}).setdefault(answer.item.id, []).append(value)
    options = max(len(instance.options) for instance in study.instances)
    return {
        question.name: agreement(list(given.get(question.name, {}).values()), question, options=options)
        for task in study.tasks
        for question in task.questions
    }


def agreement(ratings: Sequence[Sequence[int]], question: Question, *, options: int) -> Agreement:
    """Of one question.

    Args:
        ratings: by item, the answers to it.
        options: most labels that an instance offers.
    """
    values = question.allowed(options)
    counts = np.array([[of_item.count(value) for value in values] for of_item in ratings if len(of_item) > 1])
    if not len(counts):
        reason = "no item was answered by two annotators"
        return Agreement(
            question=question.name, items=0, kappa=None, kappa_items=0, kappa_raters=0, alpha=None, undefined=reason
        )
    sizes = Counter(counts.sum(1).tolist())
    raters = max(sizes, key=lambda size: (sizes[size], size))
    complete = counts[counts.sum(1) == raters]
    kappa = _unless_constant(complete, fleiss_kappa)
    alpha = _unless_constant(
        counts,
        lambda table: krippendorff.alpha(
            value_counts=table,
            value_domain=list(values),
            level_of_measurement="ordinal" if question.scale else "nominal",
        ),
    )
    unknown = [name for name, value in (("kappa", kappa), ("alpha", alpha)) if value is None]
    return Agreement(
        question=question.name,
        items=len(counts),
        kappa=kappa,
        kappa_items=len(complete),
        kappa_raters=raters,
        alpha=alpha,
        undefined=f"{' and '.join(unknown)}: all answers are the same" if unknown else "",
    )


def _unless_constant(counts: Counts, measure: Callable[[Counts], float]) -> float | None:
    """None where all answers are the same: no disagreement could be expected by chance, and both divide by that."""
    return float(measure(counts)) if np.count_nonzero(counts.sum(0)) > 1 else None


def verbal(value: float) -> str:
    """Agreement in words, as the paper has it."""
    if value < 0:
        return "poor"
    return next(word for most, word in _VERBAL if value <= most or most == 1)

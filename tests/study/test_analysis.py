"""A study's analysis, of constructed answers whose results were worked out by hand, and of many at random."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from helpers.studies import answered, made_study
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.study.analysis import Analysis, analyse
from unirex_ray.study.answers import Answer, Answers
from unirex_ray.study.manifest import Item, Study
from unirex_ray.study.tasks import TASKS

A, B, GOLD, NONE = range(4)
Given = Sequence[tuple[str, str, int, int, Mapping[str, int]]]
"""Annotator, task, instance, condition and values of each answer."""


def small_study(instances: int = 4) -> Study:
    """Two methods that always predict label 1 where label 0 is the target; answers may be to any item."""
    study = made_study(instances=instances, methods=("a", "b"))
    rationales = tuple(
        tuple(replace(one, label=int(number in (A, B))) for number, one in enumerate(of)) for of in study.rationales
    )
    items = tuple(
        Item(id=f"{task}-{instance}-{condition}", task=task, instance=instance, condition=condition)
        for task in TASKS
        for instance in range(instances)
        for condition in range(4)
    )
    return replace(
        study,
        instances=tuple(replace(one, label=0) for one in study.instances),
        rationales=rationales,
        items=items,
        sheets={f"a{n}": {task: tuple(i.id for i in items if i.task == task) for task in TASKS} for n in (1, 2, 3)},
    )


def answers_of(study: Study, given: Given, **options) -> Answers:
    return Answers(
        answers=tuple(
            Answer(annotator=who, item=study.by_id[f"{task}-{instance}-{condition}"], values=values, **options)
            for who, task, instance, condition, values in given
        ),
        simulated=False,
    )


TABLE_3: Given = [
    ("a1", "forward", 0, A, {"label": 1, "confidence": 1}),
    ("a1", "forward", 1, A, {"label": 0, "confidence": 3}),
    ("a1", "forward", 2, GOLD, {"label": 0, "confidence": 2}),
    ("a1", "forward", 3, NONE, {"label": 0, "confidence": 4}),
    ("a2", "forward", 0, A, {"label": 1, "confidence": 4}),
    ("a2", "forward", 1, A, {"label": 1, "confidence": 4}),
    ("a2", "forward", 2, GOLD, {"label": 1, "confidence": 3}),
    ("a2", "forward", 3, NONE, {"label": 0, "confidence": 2}),
    ("a3", "forward", 0, GOLD, {"label": 0, "confidence": 1}),
    ("a1", "rating", 0, A, {"alignment": 5}),
    ("a1", "rating", 1, A, {"alignment": 2}),
    ("a2", "rating", 0, A, {"alignment": 4}),
]
"""Nobody judges method B; annotator 3 only Gold; and ratings are of method A alone."""


def shown(analysis: Analysis, question: str) -> dict[int, tuple]:
    cells = analysis.cells[question]
    return {
        number: (round(cell.mean, 2), None if cell.std is None else round(cell.std, 2), cell.annotators, cell.answers)
        for number, cell in cells.items()
    }


def test_table_3_as_worked_out_by_hand():
    study = small_study()
    found = analyse(study, answers_of(study, TABLE_3))
    # Annotator 1 is right on one of two items of A, annotator 2 on both: 50 and 100. On Gold 100, 0 and 100.
    assert shown(found, "label") == {NONE: (100.0, 0.0, 2, 2), A: (75.0, 35.36, 2, 4), GOLD: (66.67, 57.74, 3, 3)}
    # Of A (1 + 3) / 2 and 4; of Gold 2, 3 and 1; of No Rationale 4 and 2.
    assert shown(found, "confidence") == {NONE: (3.0, 1.41, 2, 2), A: (3.0, 1.41, 2, 4), GOLD: (2.0, 1.0, 3, 3)}
    # (5 + 2) / 2 and 4: not the mean of three answers.
    assert shown(found, "alignment") == {A: (3.75, 0.35, 2, 3)}
    assert list(found.order) == [NONE, A, B, GOLD]
    assert [found.cells["label"][number].instances for number in (NONE, A, GOLD)] == [1, 2, 2]
    assert found.cells["label"][NONE].interval is None  # one instance says nothing of others


def test_right_is_what_the_model_predicted_and_for_oracles_the_target():
    study = small_study(1)
    everywhere = [("a1", "forward", 0, number, {"label": 1, "confidence": 1}) for number in (A, B, GOLD, NONE)]
    found = analyse(study, answers_of(study, everywhere))
    assert {number: cell.mean for number, cell in found.cells["label"].items()} == {NONE: 0, A: 100, B: 100, GOLD: 0}
    assert {cell.std for cell in found.cells["label"].values()} == {None}


def test_intervals_and_pairs_are_of_the_same_draws():
    study = made_study(instances=40, annotators=5, raters=2)
    found = analyse(study, answered(study))
    for question, cells in found.cells.items():
        for cell in cells.values():
            assert cell.interval[0] < cell.mean < cell.interval[1]
        pairs = found.pairs_of(question)
        assert len(pairs) == len(cells) * (len(cells) - 1) / 2
        for pair in pairs:
            assert pair.difference == cells[pair.condition].mean - cells[pair.other].mean
            assert pair.interval[0] < pair.difference < pair.interval[1]
    assert analyse(study, answered(study)) == found
    assert analyse(study, answered(study), seed=1).cells != found.cells


def test_intervals_stay_on_their_scale():
    study = small_study(8)
    given = [
        (who, "rating", instance, A, {"alignment": value})
        for who, value in (("a1", 1), ("a2", 5))
        for instance in range(8)
    ]
    assert analyse(study, answers_of(study, given)).cells["alignment"][A].interval == (1, 5)
    given = [
        (who, "forward", instance, A, {"label": label, "confidence": 1})
        for who, label in (("a1", 0), ("a2", 1))
        for instance in range(8)
    ]
    assert analyse(study, answers_of(study, given)).cells["label"][A].interval == (0, 100)


def test_what_differs_clearly_is_told_apart():
    study = small_study(30)
    draw = np.random.default_rng(0)
    given = [
        (who, "rating", instance, condition, {"alignment": int(low + draw.integers(2))})
        for who in study.sheets
        for instance in range(30)
        for condition, low in ((A, 4), (B, 1), (GOLD, 4))
    ]
    found = analyse(study, answers_of(study, given))
    apart = {(pair.condition, pair.other): pair.apart for pair in found.pairs}
    assert apart == {(A, B): True, (A, GOLD): False, (B, GOLD): True}
    (first,) = [pair for pair in found.pairs if (pair.condition, pair.other) == (A, B)]
    assert first.p == pytest.approx(3 * 2 / 2001)  # as few as can be said, for three pairs
    assert first.interval[0] > 2


def test_nobody_answered_or_one_answer_only():
    study = small_study()
    found = analyse(study, answers_of(study, []))
    assert found.cells == {"label": {}, "confidence": {}, "alignment": {}}
    assert (found.pairs, found.highest, found.rateable) == ([], [], 0)
    found = analyse(study, answers_of(study, TABLE_3[:1]))
    assert shown(found, "label") == {A: (100.0, None, 1, 1)}


@settings(max_examples=20)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 99), st.floats(0, 1))
def test_any_answers_give_an_analysis(instances, annotators, seed, share):
    study = made_study(instances=instances, annotators=annotators, seed=seed)
    every = answered(study, seed=seed)
    keeps = np.random.default_rng(seed).random(len(every.answers)) < share
    kept = tuple(one for one, keep in zip(every.answers, keeps, strict=True) if keep)
    found = analyse(study, replace(every, answers=kept), draws=50)
    for cells in found.cells.values():
        for cell in cells.values():
            assert cell.interval is None or cell.interval[0] <= cell.interval[1]
            assert cell.std is None or cell.std >= 0
    assert sum(cell.answers for cell in found.cells["label"].values()) == sum(a.item.task == "forward" for a in kept)
    assert all(0 < pair.p <= 1 for pair in found.pairs)


RATINGS = {
    0: {A: [5, 5], B: [1]},  # mean (5 + 1) / 2 = 3, of all 11 / 3; std 2.31
    1: {A: [4], GOLD: [4]},  # 4, std 0
    2: {B: [3, 5]},  # 4, std 1.41
    3: {A: [5]},  # one rating only
    4: {A: [1, 5], GOLD: [3]},  # 3, std 2
    5: {A: [1], B: [5]},  # 3, std 2.83
}


def rated(ratings: Mapping[int, Mapping[int, Sequence[int]]]) -> tuple[Study, Answers]:
    study = small_study(6)
    given = [
        (f"a{n + 1}", "rating", instance, condition, {"alignment": value})
        for instance, by_condition in ratings.items()
        for condition, values in by_condition.items()
        for n, value in enumerate(values)
    ]
    return study, answers_of(study, given)


def test_table_5_as_worked_out_by_hand():
    found = analyse(*rated(RATINGS), draws=20)
    assert [(one.instance, one.mean) for one in found.highest] == [(1, 4.0), (2, 4.0), (0, 3.0)]
    assert [(one.instance, round(one.std, 2)) for one in found.widest] == [(5, 2.83), (0, 2.31), (4, 2.0)]
    assert found.rateable == 5
    assert found.widest[0].ratings == {A: [1], B: [5], GOLD: []}


def test_means_that_are_equal_tie_whatever_their_last_bits():
    first, second = {A: [1, 1, 1], B: [1, 1, 2], GOLD: [1, 1, 2]}, {A: [1, 1, 1], B: [1, 1, 1], GOLD: [1, 2, 2]}
    found = analyse(*rated({0: first, 2: second}), draws=20)  # 11 / 9 twice
    assert [one.instance for one in found.highest] == [0, 2]
    assert found.highest[0].mean < found.highest[1].mean


def test_annotators_and_what_is_strange_about_them():
    study = small_study(6)
    given = [("a1", "forward", n, A, {"label": 1, "confidence": 1 + n % 4}) for n in range(6)]
    given += [("a2", "rating", n, A, {"alignment": 4}) for n in range(6)]
    given += [("a3", "rating", n, A, {"alignment": 4}) for n in range(4)]
    slow, fast = answers_of(study, given[:6], seconds=9.0), answers_of(study, given[6:], seconds=0.5)
    answers = replace(slow, answers=(*slow.answers, *fast.answers[:-1], replace(fast.answers[-1], seconds=None)))
    first, second, third = analyse(study, answers, draws=20).annotators
    assert (first.answered, first.asked["forward"]) == ({"forward": 6, "rating": 0}, 24)
    assert (first.seconds, second.seconds["rating"]) == ({"forward": 9.0, "rating": None}, 0.5)
    assert first.remarks == ["all 6 answers to the question for label are 'positive'"]
    hasty = "half of the answers of task rating took less than 1 s each"
    assert second.remarks == ["all 6 answers to the question for alignment are 'well'", hasty]
    assert third.remarks == [hasty]  # four may well be alike


def test_the_digest_is_of_the_answers_that_count():
    study = small_study()
    answers = answers_of(study, TABLE_3)
    digest = analyse(study, answers, draws=20).digest
    assert analyse(study, replace(answers, problems=("one",)), draws=20).digest == digest
    assert analyse(study, answers_of(study, TABLE_3, seconds=3.0), draws=20).digest == digest
    assert analyse(study, answers_of(study, TABLE_3[1:]), draws=20).digest != digest
    assert analyse(study, replace(answers, simulated=True), draws=20).digest != digest


@pytest.mark.long
def test_conditions_that_are_alike_are_seldom_told_apart():
    """In at most 5 % of studies is any pair of a question told apart, where annotators and instances differ."""
    random, alarms = np.random.default_rng(3), []
    for number in range(200):
        study = made_study(instances=50, methods=("a", "b", "c"), annotators=5, raters=2, seed=number)
        mildness = dict(zip(study.sheets, random.normal(0, 0.5, len(study.sheets)), strict=True))
        ease = random.normal(0, 0.7, 50)
        answers = answered(study, seed=number)
        given = tuple(
            replace(one, values=_with_effects(study, one, mildness[one.annotator] + ease[one.item.instance], random))
            for one in answers.answers
        )
        found = analyse(study, replace(answers, answers=given), draws=500)
        alarms += [any(pair.apart for pair in found.pairs_of(question)) for question in found.cells]
    assert np.mean(alarms) <= 0.05


def _with_effects(study: Study, answer: Answer, effect: float, random: np.random.Generator) -> dict[str, int]:
    latent = effect + random.normal(0, 0.8)
    if answer.item.task == "rating":
        return {"alignment": int(np.clip(round(3 + latent), 1, 5))}
    right = study.rationale(answer.item).label
    return {"label": right if latent > -0.8 else 1 - right, "confidence": int(np.clip(round(2.5 + latent), 1, 4))}

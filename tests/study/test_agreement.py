"""Agreement of annotators, against published worked examples and against definitions written out."""

from dataclasses import replace
from itertools import permutations

import pytest
from helpers.studies import made_study
from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.study.agreement import agreement, agreements, verbal
from unirex_ray.study.answers import Answer, Answers
from unirex_ray.study.tasks import FORWARD, RATING

LABEL, CONFIDENCE = FORWARD.questions
(ALIGNMENT,) = RATING.questions

FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
"""14 raters sort 10 items into 5 categories: the worked example of Wikipedia's article on Fleiss' kappa, 0.210."""

KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
"""4 observers, 12 units (Krippendorff, Computing Krippendorff's Alpha-Reliability): nominal 0.743, ordinal 0.815."""

UNITS = [[value for value in unit if value is not None] for unit in zip(*KRIPPENDORFF, strict=True)]


def test_kappa_of_the_published_example():
    ratings = [[value for value, count in enumerate(row, 1) for _ in range(count)] for row in FLEISS]
    found = agreement(ratings, ALIGNMENT, options=2)
    assert found.kappa == pytest.approx(0.210, abs=5e-4)
    assert (found.items, found.kappa_items, found.kappa_raters, found.undefined) == (10, 10, 14, "")


def test_alpha_of_the_published_example():
    assert agreement(UNITS, ALIGNMENT, options=2).alpha == pytest.approx(0.815, abs=5e-4)
    nominal = agreement([[value - 1 for value in unit] for unit in UNITS], LABEL, options=5)
    assert nominal.alpha == pytest.approx(0.743, abs=5e-4)
    assert nominal.items == 11  # the last unit has one rating


def naive_kappa(ratings: list[list[int]]) -> float:
    every = [value for unit in ratings for value in unit]
    agree = sum(
        sum(a == b for a, b in permutations(unit, 2)) / (len(unit) * (len(unit) - 1)) for unit in ratings
    ) / len(ratings)
    chance = sum((every.count(value) / len(every)) ** 2 for value in set(every))
    return (agree - chance) / (1 - chance)


def naive_alpha(ratings: list[list[int]], *, ordinal: bool) -> float:
    """1 - observed disagreement / that of all pairs of values, whatever the unit."""
    every = [value for unit in ratings for value in unit]

    def distance(a: int, b: int) -> float:
        if not ordinal:
            return float(a != b)
        low, high = sorted((a, b))
        between = sum(every.count(value) for value in range(low, high + 1))
        return (between - (every.count(a) + every.count(b)) / 2) ** 2

    observed = sum(sum(distance(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in ratings) / len(
        every
    )
    expected = sum(distance(a, b) for a, b in permutations(every, 2)) / (len(every) * (len(every) - 1))
    return 1 - observed / expected


@given(st.lists(st.lists(st.integers(1, 4), max_size=5), max_size=8))
def test_both_are_as_defined(ratings):
    found = agreement(ratings, CONFIDENCE, options=2)
    shared = [unit for unit in ratings if len(unit) > 1]
    assert found.items == len(shared)
    if not shared:
        assert (found.kappa, found.alpha) == (None, None)
        assert found.undefined == "no item was answered by two annotators"
        return
    sizes = [len(unit) for unit in shared]
    raters = max(set(sizes), key=lambda size: (sizes.count(size), size))
    complete = [unit for unit in shared if len(unit) == raters]
    assert (found.kappa_raters, found.kappa_items) == (raters, len(complete))
    if len({value for unit in complete for value in unit}) == 1:
        assert found.kappa is None
        assert "kappa" in found.undefined
    else:
        assert found.kappa == pytest.approx(naive_kappa(complete))
    if len({value for unit in shared for value in unit}) == 1:
        assert found.alpha is None
        assert found.undefined == "kappa and alpha: all answers are the same"
    else:
        assert found.alpha == pytest.approx(naive_alpha(shared, ordinal=True))
        labels = agreement([[value - 1 for value in unit] for unit in ratings], LABEL, options=4)
        assert labels.alpha == pytest.approx(naive_alpha(shared, ordinal=False))


def test_a_tie_of_sizes_goes_to_more_raters():
    found = agreement([[1, 2], [1, 1, 2]], CONFIDENCE, options=2)
    assert (found.kappa_raters, found.kappa_items, found.items) == (3, 1, 2)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (-0.1, "poor"),
        (0, "slight"),
        (0.1282, "slight"),
        (0.1561, "slight"),
        (0.2456, "fair"),
        (0.41, "moderate"),
        (0.8, "substantial"),
        (0.81, "almost perfect"),
        (1.0000001, "almost perfect"),
    ],
)
def test_the_words_are_the_papers(value, word):
    assert verbal(value) == word


def test_answers_are_counted_by_item_and_question():
    study = made_study(annotators=2, raters=2, instances=3)
    label = {item.id: number % 2 for number, item in enumerate(study.items)}

    def answer(annotator, item):
        if item.task == "rating":
            return Answer(annotator=annotator, item=item, values={"alignment": 1 + (annotator == "a1")})
        return Answer(annotator=annotator, item=item, values={"label": label[item.id], "confidence": 4})

    every = [
        answer(annotator, study.by_id[name])
        for annotator, sheet in study.sheets.items()
        for ids in sheet.values()
        for name in ids
    ]
    found = agreements(study, Answers(answers=tuple(every), simulated=False))
    assert list(found) == ["label", "confidence", "alignment"]
    assert (found["label"].kappa, found["label"].alpha, found["label"].kappa_items) == (1.0, 1.0, 3)
    assert found["confidence"].undefined == "kappa and alpha: all answers are the same"
    assert found["alignment"].kappa == pytest.approx(-1.0)  # each item a 1 and a 2


def test_options_that_differ_by_instance_count_by_their_place():
    study = made_study(annotators=2, raters=2, instances=2, tasks=("forward",))
    more = replace(study.instances[1], options=("a", "b", "c", "d"))
    study = replace(study, instances=(study.instances[0], more))
    every = [
        Answer(annotator=annotator, item=item, values={"label": 3 * item.instance, "confidence": 1})
        for annotator in study.sheets
        for item in study.items
    ]
    assert agreements(study, Answers(answers=tuple(every), simulated=False))["label"].kappa == 1.0

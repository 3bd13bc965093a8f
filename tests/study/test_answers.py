"""Which answers count, and what is said of the others."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from helpers.studies import made_study
from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.errors import UserError
from unirex_ray.study.answers import Answers, collect, own_format, raw_answers
from unirex_ray.study.manifest import Study


@pytest.fixture(scope="module")
def study() -> Study:
    return made_study(instances=4)


def given_to(study: Study, annotator: str, task: str) -> str:
    return study.sheets[annotator][task][0]


def collected(asked: Study, *answers: Any, annotator: Any = "a1", **options: Any) -> Answers:
    values = {**own_format(asked.id, annotator, answers), **options}
    return collect(asked, raw_answers(json.loads(json.dumps(values)), "a1.json"))


def test_whole_sheets_leave_nothing_open(study) -> None:
    raw = []
    for annotator, sheet in study.sheets.items():
        forward = [{"item": name, "label": 1, "confidence": 4, "seconds": 2.5} for name in sheet["forward"]]
        rating = [{"item": name, "alignment": 5, "at": "2026-01-02T03:04:05Z"} for name in sheet["rating"]]
        raw += raw_answers(own_format(study.id, annotator, forward + rating), f"{annotator}.json")
    found = collect(study, raw)
    assert (found.problems, found.unanswered, found.simulated) == ((), {}, False)
    assert len(found.answers) == 3 * 8
    assert {(*answer.values.items(),) for answer in found.answers} == {
        (("label", 1), ("confidence", 4)),
        (("alignment", 5),),
    }
    assert found.answers[0].seconds == 2.5
    assert found.answers[-1].at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_what_is_unanswered_is_named_by_annotator(study) -> None:
    item = given_to(study, "a2", "rating")
    found = collected(study, {"item": item, "alignment": 1}, annotator="a2")
    assert [answer.item.id for answer in found.answers] == [item]
    assert {annotator: len(items) for annotator, items in found.unanswered.items()} == {"a1": 8, "a2": 7, "a3": 8}
    assert item not in found.unanswered["a2"]


def test_labels_count_in_words_and_as_numbers(study) -> None:
    item = given_to(study, "a1", "forward")
    for label in ("positive", 1):
        (answer,) = collected(study, {"item": item, "label": label, "confidence": 1}).answers
        assert answer.values == {"label": 1, "confidence": 1}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"label": 2, "confidence": 1}, "label = 2 must be from 0 to 1"),
        ({"label": -1, "confidence": 1}, "label = -1 must be from 0 to 1"),
        ({"label": "neutral", "confidence": 1}, 'label = "neutral" must be from 0 to 1'),
        ({"label": 1, "confidence": 5}, "confidence = 5 must be from 1 to 4"),
        ({"label": 1, "confidence": 0}, "confidence = 0 must be from 1 to 4"),
        ({"label": 1}, "confidence = null must be from 1 to 4"),
        ({"label": True, "confidence": 1}, "label = true must be from 0 to 1"),
        ({"label": 1.0, "confidence": 1}, "label = 1.0 must be from 0 to 1"),
        ({"label": "<img onerror=x>\u001b[2J" * 20, "confidence": 1}, 'label = "<img onerror=x>\\u001b[2J'),
    ],
)
def test_an_answer_that_cannot_be_is_named(study, values, says) -> None:
    item = given_to(study, "a1", "forward")
    found = collected(study, {"item": item, **values})
    assert not found.answers
    (problem,) = found.problems
    assert problem.startswith(f"a1.json: a1, item {item}: {says}")
    assert len(problem) < 160
    assert problem.isprintable()


def test_foreign_answers_are_named_and_left_out(study) -> None:
    item = given_to(study, "a1", "rating")
    right = {"item": item, "alignment": 3}
    for options, says in (
        ({"study": "else"}, f'it belongs to study "else", and this one is {study.id}'),
        ({"annotator": "bob"}, 'unknown annotator "bob"'),
        ({"annotator": ["a1"]}, 'unknown annotator ["a1"]'),
    ):
        assert collected(study, right, **options).problems == (f"a1.json: {says}",)
    others = {name for name in study.by_id if name not in study.sheets["a1"]["rating"] and name.startswith("rating")}
    foreign = sorted(others)[0]
    assert collected(study, {"item": foreign, "alignment": 3}).problems == (
        f"a1.json: item {foreign} was not given to a1",
    )
    assert collected(study, {"item": "x" * 99, "alignment": 3}).problems == (f'a1.json: unknown item "{"x" * 59}...',)
    assert [problem.partition(": ")[2] for problem in collected(study, 7, None, [item]).problems] == [
        "unknown item 7",
        "unknown item null",
        f'unknown item ["{item}"]',
    ]


def test_of_two_answers_to_one_item_the_latest_counts_and_equal_ones_are_one(study) -> None:
    item = given_to(study, "a1", "rating")
    early = {"item": item, "alignment": 1, "at": "2026-01-01T00:00:00Z"}
    late = {"item": item, "alignment": 4, "at": "2026-01-01T00:00:01+00:00"}
    for order in ([early, late], [late, early]):
        found = collected(study, *order)
        assert [answer.values["alignment"] for answer in found.answers] == [4]
        assert found.problems == (f"a1.json: a1 answered item {item} more than once; the latest answer counts",)
    assert collected(study, late, late).problems == ()
    timeless = [{"item": item, "alignment": 2}, {"item": item, "alignment": 3}]
    assert collected(study, *timeless).answers[0].values == {"alignment": 3}


def test_people_and_simulated_annotators_do_not_mix(study) -> None:
    answer = [{"item": given_to(study, "a1", "rating"), "alignment": 1}]
    people, none = own_format(study.id, "a1", answer), own_format(study.id, "a1", answer, simulated=True)
    assert collect(study, raw_answers(none, "s")).simulated
    with pytest.raises(UserError, match="answers of people and simulated answers do not mix"):
        collect(study, [*raw_answers(people, "p"), *raw_answers(none, "s")])


SMALL = made_study(instances=1, annotators=1)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=8,
    )
)
def test_whatever_stands_in_an_answer_is_named_and_never_an_error(anything: Any) -> None:
    study = made_study(instances=1, annotators=1)
    item = given_to(study, "a1", "rating")
    for answer in (
        anything,
        {"item": anything},
        {"item": item, "alignment": anything, "at": anything, "seconds": anything},
    ):
        values = {**own_format(study.id, "a1", []), "answers": [answer]}
        found = collect(study, raw_answers(values, "f"))
        assert len(found.answers) + len(found.problems) == 1


@pytest.mark.parametrize("values", [{}, {"version": 2}, {"version": 1}, {"version": 1, "answers": {}}])
def test_a_file_of_another_shape_is_refused(values) -> None:
    with pytest.raises(ValueError, match=r"its version is|it holds no list of answers"):
        raw_answers(values, "f")

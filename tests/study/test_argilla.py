"""Files for Argilla, and what its exports are read as; see test_exports.py for the way there and back."""

import json

import pytest
from helpers.pairs_and_choices import of_choices
from helpers.studies import made_study

from unirex_ray.study.answers import RawAnswer
from unirex_ray.study.argilla import argilla_answers, argilla_files


@pytest.fixture(scope="module")
def study():
    return made_study()


def settings_of(study, task):
    return json.loads(argilla_files(study)[f"argilla/{task}-settings.json"])


def test_settings_per_task_and_records_per_annotator(study):
    names = {f"{annotator}-{task}.json" for annotator in ("a1", "a2", "a3") for task in ("forward", "rating")}
    assert {*argilla_files(study)} == {
        f"argilla/{name}" for name in {*names, "forward-settings.json", "rating-settings.json", "README.md"}
    }


def test_settings_ask_every_question_of_one_annotator(study):
    found = settings_of(study, "forward")
    assert found["distribution"] == {"strategy": "overlap", "min_submitted": 1}
    assert [field["name"] for field in found["fields"]] == ["text"]
    questions = {
        one["name"]: (one["required"], [(of["value"], of["text"]) for of in one["settings"]["options"]])
        for one in found["questions"]
    }
    assert questions == {
        "label": (True, [("1", "1: negative"), ("2", "2: positive")]),
        "confidence": (True, [("1", "1: not at all"), ("2", "2: slightly"), ("3", "3: fairly"), ("4", "4: very")]),
    }
    assert [one["name"] for one in settings_of(study, "rating")["questions"]] == ["alignment"]


def test_options_that_differ_are_listed_with_each_text():
    study = of_choices(made_study(instances=3))
    found = settings_of(study, "forward")
    assert [field["name"] for field in found["fields"]] == ["text", "options"]
    assert [of["text"] for of in found["questions"][0]["settings"]["options"]] == ["1", "2", "3", "4"]
    for record in json.loads(argilla_files(study)["argilla/a1-forward.json"]):
        number = study.by_id[record["id"]].instance
        lines = [f"{n + 1}: choice {number}.{n}" for n in range(number + 2)]
        assert record["fields"]["options"] == "\n".join(lines)
    assert [field["name"] for field in settings_of(study, "rating")["fields"]] == ["text"]


def record(responses, status="completed"):
    about = {"study": "s", "annotator": "a1"}
    return {"id": "i", "fields": {"text": "x"}, "metadata": about, "responses": responses, "status": status}


def read(*values):
    return argilla_answers(values, "export.json")


def test_a_record_by_hand():
    given = {
        "label": [{"value": "2", "user_id": "u"}],
        "confidence": [{"value": "3", "user_id": "u"}],
    }
    expected = RawAnswer(
        annotator="a1", item="i", values={"label": 1, "confidence": 3}, source="export.json", study="s"
    )
    assert read(record(given)) == [expected]


def test_each_user_gave_an_answer():
    given = {"alignment": [{"value": "2", "user_id": "u"}, {"value": "5", "user_id": "v"}]}
    assert [answer.values for answer in read(record(given))] == [{"alignment": 2}, {"alignment": 5}]


def test_drafts_and_discarded_responses_are_no_answers():
    given = {"alignment": [{"value": "2", "user_id": "u"}]}
    assert read(record(given, "pending")) == []
    assert read(record({})) == []


@pytest.mark.parametrize("odd", [None, 1, -1, 2.5, True, "x", [], {}, [[]], [None], {"value": []}])
def test_odd_content_is_no_answer_to_anything(odd):
    for value in (
        odd,
        record(odd),
        record({"label": odd}),
        record({"label": [odd]}),
        record({"label": [{"value": odd, "user_id": odd}]}),
        {**record({"label": [{"value": "9", "user_id": "u"}]}), "id": odd, "metadata": odd},
    ):
        for answer in read(value):
            assert answer.values.get("label") not in (0, 1) or odd in (1, True)
            assert answer.annotator in (None, "a1")

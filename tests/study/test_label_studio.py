"""Files for Label Studio, and what its exports are read as; see test_exports.py for the way there and back."""

import json
from xml.etree import ElementTree

import pytest
from helpers.pairs_and_choices import of_choices
from helpers.studies import made_study

from unirex_ray.study.answers import RawAnswer
from unirex_ray.study.label_studio import label_studio_answers, label_studio_files


@pytest.fixture(scope="module")
def study():
    return made_study()


def test_a_configuration_per_task_and_tasks_per_annotator(study):
    names = {f"{annotator}-{task}.json" for annotator in ("a1", "a2", "a3") for task in ("forward", "rating")}
    assert {*label_studio_files(study)} == {
        f"label-studio/{name}" for name in {*names, "forward.xml", "rating.xml", "README.md"}
    }


def test_every_question_is_required_and_offers_all_its_answers(study):
    files = label_studio_files(study)
    found = {
        one.attrib["name"]: (
            one.attrib["required"],
            one.get("value"),
            [(of.attrib["alias"], of.attrib["value"]) for of in one],
        )
        for task in ("forward", "rating")
        for one in ElementTree.fromstring(files[f"label-studio/{task}.xml"]).findall("Choices")
    }
    confidence = [("1", "1: not at all"), ("2", "2: slightly"), ("3", "3: fairly"), ("4", "4: very")]
    alignment = [("1", "1: not at all"), ("2", "2: slightly"), ("3", "3: moderately"), ("4", "4: well")]
    assert found == {
        "label": ("true", "$options", []),
        "confidence": ("true", None, confidence),
        "alignment": ("true", None, [*alignment, ("5", "5: completely")]),
    }


def test_the_data_of_a_task(study):
    files = label_studio_files(study)
    forward, rating = (json.loads(files[f"label-studio/a2-{task}.json"])[0]["data"] for task in ("forward", "rating"))
    assert {*forward} == {"study", "sheet", "item", "html", "options"}
    assert {*rating} == {*forward, "predicted"}
    assert (forward["study"], forward["sheet"], forward["item"]) == (study.id, "a2", study.sheets["a2"]["forward"][0])
    assert forward["options"] == [
        {"alias": "option 1", "value": "negative", "html": "negative"},
        {"alias": "option 2", "value": "positive", "html": "positive"},
    ]


def test_instances_offer_their_own_options():
    study = of_choices(made_study())
    for one in json.loads(label_studio_files(study)["label-studio/a1-forward.json"]):
        instance = study.instances[study.by_id[one["data"]["item"]].instance]
        assert tuple(option["value"] for option in one["data"]["options"]) == instance.options


DATA = {"study": "s", "sheet": "a1", "item": "i"}


def annotated(*annotations, **about):
    return {"data": DATA, "annotations": [*annotations], **about}


def chosen(**values):
    return [{"from_name": name, "type": "choices", "value": {"choices": of}} for name, of in values.items()]


def read(*values):
    return label_studio_answers(values, "export.json")


def test_an_annotation_by_hand():
    annotation = {
        "result": chosen(label=["option 2"], confidence=["3"]),
        "lead_time": 12.5,
        "created_at": "2026-03-01T10:00:00Z",
        "updated_at": "2026-03-01T11:00:00Z",
        "was_cancelled": False,
    }
    expected = RawAnswer(
        annotator="a1",
        item="i",
        values={"label": 1, "confidence": 3},
        source="export.json",
        seconds=12.5,
        at="2026-03-01T11:00:00Z",
        study="s",
    )
    assert read(annotated(annotation)) == [expected]
    del annotation["updated_at"]
    assert read(annotated(annotation))[0].at == "2026-03-01T10:00:00Z"


def test_each_annotation_is_an_answer_but_not_skipped_ones_drafts_and_predictions():
    first, second, skipped = (
        {"result": chosen(alignment=[number]), "was_cancelled": number == "3"} for number in ("1", "2", "3")
    )
    found = read(annotated(first, second, skipped, drafts=[first], predictions=[second]))
    assert [answer.values for answer in found] == [{"alignment": 1}, {"alignment": 2}]
    assert read(annotated()) == read({"data": DATA}) == []


def test_a_record_of_a_table_is_read_as_one_of_json_min():
    record = {
        **DATA,
        "label": "option 1",
        "confidence": "4",
        "annotation_id": "3",
        "lead_time": "7.25",
        "created_at": "",
    }
    (found,) = read(record)
    assert (found.values, found.seconds) == ({"label": 0, "confidence": 4}, 7.25)
    assert read({**record, "annotation_id": ""}, {**record, "annotation_id": None}) == []


def test_a_label_in_words_stays_words_even_where_it_is_a_number():
    (found,) = read(annotated({"result": chosen(label=["5"], confidence=["option 2"])}))
    assert found.values == {"label": "5", "confidence": "option 2"}


def test_several_choices_to_one_question_are_no_single_one():
    (found,) = read(annotated({"result": chosen(label=["option 1", "option 2"])}))
    assert found.values == {"label": ["option 1", "option 2"]}
    (found,) = read(annotated({"result": [*chosen(label=["option 1"]), *chosen(label=["option 2"])]}))
    assert found.values == {"label": ["option 1", "option 2"]}


NOTHING = [None, 1, -1, 2.5, True, "x", [], {}, [[]], [None], {"result": 3}, {"choices": 3}]


@pytest.mark.parametrize("odd", NOTHING)
def test_odd_content_is_no_answer_to_anything(odd):
    for value in (
        odd,
        {"data": odd},
        {"data": DATA, "annotations": odd},
        annotated(odd),
        annotated({"result": odd}),
        annotated({"result": [odd]}),
        annotated({"result": [{"from_name": odd, "value": odd}]}),
        annotated({"result": [{"from_name": "label", "value": odd}]}),
        annotated({"result": [{"from_name": "label", "value": {"choices": odd}}], "lead_time": odd, "updated_at": odd}),
    ):
        for answer in read(value):
            assert answer.values.get("label") not in (0, 1) or odd in (1, True)

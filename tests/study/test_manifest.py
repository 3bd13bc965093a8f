"""A study on disk, and what its sheets show."""

import json
from dataclasses import replace

import pytest
from helpers.studies import made_study

from unirex_ray.errors import UserError
from unirex_ray.study.manifest import MANIFEST, Rationale, read_study, write_study
from unirex_ray.study.sheet import sheet_of


def test_a_study_comes_back_as_it_was_written(tmp_path) -> None:
    study = made_study(texts=["a <b>bold</b> text\n\u202ertl", 'quotes " and \u2028 ends', "w w w"])
    write_study(tmp_path, study)
    assert read_study(tmp_path) == study
    assert read_study(tmp_path).id == study.id != replace(study, seed=1).id


def changed(file, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 5}, "was changed since the study was made"),
        ({"seed": "five"}, "is damaged: seed: Input should be a valid integer"),
        ({"extra": 1}, "is damaged: extra: Unexpected keyword argument"),
        ({"version": 2}, "is of version 2, and this package reads 1"),
        ({"format": "something"}, "is damaged: it is something else"),
        ({"conditions": []}, "is damaged: zip"),
        ({"rationales": []}, "is damaged: zip"),
    ],
)
def test_a_changed_study_is_refused(tmp_path, change, says) -> None:
    write_study(tmp_path, made_study())
    changed(tmp_path / MANIFEST, **change)
    with pytest.raises(UserError, match=says):
        read_study(tmp_path)


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 5000, '{"format": "unirex_ray study", "version": 1}'])
def test_what_is_no_study_is_refused(tmp_path, content) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(UserError, match=r"study.json' is damaged: .*; make the study again"):
        read_study(tmp_path)
    with pytest.raises(UserError, match=r"is no study \(no study.json\); make one first"):
        read_study(tmp_path / "nowhere")


def test_a_mark_beyond_its_text_is_refused(tmp_path) -> None:
    study = made_study()
    first = replace(study.rationales[0][0], marks=((0, 0, 3, 999),))
    write_study(tmp_path, replace(study, rationales=((first, *study.rationales[0][1:]), *study.rationales[1:])))
    with pytest.raises(UserError, match="a mark of instance 'i0' reaches beyond its text"):
        read_study(tmp_path)


def test_a_sheet_shows_marks_joined_and_no_label_that_is_asked_for() -> None:
    study = made_study(texts=["one two three four", "five six seven"])
    marked = Rationale(marks=((0, 0, 4, 7), (0, 0, 8, 13)), tokens=2, gold_tokens=2, label=1)
    study = replace(study, rationales=tuple(tuple(marked for _ in of) for of in study.rationales))
    for part in sheet_of(study, "a1").parts:
        page = next(page for page in part.pages if study.by_id[page.item].instance == 0)
        assert page.passages[0].runs == (("one ", False), ("two three", True), (" four", False))
        assert page.passages[0].text == "one two three four"
        assert page.highlighted
        assert page.predicted == (None if part.task.name == "forward" else "positive")

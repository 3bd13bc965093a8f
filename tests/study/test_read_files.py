"""Files of answers of every kind, and files that are none."""

import json
import random
import sqlite3

import pytest
from helpers.studies import made_study
from helpers.tool_exports import argilla_export, chosen_for, filled_table, label_studio_export

from unirex_ray.errors import UserError
from unirex_ray.study import read_files
from unirex_ray.study.answers import own_format
from unirex_ray.study.argilla import argilla_files
from unirex_ray.study.label_studio import label_studio_files
from unirex_ray.study.read_files import read_answers
from unirex_ray.study.sheets import csv_files


@pytest.fixture(scope="module")
def study():
    return made_study()


@pytest.fixture(scope="module")
def chosen(study):
    return chosen_for(study, random.Random(4).randrange)


def own(study, chosen, annotator):
    given = [{"item": item, **values} for (who, item), values in chosen.items() if who == annotator]
    return json.dumps(own_format(study.id, annotator, given))


def given_back(answers):
    return {(answer.annotator, answer.item.id): dict(answer.values) for answer in answers.answers}


def good(tmp_path, study, chosen):
    file = tmp_path / "good.json"
    file.write_text(own(study, chosen, "a1"))
    return file


def test_a_folder_of_files_of_all_kinds(tmp_path, study, chosen):
    (tmp_path / "one.json").write_text(own(study, chosen, "a1"))
    for task in ("forward", "rating"):
        table = filled_table(csv_files(study)[f"csv/a2-{task}.csv"], chosen)
        (tmp_path / f"two-{task}.csv").write_text(table, encoding="utf-16")
    export = label_studio_export(label_studio_files(study), "a3", "forward", chosen)
    (tmp_path / "three.JSON").write_text(json.dumps(export))
    export = argilla_export(argilla_files(study), "a3", "rating", chosen)
    (tmp_path / "four").write_text(json.dumps(export))
    for name in (".DS_Store", "README.md", "study.json", "tokens.json", "forward-settings.json", "form.html"):
        (tmp_path / name).write_text("no answers")
    (tmp_path / "folder").mkdir()
    answers = read_answers([tmp_path], study)
    assert given_back(answers) == chosen
    assert answers.problems == ()


def test_a_table_in_the_encoding_of_windows_is_read(tmp_path, study, chosen):
    content = filled_table(csv_files(study)["csv/a1-forward.csv"].replace("predicted", "prédit"), chosen)
    (tmp_path / "a1.csv").write_bytes(content.encode("cp1252"))
    assert len(read_answers([tmp_path], study).answers) == 6


DEEP = "[" * 100_000
NO_ANSWERS = {
    "empty": (b"", "it is empty"),
    "blank": (b" \n\t ", "it is empty"),
    "text": (b"hello, I have answered everything", "no table|no column"),
    "broken JSON": (b'{"format": ', "broken JSON"),
    "nothing of ours": (b'{"a": 1}', "no answers in a known format"),
    "an empty list": (b"[]", "no answers in a known format"),
    "a list of numbers": (b"[1, 2]", "no answers in a known format"),
    "nested too deep": (DEEP.encode(), "nested too deep"),
    "nested objects": (b'{"a":' * 100_000, "nested too deep"),
    "a huge number": (b'{"format": "unirex_ray study answers", "version": ' + b"9" * 5000 + b"}", "digits"),
    "another version": (b'{"format": "unirex_ray study answers", "version": 7}', "version is 7"),
    "a workbook": (b"PK\x03\x04" + bytes(100), "workbook"),
    "zeros": (bytes(1000), "no text"),
    "half of UTF-16": (b"\xff\xfea", "no text"),
    "random bytes": (random.Random(0).randbytes(5000), "no t"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "no text"),
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_a_file_without_answers_is_named_with_the_reason_and_stops_no_other(tmp_path, study, chosen, kind):
    content, reason = NO_ANSWERS[kind]
    bad = tmp_path / "bad.json"
    bad.write_bytes(content)
    answers = read_answers([bad, good(tmp_path, study, chosen)], study)
    assert len(answers.answers) == 12
    (problem,) = answers.problems
    assert problem.startswith(f"{bad}: ")
    with pytest.raises(UserError, match=reason):
        read_answers([bad], study)


def test_a_file_that_is_too_large_is_not_read(tmp_path, study, chosen, monkeypatch):
    monkeypatch.setattr(read_files, "MOST_BYTES", 2**20)
    (tmp_path / "large.json").write_bytes(b" " * (2**20 + 1))
    (problem,) = read_answers([tmp_path, good(tmp_path, study, chosen)], study).problems
    assert "larger than 1 MB" in problem


def test_a_database_of_something_else_is_named(tmp_path, study, chosen):
    connection = sqlite3.connect(tmp_path / "other.sqlite")
    connection.execute("CREATE TABLE answers (x)")
    connection.close()
    (problem,) = read_answers([tmp_path, good(tmp_path, study, chosen)], study).problems
    assert problem.startswith(f"{tmp_path / 'other.sqlite'}: ")


def test_a_path_that_does_not_exist(tmp_path, study):
    with pytest.raises(UserError, match="does not exist"):
        read_answers([tmp_path / "nothing"], study)


def test_no_answers_at_all(tmp_path, study):
    with pytest.raises(UserError, match="nothing is answered"):
        read_answers([tmp_path], study)
    for number in range(30):
        (tmp_path / f"{number:02}.json").write_text("{}")
    with pytest.raises(UserError, match=r"09\.json.*; \.\.\.$") as raised:
        read_answers([tmp_path], study)
    assert "10.json" not in str(raised.value)


def test_names_of_files_give_a_terminal_no_commands(tmp_path, study, chosen):
    (tmp_path / "\x1b[31m\u202egnp.json").write_text("{")
    (problem,) = read_answers([tmp_path, good(tmp_path, study, chosen)], study).problems
    assert r"\x1b[31m\u202egnp.json" in problem
    assert problem.isprintable()


def label_studio_of(item, values, annotator="a1", study="?"):
    results = [{"from_name": name, "type": "choices", "value": {"choices": [of]}} for name, of in values.items()]
    return [{"data": {"study": study, "sheet": annotator, "item": item}, "annotations": [{"result": results}]}]


def argilla_of(item, values, annotator="a1", study="?"):
    responses = {name: [{"value": of, "user_id": "u"}] for name, of in values.items()}
    about = {"study": study, "annotator": annotator}
    return [{"id": item, "fields": {}, "metadata": about, "responses": responses, "status": "completed"}]


def own_of(item, values, annotator="a1", study="?"):
    return own_format(study, annotator, [{"item": item, **values}])


HOSTILE = [-1, 0, 6, 2.5, 3.0, True, None, "<script>alert(1)</script>", "\x1b[2J", 10**30, [1], {"a": 1}, "9" * 5000]


@pytest.mark.parametrize("form", [own_of, label_studio_of, argilla_of])
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_hostile_values_are_named_and_harmless(tmp_path, study, chosen, form, value):
    item = study.sheets["a1"]["rating"][0]
    (tmp_path / "hostile.json").write_text(json.dumps(form(item, {"alignment": value}, study=study.id)))
    answers = read_answers([tmp_path / "hostile.json", good(tmp_path, study, chosen)], study)
    assert given_back(answers)["a1", item] == chosen["a1", item]
    (problem,) = answers.problems
    assert f"a1, item {item}: alignment = " in problem
    assert problem.isprintable()
    assert len(problem) < 400


@pytest.mark.parametrize("form", [own_of, label_studio_of, argilla_of])
def test_foreign_studies_annotators_and_items_are_named(tmp_path, study, chosen, form):
    mine, theirs = study.sheets["a1"]["rating"], study.sheets["a2"]["rating"]
    other = next(name for name in theirs if name not in mine)
    file = good(tmp_path, study, chosen)
    for content, reason in [
        (form(mine[0], {"alignment": "1"}, study="0" * 16), "belongs to study"),
        (form(mine[0], {"alignment": "1"}, annotator="<b>eve</b>", study=study.id), 'unknown annotator "<b>eve</b>"'),
        (form("nothing", {"alignment": "1"}, study=study.id), 'unknown item "nothing"'),
        (form(other, {"alignment": "1"}, study=study.id), "was not given to a1"),
    ]:
        (tmp_path / "other.json").write_text(json.dumps(content))
        answers = read_answers([file, tmp_path / "other.json"], study)
        assert given_back(answers) == {key: values for key, values in chosen.items() if key[0] == "a1"}
        (problem,) = answers.problems
        assert reason in problem


def test_an_answer_given_twice_is_named(tmp_path, study, chosen):
    item = study.sheets["a1"]["rating"][0]
    again = 1 + chosen["a1", item]["alignment"] % 5
    (tmp_path / "z.json").write_text(json.dumps(label_studio_of(item, {"alignment": str(again)}, study=study.id)))
    answers = read_answers([good(tmp_path, study, chosen), tmp_path / "z.json"], study)
    assert given_back(answers)["a1", item] == {"alignment": again}
    (problem,) = answers.problems
    assert "more than once" in problem


def test_what_is_among_answers_but_none_is_named(tmp_path, study, chosen):
    files = label_studio_files(study)
    export = [*label_studio_export(files, "a1", "rating", chosen), None, 3, {}, {"data": None}]
    (tmp_path / "export.json").write_text(json.dumps(export))
    answers = read_answers([tmp_path], study)
    assert len(answers.answers) == 6
    assert answers.problems

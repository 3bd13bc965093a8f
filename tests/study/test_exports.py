"""Label Studio, Argilla and spreadsheets alike: what they show, and that answers come back as they were given."""

import json
import random
from dataclasses import replace

import pytest
from helpers.pairs_and_choices import in_pairs, of_choices
from helpers.studies import made_study
from helpers.tool_exports import argilla_export, chosen_for, filled_table, json_min, label_studio_export
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.study.argilla import argilla_files
from unirex_ray.study.label_studio import label_studio_files
from unirex_ray.study.read_files import read_answers
from unirex_ray.study.sheets import csv_files

MAKERS = [label_studio_files, argilla_files, csv_files]


def of_label_studio(study, chosen):
    files = label_studio_files(study)
    for annotator, sheet in study.sheets.items():
        for task in sheet:
            yield f"{annotator}-{task}.json", json.dumps(label_studio_export(files, annotator, task, chosen))


def of_json_min(study, chosen):
    for name, content in of_label_studio(study, chosen):
        yield name, json.dumps(json_min(json.loads(content)))


def of_argilla(study, chosen):
    files = argilla_files(study)
    for annotator, sheet in study.sheets.items():
        for task in sheet:
            yield f"{annotator}-{task}.json", json.dumps(argilla_export(files, annotator, task, chosen))


def of_tables(study, chosen):
    for path, content in csv_files(study).items():
        yield path.removeprefix("csv/"), filled_table(content, chosen)


TOOLS = [of_label_studio, of_json_min, of_argilla, of_tables]


def read(folder, study, files):
    folder.mkdir()
    for name, content in files:
        (folder / name).write_bytes(content.encode())
    return read_answers([folder], study)


def given_back(answers):
    return {(answer.annotator, answer.item.id): dict(answer.values) for answer in answers.answers}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("shape", [lambda study: study, in_pairs, of_choices], ids=["single", "pairs", "choices"])
def test_answers_come_back_as_they_were_given(tmp_path, tool, shape):
    study = shape(made_study())
    chosen = chosen_for(study, random.Random(1).randrange)
    answers = read(tmp_path / "answers", study, tool(study, chosen))
    assert given_back(answers) == chosen
    assert answers.problems == ()
    assert answers.unanswered == {}
    assert not answers.simulated


@pytest.mark.parametrize("tool", TOOLS)
def test_what_nobody_answered_is_unanswered_and_no_problem(tmp_path, tool):
    study = made_study()
    chosen = chosen_for(study, random.Random(2).randrange)
    left = [("a1", name) for ids in study.sheets["a1"].values() for name in ids[::2]]
    for key in left:
        del chosen[key]
    answers = read(tmp_path / "answers", study, tool(study, chosen))
    assert given_back(answers) == chosen
    assert answers.problems == ()
    assert answers.unanswered == {"a1": [name for _, name in left]}


ODD = st.sampled_from([
    '=HYPERLINK("http://x","y")', "-1+cmd|' /C calc'!A0", "@SUM(1)", "+1", "a;=1+1", 'say "this", now',
    "<script>x()</script>", "<b>bold</b> &amp; more", "a\nb\r\nc\td", "\u202eright to left", "\u05e9\u05dc\u05d5\u05dd",
    "**bold** $x^2$ `code` [a](b)", "{{ field }}", "$html", "'", '"', "2", "option 2", "TRUE",
    "1e5", "sep=;", "\u2028x", "[word]", "not asked",
])  # fmt: skip
WORDS = ODD | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(str.strip)


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS)
@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(WORDS, min_size=1, max_size=3), options=st.lists(WORDS, min_size=2, max_size=4), seed=st.integers()
)
def test_odd_texts_and_labels_do_no_harm(tmp_path_factory, tool, texts, options, seed):
    study = made_study(texts=texts, options=tuple(options), annotators=2)
    chosen = chosen_for(study, random.Random(seed).randrange)
    answers = read(tmp_path_factory.mktemp("odd") / "answers", study, tool(study, chosen))
    assert given_back(answers) == chosen
    assert answers.problems == ()


@pytest.mark.parametrize("make", MAKERS)
def test_annotators_cannot_tell_conditions_or_hidden_labels(make):
    """Nothing changes where conditions have other names and models predicted something else."""
    study = made_study(tasks=("forward",))
    conditions = tuple(
        replace(one, name=f"another {number}", kind="method", model={"method": "other", "trial_id": str(number)})
        for number, one in enumerate(study.conditions)
    )
    rationales = tuple(tuple(replace(one, label=1 - one.label) for one in of) for of in study.rationales)
    other = replace(study, conditions=conditions, rationales=rationales, seed=5)
    assert study.id != other.id
    anonymous = [{path: content.replace(one.id, "ID") for path, content in make(one).items()} for one in (study, other)]
    assert anonymous[0] == anonymous[1]


@pytest.mark.parametrize("make", MAKERS)
def test_no_file_names_a_condition(make):
    study = made_study()
    for content in make(study).values():
        for condition in study.conditions:
            assert condition.name not in content
            assert condition.model.get("method", "Gold") not in content


@pytest.mark.parametrize("make", MAKERS)
def test_ratings_show_the_predicted_label(make):
    study = made_study(tasks=("rating",), options=("turquoise", "magenta"))
    other = replace(
        study, rationales=tuple(tuple(replace(one, label=1 - one.label) for one in of) for of in study.rationales)
    )
    for path in make(study):
        counts = [make(one)[path].count("turquoise") - make(one)[path].count("magenta") for one in (study, other)]
        assert counts[0] == -counts[1]
    names = {"label-studio/a1-rating.json", "argilla/a1-rating.json", "csv/a1-rating.csv"}
    (path,) = names & make(study).keys()
    assert "turquoise" in make(study)[path] or "magenta" in make(study)[path]


@pytest.mark.parametrize("make", MAKERS)
def test_items_stand_in_the_order_of_the_sheet(make):
    study = made_study()
    for annotator, sheet in study.sheets.items():
        files = {path: content for path, content in make(study).items() if f"/{annotator}" in path}
        for task, ids in sheet.items():
            (content,) = [content for path, content in files.items() if path.endswith((f"{task}.json", f"{task}.csv"))]
            places = [content.index(name) for name in ids]
            assert places == sorted(places)


@pytest.mark.parametrize("make", MAKERS)
def test_where_nothing_is_highlighted_it_is_said(make):
    study = made_study(tasks=("forward",))
    nothing = {item.id for item in study.items if study.conditions[item.condition].kind == "none"}
    assert nothing
    for annotator, sheet in study.sheets.items():
        (content,) = [content for path, content in make(study).items() if f"/{annotator}" in path]
        assert content.count("Nothing is highlighted") == len(nothing & {*sheet["forward"]})

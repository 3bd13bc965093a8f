"""Tables for spreadsheets, and what is read of them; see test_exports.py for the way there and back."""

import csv
import io
import random

import pytest
from helpers.pairs_and_choices import in_pairs, of_choices
from helpers.studies import made_study
from helpers.tool_exports import chosen_for, filled_table

from unirex_ray.study.answers import RawAnswer
from unirex_ray.study.sheets import csv_answers, csv_files, table

HEADER = "study,annotator,task,item,text,predicted,options,how to answer,label,confidence,alignment\n"


def rows_of(study, annotator="a1"):
    """Of all tasks."""
    files = csv_files(study)
    texts = [files[f"csv/{annotator}-{task.name}.csv"].removeprefix("\ufeff") for task in study.tasks]
    return [row for text in texts for row in csv.DictReader(io.StringIO(text, newline=""))]


def test_a_table_per_annotator_and_task_that_excel_takes_as_utf_8():
    files = csv_files(made_study())
    assert {*files} == {f"csv/a{number}-{task}.csv" for number in (1, 2, 3) for task in ("forward", "rating")}
    assert all(content.startswith("\ufeff") for content in files.values())


def test_a_row_says_how_to_answer_it():
    study = made_study(texts=["a dull film"])
    forward, rating = rows_of(study)
    assert forward["study"] == f"study {study.id}"
    assert forward["item"] == f"item {study.sheets['a1']['forward'][0]}"
    assert forward["options"] == "1 = negative, 2 = positive"
    assert forward["how to answer"] == (
        "label: the number of one of the options; confidence: 1 = not at all, 2 = slightly, 3 = fairly, 4 = very"
    )
    assert [forward[name] for name in ("predicted", "label", "confidence", "alignment")] == ["", "", "", "not asked"]
    assert rating["how to answer"] == (
        "alignment: 1 = not at all, 2 = slightly, 3 = moderately, 4 = well, 5 = completely"
    )
    assert [rating[name] for name in ("options", "label", "confidence", "alignment")] == [
        "",
        "not asked",
        "not asked",
        "",
    ]
    assert rating["predicted"] in ("negative", "positive")


def text_of(study):
    (name,) = [name for name in rows_of(study)[0] if name.startswith("text")]
    return name, [row[name] for row in rows_of(study)]


def test_highlighted_words_stand_in_brackets_doubled_where_texts_have_their_own():
    name, texts = text_of(made_study(texts=["dull"], tasks=("rating",)))
    assert (name, texts) == ("text (highlighted words stand in [brackets])", ["[dull]"])
    name, texts = text_of(made_study(texts=["dull[1]"], tasks=("rating",)))
    assert (name, texts) == ("text (highlighted words stand in [[brackets]])", ["[[dull[1]]]"])


def test_pairs_and_choices_stand_in_one_cell():
    study = made_study(texts=["dull"], tasks=("rating",))
    assert text_of(in_pairs(study))[1] == ["[dull] / and what follows it"]
    assert text_of(of_choices(study))[1] == ["choice 0.0: [dull] / choice 0.1: of choice 0.1"]


@pytest.mark.parametrize(
    ("label", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\t=1", "' =1"),
        ("\r=1", "' =1"),
        ("\uff1d1", "'\uff1d1"),
        ("a;=1", "a; =1"),
        ("a;-x", "a; -x"),
        (";-)", ";-)"),
        ("a\n=1", "a =1"),
        ("1-2=3", "1-2=3"),
    ],
)
def test_no_cell_is_a_formula(label, cell):
    study = made_study(tasks=("rating",), options=(label, label))
    assert {row["predicted"] for row in rows_of(study)} == {cell}


def row(label="", confidence="", alignment="not asked"):
    return HEADER + f"study s,a1,forward,item i,x,,,,{label},{confidence},{alignment}\n"


def read(text):
    return csv_answers(text, "a1.csv")


def test_a_row_by_hand():
    expected = RawAnswer(annotator="a1", item="i", values={"label": 1, "confidence": 3}, source="a1.csv", study="s")
    assert read(row("2", "3")) == [expected]
    assert read(row()) == read(HEADER) == []


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("2", 1),
        (" 2 ", 1),
        ("2.0", 1),
        ('"2,00"', 1),
        ("2 = positive", 1),
        ("2: positive", 1),
        ("positive", "positive"),
        ("2.5", "2.5"),
        ("-1", "-1"),
        ("0", -1),
        ("9" * 5000, "9" * 5000),
        ("<script>", "<script>"),
    ],
)
def test_a_label_is_its_options_number_or_words(cell, value):
    assert read(row(cell))[0].values == {"label": value}


@pytest.mark.parametrize(
    ("cell", "value"), [("3", 3), ("3.0", 3), ("fairly", 3), ("Fairly", 3), ("3 = fairly", 3), ("much", "much")]
)
def test_an_answer_of_a_scale_is_its_number_or_words(cell, value):
    assert read(row(confidence=cell))[0].values == {"confidence": value}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("decimals", ["", ".0", ",0"])
@pytest.mark.parametrize(
    "rewrite", [str, lambda text: f"\ufeffsep=?\r\n{text}", lambda text: text + ";;;\r\n,,,\r\n\t\r\n"]
)
def test_what_spreadsheets_make_of_a_table_is_read_alike(delimiter, decimals, rewrite):
    study = made_study()
    chosen = chosen_for(study, random.Random(3).randrange)
    found = []
    for task in ("forward", "rating"):
        files = csv_files(study)
        content = filled_table(files[f"csv/a1-{task}.csv"], chosen, delimiter=delimiter, decimals=decimals)
        rewritten = rewrite(content).replace(";;;\r\n,,,\r\n\t\r\n", f"{delimiter * 9}\r\n\r\n")
        found += read(rewritten.replace("?", delimiter))
    assert {("a1", answer.item): answer.values for answer in found} == {
        key: values for key, values in chosen.items() if key[0] == "a1"
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no table"),
        ("hello", "no table"),
        ("a,b\n1,2\n", "no column 'study'"),
        (HEADER.replace("label", "confidence") + "x\n", "column 'confidence' twice"),
        (row().replace("not asked", "not asked,more"), "row 2 .* more cells"),
    ],
)
def test_what_is_no_table_of_ours_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        read(text)


def test_a_long_text_is_read():
    assert table(f"a,b\n{'x' * 200_000},2\n")[1][0]["b"] == "2"

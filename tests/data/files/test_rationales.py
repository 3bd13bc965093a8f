"""Gold rationales of a table: every form gives the same places, from every kind of file."""

import csv
import io
import json
from itertools import permutations
from typing import Any

import pyarrow as pa
import pytest
from helpers.labelled_corpora import refused, source
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from unirex_ray.config import DataConfig
from unirex_ray.data.corpora.table import load_table
from unirex_ray.data.files.rationales import gold_of, joined, plain_text, without_marks
from unirex_ray.data.files.tables import TableRow
from unirex_ray.data.instance import Input, is_blank
from unirex_ray.data.schema import Corpus

LABELS = ("no", "yes")
TEXT = "a dull, dull film"
GOLD = ((0, 2, 7), (0, 13, 17))
FORMS: dict[str, Any] = {
    "spans": [[13, 17], [2, 7]],
    "spans that overlap": [[2, 5], [4, 7], [13, 17]],
    "named spans": [{"start": 2, "end": 7, "by": "a"}, {"start": 13, "end": 17}],
    "mask": [0, 1, 0, 1],
    "flags": [False, True, False, True],
    "pieces": ["film", "dull,"],
    "stars": "a **dull,** dull **film**",
    "tags": "a <mark>dull,</mark> dull <mark>film</mark>",
}


def as_delimited(records: list[dict[str, Any]], delimiter: str) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerow(records[0])
    for record in records:
        writer.writerow(value if isinstance(value, str) else json.dumps(value) for value in record.values())
    return stream.getvalue().encode()


def as_parquet(records: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def as_arrow(records: list[dict[str, Any]], *, indexed: bool = False) -> bytes:
    buffer, table = io.BytesIO(), pa.Table.from_pylist(records)
    with (pa.ipc.new_file if indexed else pa.ipc.new_stream)(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


KINDS = {
    "csv": lambda records: as_delimited(records, ","),
    "tsv": lambda records: as_delimited(records, "\t"),
    "jsonl": lambda records: "\n".join(map(json.dumps, records)).encode(),
    "json": lambda records: json.dumps(records).encode(),
    "parquet": as_parquet,
    "arrow": as_arrow,
}


def load(files: dict[str, bytes], columns: tuple[str, ...] = ("rationale",), **options: Any) -> Corpus:
    config = DataConfig(name="table", rationale_columns=columns, **options)
    return load_table(source(files), config, LABELS)


def inputs(kind: str, records: list[dict[str, Any]], **options: Any) -> list[Input]:
    """Of the train split; the others are the same."""
    names = ("train", "dev", "test") if kind != "arrow" else tuple(f"{name}/data-0-of-1" for name in SPLIT_FOLDERS)
    corpus = load({f"{name}.{kind}": KINDS[kind](records) for name in names}, **options)
    return [instance.inputs[0] for instance in corpus.splits["train"]]


SPLIT_FOLDERS = ("train", "validation", "test")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_from_every_kind_of_file(kind, form):
    records = [{"text": TEXT, "label": "yes", "rationale": FORMS[form]}]
    assert inputs(kind, records) == [Input(segments=(TEXT,), gold=GOLD)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("marked", ["a **dull,** dull **film**", "a <mark>dull,</mark> dull <mark>film</mark>"])
def test_a_text_may_hold_its_own_marks(kind, marked):
    records = [{"text": marked, "label": "yes"}, {"text": "plain", "label": "no"}]
    found = inputs(kind, records, columns=("text",))
    assert found == [Input(segments=(TEXT,), gold=GOLD), Input(segments=("plain",), gold=None)]


@pytest.mark.parametrize("nothing", [[], None, "", "[]", "nan", TEXT, [0, 0, 0, 0]])
def test_a_row_without_a_rationale_has_none_and_is_counted(nothing):
    records = [{"text": TEXT, "label": LABELS[n % 2], "rationale": nothing if n else [[0, 1]]} for n in range(4)]
    corpus = load({f"{name}.jsonl": KINDS["jsonl"](records) for name in ("train", "dev", "test")})
    assert [instance.inputs[0].gold for instance in corpus.splits["train"]] == [((0, 0, 1),), None, None, None]
    assert corpus.notes == tuple(
        f"{split}: 3 of 4 instances have no gold rationale" for split in ("train", "dev", "test")
    )


@pytest.mark.parametrize(
    ("pieces", "gold"),
    [
        (["dull"], ((0, 2, 6),)),
        (["dull", "dull"], ((0, 2, 6), (0, 8, 12))),
        (["dull"] * 3, ((0, 2, 6), (0, 8, 12))),
        (["dull, dull", "dull"], ((0, 2, 12),)),
        (["dull film", "dull", " "], ((0, 2, 6), (0, 8, 17))),
        ([", dull"], ((0, 6, 12),)),
    ],
)
def test_a_piece_is_where_it_first_stands_and_one_listed_again_where_it_next_does(pieces, gold):
    records = [{"text": TEXT, "label": "yes", "rationale": pieces}]
    assert inputs("jsonl", records) == [Input(segments=(TEXT,), gold=gold)]


@pytest.mark.parametrize(
    ("text", "pieces", "gold"),
    [
        ("a dull film", ["film", "dull film"], [(2, 11)]),
        ("a dull film is a dull film", ["film", "dull film"], [(2, 11)]),
        ("a dull film is a dull film", ["film", "dull film", "film"], [(2, 11), (22, 26)]),
        ("a dull film is a dull\nfilm", ["dull  film", "dull", "dull film"], [(2, 11), (17, 26)]),
    ],
)
def test_a_piece_lies_where_it_would_lie_alone(text, pieces, gold):
    for listed in permutations(pieces):
        assert gold_of(TableRow("here", {"pieces": [*listed]}), "pieces", text, "text") == gold


def test_lists_of_tokens_are_texts_and_their_masks_count_them():
    records = [{"text": ["well - done", "and", "dusted"], "label": "yes", "rationale": [1, 1, 0]}]
    for kind in ("jsonl", "json", "parquet", "arrow"):
        assert inputs(kind, records) == [Input(segments=("well - done and dusted",), gold=((0, 0, 15),))]


def test_pairs_have_a_rationale_for_each_text_or_for_the_first():
    record = {"q": "who came", "a": "a **ship** came", "label": "yes", "why": [1, 0]}
    found = inputs("jsonl", [record], columns=("why", "a"), text_columns=("q", "a"))
    assert found == [Input(segments=("who came", "a ship came"), gold=((0, 0, 3), (1, 2, 6)))]
    found = inputs("jsonl", [record], columns=("why",), text_columns=("q", "a"))
    assert found == [Input(segments=("who came", "a **ship** came"), gold=((0, 0, 3),))]


def test_eraser_as_hugging_face_has_it():
    """`eraser_multi_rc` and `movie_rationales`: evidence are pieces of the passage, whatever blanks it has."""
    passage = "A ship went out .\nIt was red .\nNobody saw\nit again ."
    record = {
        "passage": passage,
        "query_and_answer": "What colour had it ? || Red",
        "label": 1,
        "evidences": ["It was red .", "saw it again"],
    }
    config = DataConfig(
        name="table",
        text_columns=("passage", "query_and_answer"),
        rationale_columns=("evidences",),
        task_metric="macro_f1",
    )
    files = {
        f"{split}/data-00000-of-00001.arrow": as_arrow([record, {**record, "label": 0}]) for split in SPLIT_FOLDERS
    }
    files |= {"dataset_dict.json": b"{}", "train/state.json": b"{}", "train/dataset_info.json": b"{}"}
    corpus = load_table(source(files), config, ("0", "1"))
    for split in ("train", "dev", "test"):
        first = corpus.splits[split][0].inputs[0]
        assert first.segments == (passage, record["query_and_answer"])
        assert [passage[start:end] for _, start, end in first.gold or ()] == ["It was red .", "saw\nit again"]


def test_arrow_with_an_index_is_read_too_and_damage_is_named():
    records = [{"text": f"t{n}", "label": LABELS[n % 2], "rationale": [1]} for n in range(20)]
    assert len(load({"a.arrow": as_arrow(records, indexed=True)}).splits["train"]) == 16
    assert "broken Arrow (" in refused(lambda *given: load_table(*given, LABELS), {"a.arrow": as_arrow(records)[:300]})


@pytest.mark.parametrize(
    ("rationale", "message"),
    [
        (
            [[13, 18]],
            "has the span [13, 18), which must lie within the 17 characters of its text; count characters from",
        ),
        ([[3, 3]], "has the span [3, 3), which must end behind its start; give the first character and the one behind"),
        ([[5, 3]], "has the span [5, 3), which must end behind its start"),
        ([[-1, 3]], "has the span [-1, 3), which must lie within the 17 characters"),
        ([0, 1, 0], "must have one 0 or 1 for each of the 4 words of its text, but has 3; words are what blanks part"),
        ([0, 1, 0, 1, 1], "of the 4 words of its text, but has 5"),
        (["dull", "brilliant"], "has 'brilliant', which must be a piece of its text, but is not in it; give it as the"),
        (["ull"], "has 'ull', which must be a piece of its text"),
        ("a **dull,** dull **film", "must have its marks in pairs, one behind the other, but '**' at character 17 has"),
        (
            "a <mark>dull,</mark> dull <mark>film",
            "but '<mark>' at character 26 has no other one; close it, or take it out",
        ),
        ("a dull,</mark> dull film", "but '</mark>' at character 7"),
        ("a <mark>dull, <mark>dull</mark> film</mark>", "but '<mark>' at character 14"),
        (
            "dull",
            'without them it is \'dull\'; give that, or a list as JSON has it: of pieces ["dull", "film"], of spans',
        ),
        ("['dull','film']", "(pandas' to_csv writes lists otherwise; JSONL and Parquet keep them)"),
        ("[0 1 0 1]", "without them it is '[0 1 0 1]'; give that, or a list as JSON has it: "),
        ("a **dull** movie", "must be the text of 'text' with marks, but without them it is 'a dull movie'"),
        (
            [0, 2, 0, 1],
            "must be character spans [[start, end], ...], one 0 or 1 per word, a list of pieces of the text, or",
        ),
        ([[0, 1, 2]], "must be character spans"),
        ([[0, True]], "must be character spans"),
        ([["a", "b"]], "must be character spans"),
        ({"start": 0, "end": 1}, "must be character spans"),
        (7, "must be character spans"),
    ],
)
def test_a_rationale_that_does_not_fit_is_named_with_its_line(rationale, message):
    record = json.dumps({"text": TEXT, "label": "yes", "rationale": rationale})
    good = json.dumps({"text": TEXT, "label": "yes", "rationale": None})
    found = refused(
        lambda corpus, config: load_table(corpus, config, LABELS),
        {"train.jsonl": f"{good}\n{record}"},
        rationale_columns=("rationale",),
    )
    assert found.startswith("corpus: train.jsonl, line 2: 'rationale' ")
    assert message in found


@pytest.mark.parametrize(
    ("columns", "texts"),
    [(("r", "s"), ("text",)), (("r", "r"), ("a", "b")), (("label",), ("text",)), (("b",), ("a", "b"))],
)
def test_a_rationale_has_a_text_of_its_own(columns, texts):
    found = refused(
        lambda corpus, config: load_table(corpus, config, LABELS),
        {"train.jsonl": "{}"},
        rationale_columns=columns,
        text_columns=texts,
    )
    assert found.startswith(
        "data.rationale_columns must be one column for each text at most, in the order of data.text_co"
    )


words = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="*<>[", exclude_categories=["Z", "C"]), min_size=1),
    min_size=1,
    max_size=6,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(words, st.data())
def test_all_forms_agree(tokens, data):
    """What a mask marks, spans, marks and pieces mark as well."""
    if is_blank(" ".join(tokens)) or any(token.split() != [token] for token in tokens):
        return
    mask = data.draw(st.lists(st.integers(0, 1), min_size=len(tokens), max_size=len(tokens)))
    text = " ".join(tokens)
    row = TableRow("here", {"text": text, "mask": mask, "tokens": tokens})
    expected = gold_of(row, "mask", text, "text")
    assert expected == joined(expected)
    kept = " ".join(text[start:end] for start, end in expected)
    assert kept.split() == [token for token, flag in zip(tokens, mask, strict=True) if flag]
    assert gold_of(row, "mask", plain_text(row, "tokens"), "tokens") == expected
    spans = [list(place) for place in reversed(expected)]
    assert gold_of(row.changed(spans=spans), "spans", text, "text") == expected
    for opening, closing in (("**", "**"), ("<mark>", "</mark>")):
        marked = text
        for start, end in reversed(expected):
            marked = f"{marked[:start]}{opening}{marked[start:end]}{closing}{marked[end:]}"
        assert without_marks(row.changed(text=marked), "text") == (text, expected)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["a", "b", "c."]), min_size=1, max_size=8), st.data())
def test_the_order_of_pieces_does_not_matter(tokens, data):
    text = " ".join(tokens)
    ends = st.tuples(st.integers(0, len(tokens) - 1), st.integers(1, len(tokens)))
    drawn = data.draw(st.lists(ends.filter(lambda place: place[0] < place[1]), min_size=1, max_size=5))
    pieces = [" ".join(tokens[start:end]) for start, end in drawn]

    def gold(listed):
        return gold_of(TableRow("here", {"pieces": [*listed]}), "pieces", text, "text")

    found = gold(pieces)
    assert gold(data.draw(st.permutations(pieces))) == found
    covered = {place for start, end in found for place in range(start, end)}
    for piece in pieces:  # alone, each marks nothing that they do not mark together
        assert covered >= {place for start, end in gold([piece]) for place in range(start, end)}

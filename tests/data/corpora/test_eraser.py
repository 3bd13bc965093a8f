import json
from itertools import chain
from typing import Any

import pytest
from helpers.eraser_files import DOCUMENT, files, pair, row, sentences, source
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.data.corpora.eraser import load_eraser, load_esnli, load_movies, load_multirc
from unirex_ray.data.files.source import Source
from unirex_ray.errors import UserError


def test_movies_by_hand():
    corpus = load_movies(source(row("a", "POS", ((4, 5), (0, 2), (1, 2))), row("b", spans=((3, 4),))))
    first, second = corpus.splits["train"]
    assert first.inputs[0].segments == ("so good really bad\u00a0luck .",)
    assert first.inputs[0].gold == ((0, 0, 7), (0, 24, 25))
    assert (first.label, second.label) == (1, 0)
    assert second.inputs[0].gold == ((0, 15, 23),)
    assert (corpus.task_metric, corpus.max_length, corpus.truncation) == ("macro_f1", 1024, "rationale")
    assert corpus.labels == ("NEG", "POS")
    assert corpus.notes == ()


def test_a_document_without_evidence_has_no_gold_and_is_counted():
    own = row("own", spans=())
    empty = row("b", spans=((2, 2),))
    unlike = row("c")
    unlike["evidences"][0][0]["text"] = "something else"
    like = row("d")
    like["evidences"][0][0]["text"] = " really\n"
    corpus = load_movies(source(own, empty, unlike, like))
    assert [instance.inputs[0].gold for instance in corpus.splits["train"]] == [None, None, *[((0, 8, 14),)] * 2]
    assert corpus.splits["train"][0].inputs[0].segments == ("one two",)
    assert corpus.notes == (
        "train: 2 of 4 instances have no evidence",
        "train: 1 evidence spans are empty",
        "train: 1 evidence spans differ from the text that is quoted beside them",
    )


def test_any_corpus_has_its_query_as_second_segment_and_its_own_labels():
    docs = "\n".join(json.dumps({"docid": name, "document": DOCUMENT}) for name in ("d1", "d2"))
    rows = [
        row("a", "yes"),
        row("b", "no", spans=(), docids=["d2"], query=" "),
        row("c", "no", spans=(), docids=["d2"]),
    ]
    del rows[2]["query"]
    data = files(*rows, docs=docs)
    for name in ("val.jsonl", "test.jsonl"):
        data[name] = json.dumps(row(name, "yes")).encode()
    corpus = load_eraser(Source("corpus", data.get), ["no", "yes"])
    assert [instance.label for instance in corpus.splits["train"]] == [1, 0, 0]
    document = "so good really bad\u00a0luck ."
    assert [i.inputs[0].segments for i in corpus.splits["train"]] == [(document, "what now"), (document,), (document,)]
    assert (corpus.max_length, corpus.truncation, corpus.task_metric) == (None, "head", "macro_f1")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (row("b", spans=((4, 6),)), r"evidence span \[4, 6\) must be within the 5 tokens of 'd1'"),
        (row("b", spans=((-1, 1),)), r"evidence span \[-1, 1\)"),
        (row("b", spans=((3, 2),)), r"evidence span \[3, 2\)"),
        (row("b", "MAYBE"), "'classification' must be one of NEG, POS, but is 'MAYBE'"),
        (row("a"), "duplicate annotation_id 'a'"),
        (row("b", docids=["nowhere"], spans=()), "document 'nowhere' is neither in docs.jsonl nor in docs/"),
        (row("b", docids=["../train.jsonl"], spans=()), "is neither in"),
        (row("nowhere", spans=()), "document 'nowhere'"),
        (row("b", docids=["blank"], spans=()), "document 'blank' is empty"),
        (row("b", docids="d1"), "'docids' must be a list of strings"),
        (row("b", query=7), "'query' must be a string, but is 7"),
        ({**row("b"), "evidences": [{"docid": "d1"}]}, "must be a list of groups of spans, but holds"),
        ({**row("b"), "evidences": None}, "'evidences' must be a list of groups of spans, but is null"),
        ({**row("b"), "evidences": [[{"docid": "d1", "start_token": "0", "end_token": 1}]]}, "'start_token' must be"),
        (
            {**row("b"), "evidences": [[{"start_token": 0, "end_token": 1}]]},
            "'docid' must be a string or a whole number",
        ),
        ({**row("b"), "classification": None}, "'classification' is missing; take the row out, or give it one of NEG"),
        ({**row("b"), "annotation_id": True}, "'annotation_id' must be a string or a whole number, but is true"),
        ({**row("b"), "annotation_id": 1.5}, "'annotation_id' must be a string or a whole number, but is 1.5"),
        (row("b", docids=["d1", None]), "'docids' must be a list of strings"),
        ('{"annotation_id": ', "broken JSON"),
        ("[1, 2]", r"must be a JSON object, but is \[1, 2\]"),
        ("[" * 100_000, "broken JSON"),
    ],
)
def test_broken_lines_are_named(broken, message):
    corpus = source(row("a"), "", broken)
    with pytest.raises(UserError, match=message) as caught:
        load_eraser(corpus, ("NEG", "POS"))
    assert str(caught.value).startswith("corpus: train.jsonl, line 3: ")
    assert "\n" not in str(caught.value)


def test_the_papers_corpora_have_one_document_per_instance():
    with pytest.raises(UserError, match=r"line 1: must have its evidence in one document, but names d1, own"):
        load_movies(source(row("b", docids=["own"])))


def test_evidence_in_several_documents_moves_with_them():
    """As in FEVER: no `docids`, a claim as query, and evidence in documents that are joined as they are named."""
    claim = row("a", spans=(), docids=None, query="A claim")
    claim["evidences"] = [
        [{"docid": "own", "start_token": 1, "end_token": 2}],
        [{"docid": "d1", "start_token": 0, "end_token": 1}, {"docid": "own", "start_token": 0, "end_token": 1}],
    ]
    named = row("b", docids=["d1", "own"], query="")
    corpus = load_eraser(source(claim, named), ("NEG", "POS"))
    text = "so good really bad\u00a0luck ."
    first, second = (instance.inputs[0] for instance in corpus.splits["train"])
    assert first.segments == (f"one two {text}", "A claim")
    assert first.gold == ((0, 0, 10),)  # one two so
    assert second.segments == (f"{text} one two",)
    assert second.gold == ((0, 8, 14),)


def test_ids_and_classifications_may_be_numbers():
    def numbers(id_: float, label: float, **extra: Any) -> bytes:
        return json.dumps({**row("", spans=()), "annotation_id": id_, "classification": label, **extra}).encode()

    data = {
        "docs.jsonl": json.dumps({"docid": 7, "document": "one two"}).encode(),
        "train.jsonl": numbers(1, 0, docids=[7]) + b"\n" + numbers(7.0, 1.0),
        "val.jsonl": numbers(2, 0, docids=None, evidences=[[{"docid": 7, "start_token": 0, "end_token": 1}]]),
        "test.jsonl": numbers(3, 0, docids=["7"]),
    }
    corpus = load_eraser(Source("corpus", data.get), ("0", "1"))
    assert [(instance.id, instance.label) for instance in corpus.splits["train"]] == [("1", 0), ("7", 1)]
    assert corpus.splits["dev"][0].inputs[0].gold == ((0, 0, 3),)


def test_a_no_break_space_is_no_line_and_no_token():
    """ERASER's reader strips lines, of no-break spaces too, before it counts them: evidence does not move."""
    lines = [row("a", "True", evidences=[[sentences(1, 2)]]), row("b", "True", ((2, 4),))]
    for docs, form in (({"docs/d1": "one two\u00a0\n\u00a0\n \u00a0 \nthree four\n"}, "file"), ({}, "listed")):
        data = {**files(*lines), **{name: text.encode() for name, text in docs.items()}}
        if form == "listed":
            data["docs.jsonl"] = json.dumps({"docid": "d1", "document": "one two\u00a0\nthree four"}).encode()
        for name in ("val.jsonl", "test.jsonl"):
            data[name] = json.dumps(row(name, "True")).encode()
        corpus = load_multirc(Source("corpus", data.get))
        for instance in corpus.splits["train"]:
            assert instance.inputs[0].segments[0] == "one two three four"
            assert instance.inputs[0].gold == ((0, 8, 18),)


def test_blank_lines_and_doubled_blanks_of_docs_jsonl_count():
    """ERASER's reader makes empty tokens of them, which its evidence counts and no text shows."""
    lines = [row("a", "True", ((1, 3),)), row("b", "True", evidences=[[sentences(2, 3)]])]
    data = files(*lines, docs=json.dumps({"docid": "d1", "document": "one  two\n\nthree four"}))
    for name in ("val.jsonl", "test.jsonl"):
        data[name] = json.dumps(row(name, "True")).encode()
    first, second = load_multirc(Source("corpus", data.get)).splits["train"]
    assert first.inputs[0].segments[0] == "one two three four"
    assert first.inputs[0].gold == ((0, 4, 7),)
    assert second.inputs[0].gold == ((0, 8, 18),)


def test_evidence_that_mostly_differs_from_its_quotes_is_refused():
    quoted = [row(name) for name in "abc"]
    for line, text in zip(quoted, ("really", "something", "else"), strict=True):
        line["evidences"][0][0]["text"] = text
    with pytest.raises(UserError, match=r"train\.jsonl: 2 of 3 evidence spans differ from the text"):
        load_movies(source(*quoted))
    load_movies(source(*quoted[:2]))  # half of them: a note


def read_as_eraser_does(text: str, *, listed: bool) -> list[list[str]]:
    """Sentences of tokens: what evidence counts, by the reader that ERASER publishes."""
    if listed:
        return [line.strip().split(" ") for line in text.split("\n")]
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return [[token for token in line.split(" ") if token] for line in lines if line]


tokens = st.text(
    st.characters(exclude_characters=" \r\n", exclude_categories=("Cs",)) | st.sampled_from("\u00a0\u2028\U0001f600é"),
    min_size=1,
    max_size=5,
)
blanks = st.sampled_from([" ", "  ", "\n", " \n\n ", "\t", "\r\n", "\n \n", "\u00a0\n", "\n\u00a0\n"])


@st.composite
def documents(
    draw: st.DrawFn, *, listed: bool | None = None
) -> tuple[bool, list[list[str]], str, list[tuple[int, int]]]:
    """Whether it is listed; sentences; a text that holds them, with all kinds of blanks; spans in any order."""
    listed = draw(st.booleans()) if listed is None else listed
    words = draw(st.lists(tokens, min_size=1, max_size=8))
    gaps = draw(st.lists(blanks, min_size=len(words) + 1, max_size=len(words) + 1))
    text = "x" + "".join(gap + word for gap, word in zip(gaps, words, strict=False)) + gaps[-1]
    sentences = read_as_eraser_does(text, listed=listed)
    edges = st.integers(0, len(list(chain(*sentences))))
    spans = draw(st.lists(st.tuples(edges, edges).map(lambda pair: (min(pair), max(pair))), max_size=5))
    return listed, sentences, text, spans


def visible(sentences: list[list[str]], spans: list[tuple[int, int]]) -> tuple[list[str], set[int]]:
    """Tokens that are not empty, and which of them the spans name."""
    counted = list(chain(*sentences))
    kept = [number for number, token in enumerate(counted) if token]
    wanted = {number for start, end in spans for number in range(start, end)}
    return [counted[number] for number in kept], {place for place, number in enumerate(kept) if number in wanted}


def gold_words(text: str, spans: tuple[tuple[int, int, int], ...] | None, segment: int) -> set[int]:
    """Numbers of the words that spans touch, found by walking over the characters."""
    numbers, number = [], 0
    for character in text:
        number += character == " "
        numbers.append(None if character == " " else number)
    return {numbers[i] for s, a, b in spans or () if s == segment for i in range(a, b)} - {None}


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(documents())
def test_gold_words_are_the_tokens_that_evidence_names(document):
    listed, sentences, text, spans = document
    data = files(row("a", spans=tuple(spans), docids=["d1"]))
    data["docs/d1"] = text.encode()
    data["val.jsonl"] = data["train.jsonl"].replace(b'"a"', b'"z"')
    data["test.jsonl"] = data["train.jsonl"].replace(b'"a"', b'"y"')
    if listed:
        data["docs.jsonl"] = json.dumps({"docid": "d1", "document": text}).encode()
    (instance,) = load_movies(Source("corpus", data.get)).splits["train"]
    words, wanted = visible(sentences, spans)
    assert instance.inputs[0].segments == (" ".join(words),)
    assert gold_words(" ".join(words), instance.inputs[0].gold, 0) == wanted
    assert (instance.inputs[0].gold is None) == (not wanted)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(documents(listed=True), documents(listed=True))
def test_gold_words_of_pairs_are_those_of_either_document(premise, hypothesis):
    found = {"premise": premise, "hypothesis": hypothesis}
    evidence = [(doc, start, end) for doc, (*_, spans) in reversed(found.items()) for start, end in spans]
    data = {
        "docs.jsonl": "\n".join(
            json.dumps({"docid": f"{i}_{d}", "document": t}) for i in "12v" for d, (*_, t, _) in found.items()
        ),
        "train.jsonl": json.dumps(pair("1", "neutral", *evidence)),
        "val.jsonl": json.dumps(pair("v", "neutral")),
        "test.jsonl": json.dumps(pair("2", "neutral")),
    }
    (instance,) = load_esnli(Source("corpus", {name: text.encode() for name, text in data.items()}.get)).splits["train"]
    for segment, (_, read, _, spans) in enumerate(found.values()):
        words, wanted = visible(read, spans)
        assert instance.inputs[0].segments[segment] == " ".join(words)
        assert gold_words(" ".join(words), instance.inputs[0].gold, segment) == wanted

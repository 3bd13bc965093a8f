"""The readers of the benchmark's own corpora: CoS-E, MultiRC, e-SNLI."""

import json
from typing import Any

import pytest
from helpers.eraser_files import DOCUMENT, files, pair, row, sentences, source

from unirex_ray.data.corpora.eraser import load_cose, load_esnli, load_movies, load_multirc
from unirex_ray.data.files.source import Source
from unirex_ray.errors import UserError


def question(id_: str, label: str = "A", **extra: Any) -> dict[str, Any]:
    choices = {"query": "a sea [sep]  dry   land [sep] air [sep] a sea [sep] the moon", "query_type": None}
    return {**row(id_, label, spans=()), **choices, "docids": ["q"], **extra}


def cose(*train: dict[str, Any]) -> Source:
    docs = [{"docid": "q", "document": "Where do ships go ?"}, {"docid": "alone", "document": "Why ?"}]
    data = files(*train, docs="\n".join(map(json.dumps, docs)))
    for name in ("val.jsonl", "test.jsonl"):
        data[name] = json.dumps(question(name)).encode()
    return Source("corpus", data.get)


def test_cose_by_hand():
    evidence = [[{"docid": "q", "start_token": start, "end_token": end}] for start, end in ((4, 5), (1, 3))]
    corpus = load_cose(cose(question("a", "B", evidences=evidence), question("alone", "E", docids=None)))
    first, second = corpus.splits["train"]
    asked = "Where do ships go ?"
    assert [text.segments for text in first.inputs] == [
        (asked, "a sea"),
        (asked, "dry land"),
        (asked, "air"),
        (asked, "a sea"),
        (asked, "the moon"),
    ]
    assert [text.gold for text in first.inputs] == [((0, 6, 14), (0, 18, 19))] * 5
    assert {text.segments[0] for text in second.inputs} == {"Why ?"}
    assert [text.gold for text in second.inputs] == [None] * 5
    assert (first.label, second.label) == (1, 4)
    assert (corpus.name, corpus.multi_choice, corpus.labels) == ("cose", True, ("A", "B", "C", "D", "E"))
    assert (corpus.task_metric, corpus.max_length, corpus.truncation) == ("accuracy", None, "head")
    assert corpus.notes == (
        "train: 1 of 2 instances have no evidence",
        "dev: 1 of 1 instances have no evidence",
        "test: 1 of 1 instances have no evidence",
    )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            question("b", query="a [sep] b [sep] c [sep] d"),
            r"'query' must hold 5 choices joined by ' \[sep\] ', but holds 4: \"a \[sep\] b \[sep\] c \[sep\] d\"$",
        ),
        (question("b", query="a [sep] b [sep] c [sep] d [sep] e [sep] f"), "5 choices .* but holds 6: "),
        (question("b", query=""), 'but holds 1: ""$'),
        (question("b", query="a [sep] b [sep] [sep] d [sep] e"), "but choice C is empty$"),
        (question("b", query="a [sep] b [sep] c [sep] d [sep] "), "but choice E is empty$"),
        (question("b", query=None), "'query' must be a string, but is null"),
        (question("b", "F"), "'classification' must be one of A, B, C, D, E, but is 'F'"),
        (question("b", "a"), "'classification' must be one of A, B, C, D, E, but is 'a'"),
        (question("b", docids=["nowhere"]), "document 'nowhere' is neither in docs.jsonl nor in docs/"),
    ],
)
def test_broken_lines_of_cose_are_named(broken, message):
    with pytest.raises(UserError, match=message) as caught:
        load_cose(cose(question("a"), broken))
    assert str(caught.value).startswith("corpus: train.jsonl, line 2: ")
    assert "\n" not in str(caught.value)


def test_documents_must_be_unique_and_text():
    twice = "\n".join([json.dumps({"docid": "d1", "document": DOCUMENT})] * 2)
    with pytest.raises(UserError, match=r"docs\.jsonl, line 2: duplicate document 'd1'"):
        load_movies(source(row("a"), docs=twice))
    with pytest.raises(UserError, match=r"docs\.jsonl, line 1: 'document' must be a string"):
        load_movies(source(row("a"), docs='{"docid": "d1", "document": ["a"]}'))
    data = {**files(row("a")), "docs/d1": b"caf\xe9"}
    with pytest.raises(UserError, match="docs/d1, line 1: must be UTF-8"):
        load_movies(Source("corpus", data.get))


def test_multirc_by_hand():
    """A passage is a line per sentence; evidence are whole sentences, given by their tokens or by their numbers."""
    passage = "A ship went  out .\n\nIt was red .\nNobody saw it\u00a0again .\n"
    lines = [
        row("p:0:0", "True", ((5, 9),), query="What colour had it ? || Red"),
        row("p:0:1", "False", query="What colour had it ? || Blue", docids=["d1"], evidences=[[sentences(1, 3)]]),
        row("p:0:2", "False", evidences=[[sentences(0, 1, start_token=-1, end_token=-1)], [sentences(2, 3)]]),
    ]
    lines[0]["evidences"][0][0] |= {"start_sentence": 1, "end_sentence": 2}
    data = {**files(*lines), "docs/d1": passage.encode()}
    for name in ("val.jsonl", "test.jsonl"):
        data[name] = json.dumps(row(name, "True")).encode()
    corpus = load_multirc(Source("corpus", data.get))
    text = "A ship went out . It was red . Nobody saw it\u00a0again ."
    first, second, third = corpus.splits["train"]
    assert first.inputs[0].segments == (text, "What colour had it ? || Red")
    assert first.inputs[0].gold == ((0, 18, 30),)
    assert second.inputs[0].gold == ((0, 18, 52),)
    assert third.inputs[0].gold == ((0, 0, 17), (0, 31, 52))
    assert (first.label, second.label) == (1, 0)
    assert (corpus.name, corpus.labels, corpus.task_metric) == ("multirc", ("False", "True"), "macro_f1")
    assert (corpus.multi_choice, corpus.max_length, corpus.truncation) == (False, None, "head")


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        (sentences(0, 4), r"evidence span \[0, 4\) must be within the 3 sentences of 'd1'"),
        (sentences(2, 1), r"evidence span \[2, 1\)"),
        ({"docid": "d1", "start_sentence": 0}, "'end_sentence' must be a sentence index, but is null"),
        ({"docid": "d1"}, "'start_token' must be a token index, but is null"),
    ],
)
def test_broken_sentences_are_named(evidence, message):
    broken = row("b", evidences=[[evidence]])
    with pytest.raises(UserError, match=message) as caught:
        load_movies(source(row("a"), broken))
    assert str(caught.value).startswith("corpus: train.jsonl, line 2: ")


def esnli(*train: dict[str, Any], without: str = "") -> Source:
    ids = ["1.jpg#0r1n", "1.jpg#0r1e", "2", "v", "t"]
    texts = {"premise": "Two dogs run on grass .", "hypothesis": "Animals are outside ."}
    docs = [{"docid": f"{id_}_{doc}", "document": text} for id_ in ids for doc, text in texts.items()]
    data = {
        "docs.jsonl": "\n".join(json.dumps(doc) for doc in docs if doc["docid"] != without),
        "train.jsonl": "\n".join(map(json.dumps, train)),
        "val.jsonl": json.dumps(pair("v", "neutral", ("hypothesis", 0, 1))),
        "test.jsonl": json.dumps(pair("t", "contradiction")),
    }
    return Source("corpus", {name: text.encode() for name, text in data.items()}.get)


def test_esnli_by_hand():
    """Premise and hypothesis are documents of their own; evidence may lie in either, in any order."""
    corpus = load_esnli(
        esnli(
            pair("1.jpg#0r1n", "entailment", ("hypothesis", 0, 1), ("premise", 4, 5), ("premise", 0, 2)),
            pair("1.jpg#0r1e", "neutral", ("hypothesis", 2, 4), docids=None),
            pair("2", "contradiction"),
        )
    )
    first, second, third = corpus.splits["train"]
    assert first.inputs[0].segments == ("Two dogs run on grass .", "Animals are outside .")
    assert first.inputs[0].gold == ((0, 0, 8), (0, 16, 21), (1, 0, 7))
    assert second.inputs[0].gold == ((1, 12, 21),)
    assert third.inputs[0].gold is None
    assert [i.label for i in (first, second, third)] == [1, 2, 0]
    assert (corpus.name, corpus.labels) == ("esnli", ("contradiction", "entailment", "neutral"))
    assert (corpus.task_metric, corpus.multi_choice) == ("macro_f1", False)
    assert corpus.notes == (
        "train: 1 of 3 instances have no evidence",
        "test: 1 of 1 instances have no evidence",
    )


@pytest.mark.parametrize(
    ("broken", "without", "message"),
    [
        (pair("2", "neutral", ("premise", 0, 7)), "", r"\[0, 7\) must be within the 6 tokens of '2_premise'"),
        (
            pair("2", "neutral", docids=["v_premise"]),
            "",
            "must have its evidence in 2_premise and 2_hypothesis, but names v_premise",
        ),
        (pair("2", "neutral"), "2_hypothesis", "document '2_hypothesis' is neither in docs.jsonl nor in docs/"),
        (pair("3", "neutral"), "", "document '3_premise' is neither"),
        (pair("2", "maybe"), "", "'classification' must be one of contradiction, entailment, neutral"),
        (pair("1.jpg#0r1e", "neutral"), "", "duplicate annotation_id '1.jpg#0r1e'"),
    ],
)
def test_broken_lines_of_esnli_are_named(broken, without, message):
    with pytest.raises(UserError, match=message) as caught:
        load_esnli(esnli(pair("1.jpg#0r1e", "neutral"), broken, without=without))
    assert str(caught.value).startswith("corpus: train.jsonl, line 2: ")

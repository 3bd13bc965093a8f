"""Yelp and Amazon: reviews with stars."""

from collections import Counter

import pytest
from helpers.labelled_corpora import assert_sound, refused, rows, sizes, source

from unirex_ray.config import DataConfig
from unirex_ray.data.corpora.labelled import (
    load_amazon,
    load_yelp,
)
from unirex_ray.data.schema import SPLITS

CONFIG = DataConfig()


def reviews(number: int, name: str, *, title: bool = False) -> str:
    middle = '"a ""fine"" title",' if title else ""
    return "".join(f'"{1 + n % 2}",{middle}"{name} {n}"\n' for n in range(number))


def test_yelp_by_hand():
    train = '"2","It was ""great"", I said.\\n\\nReally, \\""so\\"" good."\n"1","Bad, bad."\n' * 6
    test = '"1","""Never"" again"\n"2",Fine\n'
    corpus = load_yelp(source({"train.csv": train, "test.csv": test}), CONFIG)
    assert (corpus.name, corpus.labels, corpus.task_metric) == ("yelp", ("negative", "positive"), "accuracy")
    assert sizes(corpus) == [10, 2, 2]
    assert_sound(corpus, 14)
    both = {('It was "great", I said.  Really, \\"so\\" good.',): 1, ("Bad, bad.",): 0}
    found = rows(corpus, "train", "dev")
    assert {segments: label for _, segments, label in found} == both
    assert sorted(id_ for id_, _, _ in found) == sorted(f"train-{number}" for number in range(1, 13))
    assert all((int(id_.removeprefix("train-")) % 2 == 1) == (label == 1) for id_, _, label in found)
    assert rows(corpus, "test") == [("test-1", ('"Never" again',), 0), ("test-2", ("Fine",), 1)]


def test_amazon_leaves_the_title_out():
    train = '"1","No ""title""","A text"\n"2","","Another one"\n' * 6
    corpus = load_amazon(source({"train.csv": train, "test.csv": '"2","The title","The text"\n'}), CONFIG)
    assert (corpus.name, corpus.labels, corpus.task_metric) == ("amazon", ("negative", "positive"), "accuracy")
    assert {(segments, label) for _, segments, label in rows(corpus)} == {
        (("A text",), 0),
        (("Another one",), 1),
        (("The text",), 1),
    }
    assert sizes(corpus) == [10, 2, 1]


@pytest.mark.slow
@pytest.mark.parametrize("load", [load_yelp, load_amazon])
def test_reviews_are_drawn_by_seed_without_overlap_and_balanced(load):
    title = load is load_amazon
    files = {"train.csv": reviews(12_600, "a", title=title), "test.csv": reviews(2_400, "b", title=title)}
    corpus = load(source(files), CONFIG)
    assert sizes(corpus) == [10_000, 2_000, 2_000]
    assert_sound(corpus, 14_000)
    for split, half in zip(SPLITS, (5_000, 1_000, 1_000), strict=True):
        assert Counter(corpus.splits[split].labels.tolist()) == {0: half, 1: half}
        # An instance's number tells the row that its text and its label have to come from.
        for id_, segments, label in rows(corpus, split):
            number = int(id_.rpartition("-")[2]) - 1
            assert segments == (f"{'b' if split == 'test' else 'a'} {number}",)
            assert label == number % 2
    assert rows(load(source(files), CONFIG)) == rows(corpus)
    assert rows(load(source(files), DataConfig(seed=1))) != rows(corpus)


@pytest.mark.parametrize(("number", "expected"), [(6, [5, 1]), (12, [10, 2]), (60, [50, 10]), (7, [6, 1])])
def test_short_files_of_reviews_keep_the_proportion(number, expected):
    corpus = load_yelp(source({"train.csv": reviews(number, "a"), "test.csv": reviews(3, "b")}), CONFIG)
    assert sizes(corpus) == [*expected, 3]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ('"3","x"', "'class' must be one of 1, 2, but is '3'"),
        ('"","x"', "'class' is missing; take the row out, or give it one of 1, 2"),
        ('"1"', "must have 2 columns, but has 1"),
        ('"1","x","y"', "must have 2 columns, but has 3"),
        ('"1"," \\n\\n"', "'text' must be text, but is empty"),
        ('"1",""', "'text' must be text, but is empty"),
        ('"1","a"b"', "must be a row whose quotes come in pairs, with fields of at most 16 MiB, but is broken"),
        ('"1","a', "must be a row whose quotes come in pairs"),
        ('"1","a\0b"', "must be text, but holds a NUL character"),
        ("1,a\rb", "but is broken (new-line character seen in unquoted field"),
    ],
)
def test_broken_reviews_are_named(broken, message):
    for file in ("train.csv", "test.csv"):
        good = {"train.csv": reviews(2, "a"), "test.csv": reviews(2, "b")}
        found = refused(load_yelp, {**good, file: f"{reviews(2, 'a')}\n{broken}\n"})
        assert found.startswith(f"corpus: {file}, line 4: ")
        assert message in found


def test_reviews_need_their_files_and_utf_8():
    good = {"train.csv": reviews(2, "a"), "test.csv": reviews(2, "b")}
    assert refused(load_yelp, {"train.csv": good["train.csv"]}) == "corpus: has no file 'test.csv'"
    found = refused(load_yelp, {**good, "test.csv": b'"1","caf\xe9"\n'})
    assert found.startswith("corpus: test.csv, line 1: must be UTF-8 text, but byte 8")
    assert refused(load_amazon, good).startswith("corpus: train.csv, line 1: must have 3 columns, but has 2")


def test_a_field_may_be_longer_than_csv_allows_by_itself():
    long = "x" * 200_000
    corpus = load_yelp(source({"train.csv": f'"1","{long}"\n' * 6, "test.csv": reviews(1, "b")}), CONFIG)
    assert {segments for _, segments, _ in rows(corpus, "train")} == {(long,)}

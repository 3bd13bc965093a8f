import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tokenizer_kinds import byte_level, embedded, unigram

from unirex_ray.config import DataConfig
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.encode import encode_split
from unirex_ray.data.load import load_corpus
from unirex_ray.data.schema import Corpus

FOLDER = os.environ.get("UNIREX_DATA")

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(FOLDER is None, reason="UNIREX_DATA does not name a folder of corpora"),
]


def load(name: str, file: str, **options: Any) -> Corpus:
    path = Path(FOLDER or "") / file
    if not path.exists():
        pytest.skip(f"{path} is missing")
    return load_corpus(DataConfig(name=name, source=str(path), **options))


@pytest.fixture(scope="module")
def sst() -> Corpus:
    return load("sst", "trainDevTestTrees_PTB.zip")


@pytest.fixture(scope="module")
def movies() -> Corpus:
    return load("movies", "eraser/movies.tar.gz")


@pytest.fixture(scope="module")
def cose() -> Corpus:
    return load("cose", "eraser/cose.tar.gz")


@pytest.fixture(scope="module", params=["word-piece", "byte-level", "byte-level-trimmed", "unigram"])
def tokenizer(request: pytest.FixtureRequest, sst: Corpus) -> Any:
    """One of every kind; those that are trained are trained on real text."""
    texts = [instance.inputs[0].segments[0] for instance in sst.splits["dev"]]
    return {
        "word-piece": embedded,
        "byte-level": lambda: byte_level(trim_offsets=False, texts=texts, vocabulary=2000),
        "byte-level-trimmed": lambda: byte_level(trim_offsets=True, texts=texts, vocabulary=2000),
        "unigram": lambda: unigram(texts=texts, vocabulary=2000),
    }[request.param]()


def sizes(corpus: Corpus) -> list[int]:
    return [len(corpus.splits[split]) for split in ("train", "dev", "test")]


def test_sst_as_published(sst):
    assert sizes(sst) == [6920, 872, 1821]
    assert Counter(instance.label for instance in sst.splits["test"]) == {0: 912, 1: 909}
    texts = [instance.inputs[0] for split in sst.splits.values() for instance in split]
    assert all(text.gold for text in texts)
    assert all(text.segments[0] == text.segments[0].lower() for text in texts)
    assert not any(re.search(r"-[lr][rsc]b-|\\| {2}|^ | $", text.segments[0]) for text in texts)
    assert sum("\u00a0" in text.segments[0] for text in texts) > 0


def test_movies_as_published(movies):
    assert sizes(movies) == [1600, 200, 199]
    assert Counter(instance.label for instance in movies.splits["test"]) == {0: 100, 1: 99}
    without = [instance for split in movies.splits.values() for instance in split if instance.inputs[0].gold is None]
    assert len(without) == 1
    assert movies.notes == ("train: 1 of 1600 instances have no evidence", "test: 20 evidence spans are empty")


def test_cose_as_published(cose):
    assert sizes(cose) == [8752, 1086, 1079]
    assert Counter(instance.label for instance in cose.splits["test"]) == {0: 218, 1: 226, 2: 216, 3: 215, 4: 204}
    for instance in (instance for split in cose.splits.values() for instance in split):
        assert len({(text.segments[0], text.gold) for text in instance.inputs}) == 1
        assert all(len(text.segments) == 2 and text.gold for text in instance.inputs)
        assert not any("[sep]" in segment.lower() for text in instance.inputs for segment in text.segments)
    assert cose.notes == ()


def test_cose_is_limited_with_every_letter_kept():
    corpus = load("cose", "eraser/cose.tar.gz", limit=50)
    assert sizes(corpus) == [50, 50, 50]
    assert {instance.label for instance in corpus.splits["train"]} == {0, 1, 2, 3, 4}


def test_another_eraser_corpus_reads_from_docs_jsonl():
    corpus = load("eraser", "eraser/cose.tar.gz", labels=tuple("ABCDE"), limit=50)
    assert sizes(corpus) == [50, 50, 50]
    assert all(len(instance.inputs[0].segments) == 2 for instance in corpus.splits["dev"])


def words_of(text: str) -> tuple[np.ndarray, np.ndarray]:
    """For each character, and one place behind the last: the first word that ends behind it, the last begun before."""
    ahead, behind, word = np.zeros(len(text) + 1, dtype=int), np.zeros(len(text) + 1, dtype=int), -1
    for place, character in enumerate(text):
        begins = character not in " " and (place == 0 or text[place - 1] == " ")
        word += begins
        ahead[place], behind[place + 1] = word + (character == " "), word
    ahead[-1] = word + 1
    return ahead, behind


def assert_gold_words_are_the_gold_tokens(splits: Sequence[InstanceTable], tokenizer: Any) -> None:
    """Word by word: a gold word has a gold token, any other word has none, and no gold token lies elsewhere."""
    for instances in splits:
        split = encode_split(instances, tokenizer, max_length=1 << 20, truncation="head")
        assert not split.truncated.any()
        spans, gold, offsets = split.spans.numpy(), split.gold.numpy(), split.offsets.tolist()
        texts = [text for instance in instances for text in instance.inputs]
        assert len(split.has_gold) == len(texts) == split.choices * len(instances)
        for number in range(0, len(texts), split.choices):  # choices share text and gold, as tested above
            text = texts[number]
            ahead, behind = words_of(text.segments[0])
            wanted = {w for _, a, b in text.gold or () for w in range(ahead[a], behind[b] + 1)}
            part = slice(offsets[number], offsets[number + 1])
            segments, starts, ends = spans[part].T
            assert not gold[part][segments != 0].any()
            inside = (segments == 0) & (ends > starts)
            first, last = ahead[starts[inside]], behind[ends[inside]]
            assert np.all(last <= first)  # no token reaches from one word into another
            # A no-break space belongs to its word, but a token of nothing else has no part in a rationale.
            inked = np.cumsum([0, *(not character.isspace() for character in text.segments[0])])
            real, flags = inked[ends[inside]] > inked[starts[inside]], gold[part][inside]
            assert np.array_equal(first[real], last[real])
            assert not flags[~real].any()
            assert set(first[real & flags].tolist()) == wanted
            assert not wanted.intersection(first[real & ~flags].tolist())
            assert bool(split.has_gold[number]) == bool(wanted)


@pytest.mark.parametrize("name", ["sst", "movies", "cose"])
def test_every_gold_word_of_every_instance_is_found_again(name, tokenizer, request):
    splits = request.getfixturevalue(name).splits
    # Train is three or four times as large as the others together: with one tokenizer alone.
    chosen = ("train", "dev", "test") if request.node.callspec.params["tokenizer"] == "word-piece" else ("dev", "test")
    assert_gold_words_are_the_gold_tokens([splits[split] for split in chosen], tokenizer)


def test_words_of_by_hand():
    ahead, behind = words_of("ab c")
    assert ahead.tolist() == [0, 0, 1, 1, 2]
    assert behind.tolist() == [0, 0, 0, 0, 1]

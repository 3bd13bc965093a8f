import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers.tiny import make_split
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.data.batching import share
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.epochs import Epochs, gold_instances, gold_per_batch, keep_gold


def split_of(labels: list[int], has_gold: list[bool], *, choices: int = 1, lengths: list[int] | None = None):
    sizes = lengths or [3] * len(labels)
    rows = [[1] * size for size in sizes for _ in range(choices)]
    gold = [
        [False, has, *[False] * (len(row) - 2)] for has, row in zip(np.repeat(has_gold, choices), rows, strict=True)
    ]
    return make_split(rows, labels, gold, choices=choices)


def epochs_of(split: EncodedSplit, percent: float, **options) -> tuple[Epochs, tuple[int, ...]]:
    given_options = {"batch_size": 4, "seed": 0, "factor": 2.0, "group_by_length": False, **options}
    gold = gold_instances(split, percent, seed=0) if percent < 100 else ()
    return Epochs.from_split(split, gold=gold, **given_options), gold


@given(st.integers(1, 70), st.integers(1, 20), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_holds_every_instance_once_in_an_order_of_its_own(size, batch_size, seed, epoch):
    epochs = Epochs(size=size, batch_size=batch_size, seed=seed)
    batches = epochs.batches(epoch)
    assert sorted(number for batch in batches for number in batch) == list(range(size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert (len(batches), sum(map(len, batches))) == (epochs.steps, epochs.drawn)
    assert batches == epochs.batches(epoch)
    if size > 20:
        assert batches != epochs.batches(epoch + 1)
        assert batches != Epochs(size=size, batch_size=batch_size, seed=seed + 1).batches(epoch)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    size=st.integers(1, 90),
    percent=st.one_of(st.sampled_from([0.5, 1.0, 5.0, 10.0, 20.0, 100.0]), st.floats(0.01, 100)),
    factor=st.one_of(st.sampled_from([2.0, 4.0, 1.5]), st.floats(1.01, 40)),
    batch_size=st.integers(2, 33),
    epoch=st.integers(0, 3),
    grouped=st.booleans(),
)
def test_gold_batches_are_composed_as_the_paper_has_it(size, percent, factor, batch_size, epoch, grouped):
    split = split_of([number % 2 for number in range(size)], [True] * size, lengths=[2 + n % 7 for n in range(size)])
    epochs, gold = epochs_of(split, percent, batch_size=batch_size, factor=factor, group_by_length=grouped)
    batches = epochs.batches(epoch)

    # Written down once more from the definition, in integers.
    wanted = next(n for n in range(size + 1) if n * 100 >= Fraction(str(percent)) * size)
    if percent == 100 or wanted == size:
        assert sorted(number for batch in batches for number in batch) == list(range(size))
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    else:
        assert len(gold) == len(set(gold)) == wanted >= 1
        b_gold = min(wanted, max(1, max(n for n in range(batch_size + 1) if n * Fraction(str(factor)) <= batch_size)))
        rest = [number for number in range(size) if number not in gold]
        for batch in batches:
            drawn = [number for number in batch if number in gold]
            assert len(drawn) == len(set(drawn)) == b_gold
        others = [[number for number in batch if number not in gold] for batch in batches]
        assert sorted(number for part in others for number in part) == rest
        assert [len(part) for part in others[:-1]] == [batch_size - b_gold] * (len(others) - 1)
        assert 1 <= len(others[-1]) <= batch_size - b_gold
    assert (len(batches), sum(map(len, batches))) == (epochs.steps, epochs.drawn)
    for world in (1, 2, 3):
        for batch in batches:
            parts = [share(batch, rank, world) for rank in range(world)]
            assert [number for part in parts for number in part] == batch


def test_gold_batches_by_hand():
    """10 of 20 percent: two of ten; of a batch of 4, two have gold and two of the rest come with them."""
    split = split_of([0, 1] * 5, [True] * 10)
    epochs, gold = epochs_of(split, 20)
    assert len(gold) == 2
    assert {int(split.labels[number]) for number in gold} == {0, 1}
    assert epochs.gold_per_batch == 2
    assert [len(batch) for batch in epochs.batches(0)] == [4, 4, 4, 4]
    assert Counter(number for batch in epochs.batches(0) for number in batch)[gold[0]] == 4
    assert (epochs.steps, epochs.drawn) == (4, 16)
    one, _ = epochs_of(split, 1)
    assert [len(batch) for batch in one.batches(0)] == [4, 4, 4]
    assert (one.gold_per_batch, one.steps, one.drawn) == (1, 3, 12)


def test_gold_is_drawn_anew_for_every_batch_and_epoch():
    split = split_of([0, 1] * 30, [True] * 60)
    epochs, gold = epochs_of(split, 50, batch_size=8)
    drawn = [tuple(n for n in batch if n in gold) for epoch in range(4) for batch in epochs.batches(epoch)]
    assert len(set(drawn)) > len(drawn) * 0.9
    counts = Counter(number for each in drawn for number in each)
    assert set(counts) <= set(gold)
    assert len(counts) > 20


@pytest.mark.slow
@given(st.integers(1, 400), st.sampled_from(["0.5", "1", "5", "7", "10", "20", "33.3", "99.9"]))
def test_the_number_of_gold_instances_is_rounded_up_exactly(size, percent):
    split = split_of([0] * size, [True] * size)
    assert len(gold_instances(split, float(percent), seed=0)) == math.ceil(Fraction(percent) * size / 100)


def test_gold_instances_are_nested_stratified_and_only_those_that_have_a_rationale():
    labels, has_gold = [0, 0, 0, 1] * 25, [number % 5 > 0 for number in range(100)]
    split = split_of(labels, has_gold, choices=2)
    previous: set[int] = set()
    for percent in (0.5, 1, 5, 10, 20, 60, 79):
        gold = gold_instances(split, percent, seed=3)
        assert len(gold) == math.ceil(percent)
        assert list(gold) == sorted(gold)
        assert all(has_gold[number] for number in gold)
        assert previous <= set(gold)
        previous = set(gold)
        assert sum(labels[number] for number in gold) == pytest.approx(len(gold) / 4, abs=1)
    assert gold_instances(split, 95, seed=3) == tuple(np.flatnonzero(has_gold).tolist())
    assert gold_instances(split, 10, seed=3) != gold_instances(split, 10, seed=4)
    assert gold_instances(split_of([0, 1], [False, False]), 50, seed=0) == ()


def test_without_any_gold_rationale_batches_are_ordinary():
    epochs, gold = epochs_of(split_of([0, 1] * 4, [False] * 8), 50)
    assert (gold, epochs.gold, epochs.steps) == ((), None, 2)


def test_only_the_chosen_keep_their_rationale():
    split = split_of([0, 1, 0], [True, True, True], choices=2, lengths=[3, 5, 4])
    kept = keep_gold(split, [1])
    assert kept.has_gold.tolist() == [False, False, True, True, False, False]
    assert kept.gold.nonzero().flatten().tolist() == [7, 12]
    assert split.has_gold.all()
    assert torch.equal(kept.input_ids, split.input_ids)
    assert keep_gold(split, ()).gold.sum() == 0


@pytest.mark.parametrize(
    ("gold", "batch", "factor", "expected"),
    [(35, 32, 2, 16), (3, 32, 2, 3), (35, 3, 2, 1), (35, 2, 5, 1), (35, 10, 3.3, 3), (1, 2, 2, 1)],
)
def test_gold_per_batch_by_hand(gold, batch, factor, expected):
    assert gold_per_batch(gold, batch, factor) == expected


def test_batches_of_like_length_hold_less_padding_and_still_come_in_another_order():
    lengths = np.random.default_rng(0).integers(2, 60, 1000).tolist()
    split = split_of([0] * 1000, [True] * 1000, lengths=lengths)
    plain, _ = epochs_of(split, 100, batch_size=16)
    grouped, _ = epochs_of(split, 100, batch_size=16, group_by_length=True)

    def padding(batches):
        return sum(max(lengths[n] for n in batch) * len(batch) for batch in batches) - sum(lengths)

    assert padding(grouped.batches(0)) < padding(plain.batches(0)) / 5
    assert sorted(n for batch in grouped.batches(0) for n in batch) == list(range(1000))
    assert [len(batch) for batch in grouped.batches(0)] == [16] * 62 + [8]
    assert {frozenset(b) for b in grouped.batches(0)} != {frozenset(b) for b in grouped.batches(1)}
    means = [np.mean([lengths[n] for n in batch]) for batch in grouped.batches(0)]
    assert means != sorted(means)

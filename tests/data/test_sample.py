import math
from collections import Counter
from fractions import Fraction
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.data.sample import partition, stratified_sample

label_lists = st.lists(st.integers(0, 5), min_size=1, max_size=120)


@settings(deadline=None)
@given(label_lists, st.integers(0, 5))
def test_samples_are_nested_balanced_and_in_order(labels, seed):
    total, previous = len(labels), set()
    counts = Counter(labels)
    for size in range(1, total + 3):
        drawn = stratified_sample(labels, size, seed=seed)
        assert len(drawn) == min(size, total)
        assert list(drawn) == sorted(set(drawn))
        assert previous <= set(drawn)
        previous = set(drawn)
        sampled = Counter(labels[index] for index in drawn)
        for label, count in counts.items():
            share = min(size, total) * count / total
            assert math.floor(share) <= sampled[label] <= math.ceil(share)


def test_shares_hold_where_rounding_alone_would_break_them():
    # Rounding each label's share (largest remainder or divisors) leaves its bounds for one large and many small labels.
    labels = [0] * 60 + list(range(1, 41))
    for size in range(1, 100):
        zeros = sum(labels[index] == 0 for index in stratified_sample(labels, size, seed=1))
        assert abs(zeros - 0.6 * size) < 1


def test_the_seed_decides():
    labels = [0, 1] * 100
    assert stratified_sample(labels, 50, seed=3) == stratified_sample(labels, 50, seed=3)
    assert stratified_sample(labels, 50, seed=3) != stratified_sample(labels, 50, seed=4)


def test_a_literal_guards_published_samples():
    assert stratified_sample([0, 0, 1, 0, 1, 1, 0, 0, 1, 0], 4, seed=0) == (0, 1, 2, 9)


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.lists(st.integers(0, 5), max_size=120), st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 5)
)
def test_parts_hold_every_instance_once_in_order_and_in_proportion(labels, shares, seed):
    total, counts = len(labels), Counter(labels)
    parts = partition(labels, shares, seed=seed)
    assert len(parts) == len(shares)
    assert sorted(chain.from_iterable(parts)) == list(range(total))
    assert all(list(part) == sorted(part) for part in parts)
    assert partition(labels, shares, seed=seed) == parts

    exact = [Fraction(share * total, sum(shares)) for share in shares]
    above = [len(part) - math.floor(size) for part, size in zip(parts, exact, strict=True)]
    assert set(above) <= {0, 1}
    rounded_up = [size % 1 for size, one in zip(exact, above, strict=True) if one]
    rounded_down = [size % 1 for size, one in zip(exact, above, strict=True) if not one]
    assert min(rounded_up, default=1) >= max(rounded_down, default=0)

    for number, part in enumerate(parts):
        within = 1 if number in (0, len(parts) - 1) else 2
        found = Counter(labels[index] for index in part)
        assert all(abs(found[label] - Fraction(len(part) * counts[label], total)) < within for label in counts)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 4))
def test_shares_that_sum_up_are_the_sizes(shares, labels):
    parts = partition([index % labels for index in range(sum(shares))], shares, seed=0)
    assert [len(part) for part in parts] == shares


@pytest.mark.parametrize(
    ("total", "shares", "sizes"),
    [
        (0, (8, 1, 1), [0, 0, 0]),
        (1, (8, 1, 1), [1, 0, 0]),
        (5, (8, 1, 1), [4, 1, 0]),
        (19, (8, 1, 1), [15, 2, 2]),
        (100, (8, 1, 1), [80, 10, 10]),
        (7, (10_000, 2_000), [6, 1]),
        (10_703, (7_773, 963, 1_967), [7_773, 963, 1_967]),
    ],
)
def test_what_rounding_leaves_goes_to_the_largest_remainders(total, shares, sizes):
    assert [len(part) for part in partition([0] * total, shares, seed=0)] == sizes


def test_the_seed_decides_the_parts_but_not_their_counts():
    labels = [0, 0, 1] * 50
    one, other = (partition(labels, (8, 1, 1), seed=seed) for seed in (3, 4))
    assert one != other
    assert [sum(labels[index] for index in part) for part in one] == [40, 5, 5]
    assert [sum(labels[index] for index in part) for part in other] == [40, 5, 5]


def test_a_literal_guards_published_parts():
    assert partition([0, 0, 1, 0, 1, 1, 0, 0, 1, 0], (3, 1, 1), seed=0) == ((3, 4, 5, 6, 7, 8), (1, 9), (0, 2))

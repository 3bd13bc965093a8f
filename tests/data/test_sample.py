import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.data.sample import stratified_sample

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

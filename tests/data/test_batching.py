import pytest
import torch
from helpers.tiny import make_split
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.data.batching import collate, micro_batches, share, sorted_chunks
from unirex_ray.data.encoded import SpecialTokens

TOKENS = SpecialTokens(pad_id=0, sep_id=3)


def test_collate_by_hand():
    split = make_split(
        [[2, 7, 3], [2, 8, 9, 3, 5, 3], [2, 3]],
        [1, 0, 1],
        gold=[[False, True, False], [False] * 6, [False, False]],
        types=[[0] * 3, [0, 0, 0, 0, 1, 1], [0, 0]],
    )
    batch = collate(split, [1, 0], TOKENS)
    assert batch.input_ids.tolist() == [[2, 8, 9, 3, 5, 3], [2, 7, 3, 0, 0, 0]]
    assert batch.token_types.tolist() == [[0, 0, 0, 0, 1, 1], [0] * 6]
    assert batch.lengths.tolist() == [6, 3]
    assert batch.labels.tolist() == [0, 1]
    assert batch.gold.tolist() == [[False] * 6, [False, True, False, False, False, False]]
    assert batch.has_gold.tolist() == [False, True]
    assert batch.attended.tolist() == [[True] * 6, [True] * 3 + [False] * 3]
    assert batch.separators.nonzero().tolist() == [[0, 3], [0, 5], [1, 2]]
    assert batch.rows == 2
    assert batch.to(torch.device("cpu")) is batch


def test_padding_is_no_separator_where_both_have_one_id():
    split = make_split([[2, 7, 8, 3], [2, 3]], [0, 1])
    batch = collate(split, [0, 1], SpecialTokens(pad_id=3, sep_id=3))
    assert batch.separators.nonzero().tolist() == [[0, 3], [1, 1]]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_of_several_choices_come_back(data):
    choices, size = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 5))
    ids = st.lists(st.integers(1, 50), min_size=1, max_size=9)
    rows = data.draw(st.lists(ids, min_size=size * choices, max_size=size * choices))
    gold = [[data.draw(st.booleans()) for _ in row] for row in rows]
    split = make_split(rows, list(range(size)), gold, choices=choices)
    instances = data.draw(st.permutations(range(size)))[: data.draw(st.integers(1, size))]
    batch = collate(split, instances, TOKENS)
    wanted = [instance * choices + choice for instance in instances for choice in range(choices)]
    assert batch.labels.tolist() == list(instances)
    assert batch.rows == len(wanted)
    for place, number in enumerate(wanted):
        length = int(batch.lengths[place])
        assert batch.input_ids[place, :length].tolist() == rows[number]
        assert batch.gold[place, :length].tolist() == gold[number]
        assert batch.input_ids[place, length:].eq(0).all()
        assert not batch.gold[place, length:].any()
        assert bool(batch.has_gold[place]) == any(gold[number])


@given(st.lists(st.integers(), max_size=40), st.integers(1, 9))
def test_shares_are_contiguous_even_and_complete(instances, world):
    parts = [share(instances, rank, world) for rank in range(world)]
    assert [number for part in parts for number in part] == instances
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(), max_size=20), st.one_of(st.none(), st.integers(1, 9)))
def test_micro_batches_hold_everything_and_no_more_than_asked(instances, size):
    parts = micro_batches(instances, size)
    assert [number for part in parts for number in part] == instances
    assert all(part for part in parts)
    if size is None:
        assert len(parts) == bool(instances)
    else:
        assert all(len(part) <= size for part in parts)


@pytest.mark.parametrize("choices", [1, 2])
def test_evaluation_chunks_fall_in_length(choices):
    rows = [[1] * length for length in (3, 9, 4, 4, 12, 1, 5, 2)]
    split = make_split(rows, [0] * (8 // choices), choices=choices)
    chunks = sorted_chunks(split, range(len(split)), 3)
    order = [number for chunk in chunks for number in chunk]
    assert order == {1: [4, 1, 6, 2, 3, 0, 7, 5], 2: [2, 0, 3, 1]}[choices]
    assert all(len(chunk) <= 3 for chunk in chunks)
    assert sorted_chunks(split, [], 3) == []

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.models.top_k import (
    keep_complement,
    keep_rationale,
    row_rationale,
    selection_size,
    selection_sizes,
    token_ranks,
)


def naive_size(candidates: int, percent: int) -> int:
    return min(candidates, max(1, round(Fraction(candidates * percent, 100))))  # Fraction rounds .5 to even


def naive_rationale(scores: list[float], percent: int) -> set[int]:
    """r^(k) of one row without padding, CLS first."""
    order = sorted(range(1, len(scores)), key=lambda index: (-scores[index], index))
    return {0, *order[: naive_size(len(scores) - 1, percent)]}


@pytest.mark.parametrize(
    ("candidates", "percent", "size"),
    [
        (1, 1, 1),
        (1, 50, 1),
        (1, 100, 1),
        (10, 5, 1),  # 0.5 is rounded to 0, then raised to 1
        (30, 5, 2),  # 1.5 to 2
        (50, 5, 2),  # 2.5 to 2
        (70, 5, 4),  # 3.5 to 4
        (3, 50, 2),
        (5, 50, 2),
        (7, 50, 4),
        (49, 1, 1),
        (149, 1, 1),
        (150, 1, 2),
        (250, 1, 2),
        (251, 1, 3),
        (511, 20, 102),
        (10, 100, 10),
        (0, 50, 0),
    ],
)
def test_sizes_by_hand(candidates, percent, size):
    assert selection_size(candidates, percent) == size
    assert selection_sizes(np.array([candidates + 1]), [percent]).tolist() == [[size]]


@given(st.lists(st.integers(1, 1200), min_size=1, max_size=8), st.lists(st.integers(1, 100), min_size=1, max_size=6))
def test_sizes_are_those_of_exact_fractions(lengths, percents):
    sizes = selection_sizes(np.array(lengths), percents)
    naive = [[naive_size(length - 1, percent) for length in lengths] for percent in percents]
    assert sizes.tolist() == naive
    assert [[selection_size(length - 1, percent) for length in lengths] for percent in percents] == naive


@given(st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=40), st.integers(1, 100))
def test_a_rows_rationale_is_the_naive_one_without_cls(scores, percent):
    marked = row_rationale(torch.tensor(scores), percent)
    assert {index for index, inside in enumerate(marked) if inside} == naive_rationale(scores, percent) - {0}


def test_ranks_by_hand():
    scores = torch.tensor(
        [
            [9.0, 1.0, 3.0, 1.0, 3.0, 2.0],  # CLS is the highest and does not compete; the last token, SEP, does
            [-9.0, -1.0, -2.0, 7.0, 7.0, 7.0],  # padding behind three tokens is the highest
        ]
    )
    ranks = token_ranks(scores, torch.tensor([6, 3]))
    assert ranks.tolist() == [[6, 3, 0, 4, 1, 2], [6, 0, 1, 6, 6, 6]]


def test_both_sides_by_hand():
    ranks = token_ranks(torch.tensor([[0.0, 5.0, 5.0, -1.0, 9.0, 0.0]]), torch.tensor([5]))
    sizes = torch.tensor([2])
    assert keep_rationale(ranks, sizes).tolist() == [[True, True, False, False, True, False]]
    assert keep_complement(ranks, sizes, torch.tensor([5])).tolist() == [[True, False, True, True, False, False]]


def test_sep_can_be_chosen_and_cls_never_counts():
    ranks = token_ranks(torch.tensor([[100.0, 0.0, 1.0]]), torch.tensor([3]))
    assert keep_rationale(ranks, torch.tensor([1])).tolist() == [[True, False, True]]


def test_a_row_of_cls_alone_keeps_it_on_both_sides():
    lengths = torch.tensor([1, 3])
    ranks = token_ranks(torch.zeros(2, 3), lengths)
    sizes = torch.from_numpy(selection_sizes(lengths.numpy(), [50])[0])
    assert keep_rationale(ranks, sizes)[0].tolist() == [True, False, False]
    assert keep_complement(ranks, sizes, lengths)[0].tolist() == [True, False, False]


@st.composite
def scored_rows(draw):
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    few = st.sampled_from([-1.5, -0.0, 0.0, 0.25, 3.0])  # ties, and both zeros
    score = draw(st.sampled_from([few, st.floats(-(2.0**90), 2.0**90, width=32)]))
    return [draw(st.lists(score, min_size=length, max_size=length)) for length in lengths]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(scored_rows(), st.integers(1, 100), st.integers(0, 3))
def test_selection_is_that_of_a_loop_over_rows(rows, percent, padding):
    width = max(len(row) for row in rows) + padding
    scores = torch.tensor([row + [1e38] * (width - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    ranks = token_ranks(scores, lengths)
    sizes = torch.from_numpy(selection_sizes(lengths.numpy(), [percent])[0])
    inside, outside = keep_rationale(ranks, sizes), keep_complement(ranks, sizes, lengths)
    for number, row in enumerate(rows):
        expected = naive_rationale(row, percent)
        assert set(inside[number].nonzero().flatten().tolist()) == expected
        assert set(outside[number].nonzero().flatten().tolist()) == {0, *(set(range(len(row))) - expected)}


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(scored_rows())
def test_rationales_grow_with_k(rows):
    for row in rows:
        scores, lengths = torch.tensor([row]), torch.tensor([len(row)])
        ranks = token_ranks(scores, lengths)
        all_sizes = torch.from_numpy(selection_sizes(lengths.numpy(), [1, 5, 10, 20, 50, 100]))
        kept = [keep_rationale(ranks, sizes)[0] for sizes in all_sizes]
        assert all(bool((smaller <= larger).all()) for smaller, larger in pairwise(kept))
        assert bool(kept[-1].all())

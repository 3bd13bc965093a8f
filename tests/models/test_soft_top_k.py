"""The relaxed selection: against a naive solution, finite differences and numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unirex_ray.models.soft_top_k import soft_top_k, straight_through


def naive_degrees(scores: list[float], size: int) -> list[float]:
    """Of one row's candidates: sigmoid(s - v) with the v, found by halving, whose sum is `size`."""
    low, high = min(scores) - 50, max(scores) + 50
    for _ in range(200):
        middle = (low + high) / 2
        if sum(1 / (1 + math.exp(middle - score)) for score in scores) > size:
            low = middle
        else:
            high = middle
    return [1 / (1 + math.exp(low - score)) for score in scores]


@st.composite
def rows(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Scores with ties, sizes from 0 for a row of CLS alone to all candidates, and lengths."""
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=3))
    scores = torch.zeros(len(lengths), max(lengths), dtype=torch.float64)
    for row, length in enumerate(lengths):
        values = draw(st.lists(st.integers(-8, 8), min_size=length, max_size=length))
        scores[row, :length] = torch.tensor(values, dtype=torch.float64) / 2
    sizes = [draw(st.integers(min(1, length - 1), length - 1)) for length in lengths]
    return scores, torch.tensor(sizes), torch.tensor(lengths)


@given(rows())
def test_degrees_are_the_naive_ones_and_sum_to_the_size(problem):
    scores, sizes, lengths = problem
    degrees = soft_top_k(scores, sizes, lengths)
    for row, (size, length) in enumerate(zip(sizes.tolist(), lengths.tolist(), strict=True)):
        candidates = degrees[row, 1:length]
        assert not degrees[row, 0]
        assert not degrees[row, length:].any()
        assert float(candidates.sum()) == pytest.approx(size, abs=1e-9)
        if 0 < size < length - 1:
            assert candidates.tolist() == pytest.approx(naive_degrees(scores[row, 1:length].tolist(), size), abs=1e-9)


@pytest.mark.slow
@settings(max_examples=40)
@given(rows())
def test_the_gradient_is_that_of_finite_differences(problem):
    scores, sizes, lengths = problem
    leaf = scores.requires_grad_()
    torch.autograd.gradcheck(lambda given: soft_top_k(given, sizes, lengths), leaf, atol=1e-6)
    degrees = soft_top_k(leaf, sizes, lengths)
    (gradient,) = torch.autograd.grad((degrees * torch.arange(scores.shape[1])).sum(), leaf)
    assert gradient.sum(1).abs().max() < 1e-12  # what one token wins, others lose


def test_four_tokens_by_hand():
    """CLS and three candidates, of which one is selected: odds of 1/3, 1/3 and 1 make the sum 1/4 + 1/4 + 1/2.

    Their slopes are 3/16, 3/16 and 1/4, together 5/8; of the last degree, the first candidate's share in the gradient
    is -3/16 1/4 / (5/8), and its own is what the others lose.
    """
    scores = torch.tensor([[9.0, 0.0, 0.0, math.log(3.0)]], dtype=torch.float64, requires_grad=True)
    degrees = soft_top_k(scores, torch.tensor([1]), torch.tensor([4]))
    assert degrees[0].tolist() == pytest.approx([0.0, 0.25, 0.25, 0.5])
    (gradient,) = torch.autograd.grad(degrees[0, 3], scores)
    assert gradient[0].tolist() == pytest.approx([0.0, -0.075, -0.075, 0.15])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e30])
def test_scores_of_any_scale_have_a_finite_gradient(scale):
    scores = (torch.tensor([[0.0, 3.0, -2.0, 1.0, 1.0, 0.0]]) * scale).requires_grad_()
    for size in (1, 2, 3, 4, 5):
        degrees = soft_top_k(scores, torch.tensor([size]), torch.tensor([6]))
        if scale < 1e30:  # float32 knows no threshold that would part equal scores
            assert float(degrees.sum().detach()) == pytest.approx(size, abs=1e-4)
        (gradient,) = torch.autograd.grad((degrees * torch.arange(6)).sum(), scores)
        assert gradient.isfinite().all()


def test_the_straight_way_has_the_numbers_of_one_and_the_gradient_of_the_other():
    kept, relaxed = torch.tensor([True, False, True]), torch.tensor([0.3, 0.6, 0.1], requires_grad=True)
    numbers = straight_through(kept, relaxed)
    assert numbers.tolist() == [1.0, 0.0, 1.0]
    (gradient,) = torch.autograd.grad((numbers * torch.tensor([2.0, 3.0, 5.0])).sum(), relaxed)
    assert gradient.tolist() == [2.0, 3.0, 5.0]

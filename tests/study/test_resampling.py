"""Annotators and instances drawn anew: as written out, and how often the intervals hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.study import resampling
from unirex_ray.study.design import assign
from unirex_ray.study.resampling import draw_means, stretched


def naive(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """One answer after the other, with the same random numbers."""
    annotators, instances, conditions = values.shape
    random = np.random.default_rng(seed)
    of_instances = random.multinomial(instances, np.full(instances, 1 / instances), size=draws)
    of_people = random.multinomial(max(1, annotators - 1), np.full(annotators, 1 / annotators), size=draws)
    found = np.full((draws, conditions), np.nan)
    for draw in range(draws):
        for condition in range(conditions):
            means = []
            for annotator in range(annotators):
                own = [
                    values[annotator, instance, condition]
                    for instance in range(instances)
                    for _ in range(of_instances[draw, instance])
                    if not np.isnan(values[annotator, instance, condition])
                ]
                means += [np.mean(own)] * of_people[draw, annotator] if own else []
            if means:
                found[draw, condition] = np.mean(means)
    return found


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(0, 9))
def test_draws_are_as_written_out(annotators, instances, conditions, seed):
    random = np.random.default_rng(seed)
    values = random.normal(size=(annotators, instances, conditions))
    values[random.uniform(size=values.shape) < 0.3] = np.nan
    np.testing.assert_allclose(draw_means(values, draws=20, seed=seed), naive(values, 20, seed))


def test_blocks_change_nothing_but_the_random_numbers(monkeypatch):
    values = np.random.default_rng(0).normal(size=(5, 30, 2))
    whole = draw_means(values, draws=2000)
    monkeypatch.setattr(resampling, "_BLOCK_VALUES", 3000)
    blocks = draw_means(values, draws=2000)
    assert blocks.shape == whole.shape
    np.testing.assert_allclose(blocks.std(0), whole.std(0), rtol=0.1)


def test_draws_are_stretched_as_far_as_annotators_are_few():
    drawn = np.array([-1.0, 1.0, np.nan, -1.0, 1.0])  # variance 1
    # All spread is of two annotators: t with one degree of freedom, 12.706, over 1.960.
    np.testing.assert_allclose(stretched(drawn, 0.0, np.array([-1.0, 1.0, np.nan]))[:2], [-6.4829, 6.4829], rtol=1e-4)
    # The means of five annotators have variance 2.5, and theirs 0.5: 4 / 0.5 ** 2 = 16 degrees, 2.1199 over 1.960.
    of_five = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    np.testing.assert_allclose(stretched(drawn, 0.5, of_five)[1], 0.5 + 0.5 * 2.1199 / 1.95996, rtol=1e-4)
    for alone in (np.array([1.0]), np.array([1.0, np.nan]), np.array([1.0, 1.0])):
        np.testing.assert_allclose(stretched(drawn, 0.0, alone), drawn)


@pytest.mark.slow
@pytest.mark.parametrize(("annotators", "raters"), [(5, 2), (5, 5), (8, 2)])
@pytest.mark.parametrize(
    ("annotator", "condition", "instance", "noise"),
    [(0.3, 0.0, 0.5, 0.8), (0.7, 0.0, 0.3, 0.6), (0.5, 0.5, 0.3, 0.6), (0.0, 0.0, 0.8, 0.6), (0.0, 0.0, 0.0, 1.0)],
)
def test_intervals_hold_the_truth(annotators, raters, annotator, condition, instance, noise):
    """Annotators who are milder or stricter, to some conditions too, easier and harder instances, and what is random in
    each answer."""
    random, held, differ = np.random.default_rng(1), [], []
    for number in range(200):
        values = np.full((annotators, 50, 6), np.nan)
        for row, pairs in enumerate(assign(annotators, 50, 6, raters=raters, seed=str(number))):
            for one, column in pairs:
                values[row, one, column] = noise * random.normal()
        values += annotator * random.normal(size=(annotators, 1, 1)) + instance * random.normal(size=(1, 50, 1))
        values += condition * random.normal(size=(annotators, 1, 6))
        drawn, means = draw_means(values, draws=500, seed=number), np.nanmean(values, axis=1)
        for column in range(6):
            held.append(_holds_zero(drawn[:, column], means[:, column]))
        differ.append(_holds_zero(drawn[:, 0] - drawn[:, 1], means[:, 0] - means[:, 1]))
    assert np.mean(held) >= 0.93
    assert np.mean(differ) >= 0.93


def _holds_zero(drawn: np.ndarray, of_annotators: np.ndarray) -> bool:
    low, high = np.nanquantile(stretched(drawn, of_annotators.mean(), of_annotators), (0.025, 0.975))
    return bool(low <= 0 <= high)

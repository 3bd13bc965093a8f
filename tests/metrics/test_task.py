import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from unirex_ray.metrics.task import TASK_SCORES, accuracy, binary_f1, confusion_matrix, macro_f1, score_error


def test_by_hand():
    confusion = confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2)
    assert confusion.tolist() == [[1, 1], [0, 2]]
    assert accuracy(confusion) == 0.75
    assert macro_f1(confusion) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert binary_f1(confusion) == pytest.approx(4 / 5)
    assert binary_f1(np.array([[3.0, 0.0], [0.0, 0.0]])) == 0.0


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.integers(2, 5), st.data())
def test_scikit_learn_gives_the_same(classes, data):
    pairs = st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1))
    gold, predicted = zip(*data.draw(st.lists(pairs, min_size=1, max_size=20)), strict=True)
    confusion = confusion_matrix(np.array(gold), np.array(predicted), classes)
    assert confusion.shape == (classes, classes)
    assert accuracy(confusion) == pytest.approx(accuracy_score(gold, predicted))
    assert macro_f1(confusion) == pytest.approx(f1_score(gold, predicted, average="macro", zero_division=0))
    if classes == 2:
        assert binary_f1(confusion) == pytest.approx(f1_score(gold, predicted, average="binary", zero_division=0))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=20))
def test_matrices_add_up(pairs):
    gold, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    parts = confusion_matrix(gold[:1], predicted[:1], 3) + confusion_matrix(gold[1:], predicted[1:], 3)
    assert np.array_equal(parts, confusion_matrix(gold, predicted, 3))


def test_the_standard_error_of_accuracy_is_the_binomial_one():
    assert score_error(accuracy, np.array([[30.0, 10.0], [10.0, 50.0]])) == pytest.approx((0.8 * 0.2 / 100) ** 0.5)
    assert score_error(accuracy, np.array([[3.0, 0.0], [0.0, 7.0]])) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("metric", TASK_SCORES)
@pytest.mark.parametrize(
    "counts", [[[60, 40], [30, 170]], [[20, 80], [10, 190]], [[90, 9, 6], [8, 60, 12], [3, 9, 103]]]
)
def test_drawing_instances_again_spreads_a_score_as_far_as_its_standard_error(metric, counts):
    score, confusion = TASK_SCORES[metric], np.array(counts, dtype=float)
    shares = (confusion / confusion.sum()).flatten()
    draws = np.random.default_rng(0).multinomial(int(confusion.sum()), shares, size=4000)
    spread = np.std([float(score(draw.reshape(confusion.shape))) for draw in draws])
    assert score_error(score, confusion) == pytest.approx(spread, rel=0.06)

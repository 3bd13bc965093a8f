import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, f1_score, precision_recall_curve

from unirex_ray.metrics.plausibility import auprc, token_f1


def flags(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


def test_auprc_by_hand():
    # Thresholds 3, 2, 1: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1; between them the trapezoid.
    assert auprc(np.array([3.0, 2.0, 1.0]), flags("101")) == pytest.approx(0.5 + 0.5 * (1 / 2 + 2 / 3) / 2)
    assert auprc(np.array([3.0, 2.0, 1.0]), flags("110")) == 1.0
    # One threshold for all: precision 1/4 at recall 1, and the curve's first point (0, 1).
    assert auprc(np.zeros(4), flags("0100")) == pytest.approx(0.625)


def test_auprc_is_not_average_precision():
    scores, gold = np.array([3.0, 2.0, 1.0]), flags("011")
    assert auprc(scores, gold) != pytest.approx(average_precision_score(gold, scores))


def test_token_f1_by_hand():
    # in the rationale: 1 hit, 1 false alarm, 1 miss, F1 = 1/2; outside: 2 hits, 1 false alarm, 1 miss, F1 = 2/3
    assert token_f1(np.array([0.1, 2.0, 0.0, -1.0, -2.0]), flags("10100")) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert token_f1(np.array([1.0, -1.0]), flags("10")) == 1.0
    assert token_f1(np.array([-1.0, 1.0]), flags("10")) == 0.0


def test_a_score_of_zero_is_not_in_the_rationale():
    assert token_f1(np.array([0.0, 0.0]), flags("10")) == pytest.approx(token_f1(np.array([-1.0, -1.0]), flags("10")))


@st.composite
def rows(draw):
    size = draw(st.integers(2, 30))
    ties = st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.5, 1e-30, 7.0])
    score = draw(st.sampled_from([ties, st.floats(-1e6, 1e6), st.just(0.0)]))
    scores = np.array(draw(st.lists(score, min_size=size, max_size=size)))
    gold = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    gold[draw(st.integers(1, size - 1))] = True
    gold[0] = False  # CLS
    return scores, gold


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(rows())
def test_auprc_is_scikit_learns(row):
    scores, gold = row
    precision, recall, _ = precision_recall_curve(gold, scores)
    assert auprc(scores, gold) == pytest.approx(auc(recall, precision), abs=1e-12)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(rows())
def test_token_f1_is_scikit_learns(row):
    scores, gold = row
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = f1_score(gold, scores > 0, average="macro")
    assert token_f1(scores, gold) == pytest.approx(expected, abs=1e-12)

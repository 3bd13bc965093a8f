import numpy as np
import pytest
from helpers.marks import slow
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from unirex_ray.data.schema import TaskMetric
from unirex_ray.metrics.task import TASK_SCORES
from unirex_ray.metrics.verdict import better_than_majority, majority_p, majority_score, verdict

DEAD = np.array([[[30.0, 0.0], [30.0, 0.0]]])
"""60 instances, all predicted to be of the first class."""


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "binary_f1"])
def test_a_model_that_predicts_one_class_has_learned_nothing(metric):
    found = verdict(DEAD, metric)
    assert found["top_prediction"] == 1.0
    assert found["majority_p"] > 0.5
    assert better_than_majority(found) is False


def test_by_hand():
    # 8 of 10 right, where the majority class has 6 of 10: P(X >= 8) = 0.12093 + 0.04031 + 0.00605.
    confusion = np.array([[[5.0, 1.0], [1.0, 3.0]]])
    found = verdict(confusion, "accuracy")
    assert found["majority_score"] == pytest.approx(60.0)
    assert found["majority_p"] == pytest.approx(0.16729, abs=1e-5)
    assert found["top_prediction"] == pytest.approx(0.6)
    assert majority_score(confusion[0], "macro_f1") == pytest.approx((2 * 6 / 16 + 0) / 2)
    assert majority_score(confusion[0], "binary_f1") == 0.0


def test_what_no_trial_of_earlier_versions_recorded_is_not_known():
    assert better_than_majority({"task_score": 50.0}) is None
    assert better_than_majority({"majority_p": 0.05}) is True


@pytest.mark.slow
def test_of_several_inputs_the_mean_counts():
    good, poor = np.array([[40.0, 10.0], [10.0, 40.0]]), np.array([[25.0, 25.0], [25.0, 25.0]])
    both = np.stack([good, poor])
    expected = binomtest((80 + 50) // 2, 100, 0.5, alternative="greater").pvalue
    assert majority_p(both, "accuracy") == pytest.approx(expected)
    assert (
        majority_p(good[None], "macro_f1") < majority_p(both, "macro_f1") <= 0.05 < majority_p(poor[None], "macro_f1")
    )
    assert verdict(both, "accuracy")["top_prediction"] == 0.5


@pytest.mark.parametrize(("metric", "average"), slow(("macro_f1", "macro"), ("binary_f1", "binary")))
def test_shuffled_predictions_give_the_same_p(metric, average):
    rng = np.random.default_rng(3)
    gold = rng.random(80) < 0.3
    predicted = np.where(rng.random(80) < 0.2, gold, rng.random(80) < 0.4)
    observed = f1_score(gold, predicted, average=average)
    shuffled = [f1_score(gold, rng.permutation(predicted), average=average) for _ in range(1000)]
    expected = np.mean(np.array(shuffled) >= observed)
    confusion = np.array([[[np.sum((gold == g) & (predicted == p)) for p in (0, 1)] for g in (0, 1)]]).astype(float)
    assert 0.005 < expected < 0.2
    assert majority_p(confusion, metric) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("metric", ["accuracy", *slow("macro_f1")])
def test_a_model_that_guesses_rarely_passes(metric):
    rng = np.random.default_rng(0)
    passes = 0
    for _ in range(80):
        gold, predicted = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
        confusion = np.array([[[np.sum((gold == g) & (predicted == p)) for p in (0, 1)] for g in (0, 1)]]).astype(float)
        passes += bool(better_than_majority(verdict(confusion, metric)))
    assert passes <= 10  # 5 % of 80 is 4


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=3, max_size=3), st.data())
def test_every_p_is_a_probability(counts, data):
    confusion = np.array([counts]).astype(float)
    if confusion.sum() == 0:
        return
    found = verdict(confusion, data.draw(st.sampled_from(["accuracy", "macro_f1"])))
    assert 0 <= found["majority_p"] <= 1
    assert 1 / 3 <= found["top_prediction"] <= 1


@pytest.mark.parametrize("matrix", [[[35, 55], [0, 10]], [[400, 500], [20, 80]]])
def test_f1_that_depends_on_the_instances_and_is_below_the_majoritys_is_not_better(matrix: list[list[int]]) -> None:
    confusion = np.array([matrix], dtype=float)
    found = verdict(confusion, "macro_f1")
    score = 100 * float(TASK_SCORES["macro_f1"](confusion[0]))
    assert found["majority_p"] < 0.05
    assert score < found["majority_score"]
    assert better_than_majority({**found, "task_score": score}) is False
    assert better_than_majority({**found, "task_score": found["majority_score"]}) is False
    assert better_than_majority({**found, "task_score": found["majority_score"] + 0.1}) is True


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "binary_f1"])
@pytest.mark.parametrize("matrix", [[[0, 0], [10, 30]], [[0, 0], [0, 40]], [[30, 10], [0, 0]], [[40, 0], [0, 0]]])
def test_with_one_gold_class_nothing_is_better_than_it(metric: TaskMetric, matrix: list[list[int]]) -> None:
    assert majority_p(np.array([matrix], dtype=float), metric) == 1.0

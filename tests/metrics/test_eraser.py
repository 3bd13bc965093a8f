"""How ERASER's scorer (DeYoung et al. 2020, rationale_benchmark/metrics.py) differs, as the README of metrics says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from unirex_ray.metrics.faithfulness import aopc, confidence_drop
from unirex_ray.metrics.plausibility import auprc, token_f1

ERASER_THRESHOLDS = 5  # 0.01, 0.05, 0.1, 0.2 and 0.5


def eraser_aopc(full: list[float], perturbed: list[list[float]]) -> float:
    """Mean over the thresholds of what the predicted class loses; class probabilities, by threshold."""
    predicted = int(np.argmax(full))
    return float(np.mean([full[predicted] - part[predicted] for part in perturbed]))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 4), st.integers(0, 2**31))
def test_its_faithfulness_is_six_fifths_of_ours(classes: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    full = torch.randn(1, classes, generator=draw) * 3
    part = torch.randn(ERASER_THRESHOLDS, 1, classes, generator=draw) * 3
    theirs = eraser_aopc(full[0].softmax(-1).tolist(), part[:, 0].softmax(-1).tolist())
    (ours,) = aopc(confidence_drop(full, part).numpy())
    assert theirs == pytest.approx(6 / 5 * ours, abs=1e-6)


def test_its_token_f1_is_that_of_the_rationale_alone() -> None:
    scores, gold = np.array([0.1, 2.0, 0.0, -1.0, -2.0]), np.array([True, False, True, False, False])
    # One hit, one false alarm, one miss.
    theirs = f1_score(gold, scores > 0, pos_label=1)
    assert theirs == pytest.approx(1 / 2)
    outside = f1_score(gold, scores > 0, pos_label=0)
    assert token_f1(scores, gold) == pytest.approx((theirs + outside) / 2) != theirs


def test_its_auprc_is_over_words_and_without_cls_and_sep() -> None:
    """A word of two tokens counts once there, and twice here; special tokens are negatives here."""
    words, gold_words = np.array([3.0, 2.0, 1.0]), np.array([True, False, True])
    tokens, gold_tokens = np.array([0.0, 3.0, 2.0, 2.0, 1.0, 0.0]), np.array([False, True, False, False, True, False])
    assert auprc(words, gold_words) == pytest.approx(0.5 + 0.5 * (1 / 2 + 2 / 3) / 2)
    assert auprc(tokens, gold_tokens) == pytest.approx(0.5 + 0.5 * (1 / 3 + 1 / 2) / 2)

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.metrics.faithfulness import aopc, confidence_drop


def area(full, part):
    return aopc(confidence_drop(full, part).numpy())


def logits_of(*chances: float) -> list[float]:
    return [math.log(chance) for chance in chances]


def test_aopc_by_hand_divides_by_one_more_than_the_thresholds():
    assert aopc(np.array([[0.1, 0.0], [0.2, 0.0], [0.3, 0.0], [0.4, 0.0], [0.5, 0.6]])).tolist() == pytest.approx(
        [0.25, 0.1]
    )


def test_drops_by_hand():
    full = torch.tensor([logits_of(0.2, 0.8), logits_of(0.9, 0.1)])
    part = torch.tensor([[logits_of(0.5, 0.5), logits_of(0.6, 0.4)], [logits_of(0.9, 0.1), logits_of(1 - 1e-9, 1e-9)]])
    # first instance, class 1: (0.8 - 0.5) + (0.8 - 0.1) over 3; second, class 0: (0.9 - 0.6) + (0.9 - 1) over 3
    assert area(full, part).tolist() == pytest.approx([1 / 3, 0.2 / 3], abs=1e-6)
    assert confidence_drop(full, part).dtype == torch.float64


def test_the_predicted_class_is_that_of_the_full_input_whatever_the_parts_predict():
    full, part = torch.tensor([logits_of(0.6, 0.4)]), torch.tensor([[logits_of(0.1, 0.9)]])
    assert area(full, part).tolist() == pytest.approx([0.25])


def test_extreme_logits():
    full, part = torch.tensor([[1e30, -1e30]]), torch.tensor([[[-1e30, 1e30]], [[1e30, -1e30]]])
    assert area(full, part).tolist() == [pytest.approx(1 / 3)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(2, 4), st.integers(0, 2**31))
def test_a_loop_over_instances_gives_the_same(instances, thresholds, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    full = torch.randn(instances, classes, generator=generator) * 3
    part = torch.randn(thresholds, instances, classes, generator=generator) * 3
    values = area(full, part).tolist()
    for number, full_logits in enumerate(full.tolist()):
        best = max(range(classes), key=lambda c: full_logits[c])

        def chance(logits: list[float], c: int) -> float:
            return math.exp(logits[c]) / sum(math.exp(value) for value in logits)

        drops = [chance(full_logits, best) - chance(part[k, number].tolist(), best) for k in range(thresholds)]
        assert values[number] == pytest.approx(sum(drops) / (thresholds + 1), abs=1e-9)
        assert -1 <= values[number] <= 1

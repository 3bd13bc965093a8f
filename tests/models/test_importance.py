import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.models.importance import importance_classes


def test_classes_by_hand() -> None:
    # Means: positive (1 + 2 + 6) / 3 = 3, negative (-1 - 5) / 2 = -3.
    scores = torch.tensor([[0.0, 1.0, 6.0, -1.0, -5.0, 2.0, 9.0]])
    attended = torch.tensor([[True] * 6 + [False]])
    assert importance_classes(scores, attended).tolist() == [[2, 3, 4, 1, 0, 3, 2]]


def test_a_score_at_its_mean_is_the_milder_class() -> None:
    scores, attended = torch.tensor([[2.0, 2.0, -3.0, 0.0]]), torch.ones(1, 4, dtype=torch.bool)
    assert importance_classes(scores, attended).tolist() == [[3, 3, 1, 2]]


def test_choices_share_their_means() -> None:
    scores, attended = torch.tensor([[1.0, 0.0], [5.0, 3.0], [7.0, 1.0]]), torch.ones(3, 2, dtype=torch.bool)
    assert importance_classes(scores[:2], attended[:2], 2).tolist() == [[3, 2], [4, 3]]
    assert importance_classes(scores, attended, 1).tolist() == [[3, 2], [4, 3], [4, 3]]


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_classes_are_those_of_a_loop(data: st.DataObject) -> None:
    choices, instances, width = (data.draw(st.integers(1, 3)) for _ in range(3))
    rows = choices * instances
    values = st.one_of(st.just(0.0), st.floats(-9, 9, width=32))
    scores = torch.tensor(data.draw(st.lists(values, min_size=rows * width, max_size=rows * width))).view(rows, width)
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, width), min_size=rows, max_size=rows)))
    attended = torch.arange(width) < lengths[:, None]
    classes = importance_classes(scores, attended, choices)
    for instance in range(instances):
        rows_of_instance = range(instance * choices, (instance + 1) * choices)
        tokens = [(row, column) for row in rows_of_instance for column in range(int(lengths[row]))]
        all_scores = [float(scores[token]) for token in tokens]
        above, below = [s for s in all_scores if s > 0], [s for s in all_scores if s < 0]
        for token, score in zip(tokens, all_scores, strict=True):
            if score == 0:
                expected = 2
            elif score > 0:
                expected = 4 if score > sum(above) / len(above) else 3
            else:
                expected = 0 if score < sum(below) / len(below) else 1
            assert int(classes[token]) == expected
    assert bool((classes[~attended] == 2).all())

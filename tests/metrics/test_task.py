import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from unirex_ray.metrics.task import accuracy, binary_f1, confusion_matrix, macro_f1


def test_by_hand():
    confusion = confusion_matrix(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), 2)
    assert confusion.tolist() == [[1, 1], [0, 2]]
    assert accuracy(confusion) == 0.75
    assert macro_f1(confusion) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert binary_f1(confusion) == pytest.approx(4 / 5)
    assert binary_f1(torch.tensor([[3.0, 0.0], [0.0, 0.0]])) == 0.0


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 5), st.data())
def test_scikit_learn_gives_the_same(classes, data):
    pairs = st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1))
    gold, predicted = zip(*data.draw(st.lists(pairs, min_size=1, max_size=20)), strict=True)
    confusion = confusion_matrix(torch.tensor(gold), torch.tensor(predicted), classes)
    assert confusion.shape == (classes, classes)
    assert accuracy(confusion) == pytest.approx(accuracy_score(gold, predicted))
    assert macro_f1(confusion) == pytest.approx(f1_score(gold, predicted, average="macro", zero_division=0))
    if classes == 2:
        assert binary_f1(confusion) == pytest.approx(f1_score(gold, predicted, average="binary", zero_division=0))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=20))
def test_matrices_add_up(pairs):
    gold, predicted = (torch.tensor(column) for column in zip(*pairs, strict=True))
    parts = confusion_matrix(gold[:1], predicted[:1], 3) + confusion_matrix(gold[1:], predicted[1:], 3)
    assert torch.equal(parts, confusion_matrix(gold, predicted, 3))

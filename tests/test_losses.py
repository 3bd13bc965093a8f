import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.losses import comprehensiveness_loss, cross_entropy, plausibility_bce, sufficiency_loss


def naive_cross_entropy(logits: list[float], label: int) -> float:
    top = max(logits)
    return math.log(sum(math.exp(value - top) for value in logits)) - (logits[label] - top)


def naive_bce(score: float, gold: bool, weight: float) -> float:
    """-w y log p - (1 - y) log(1 - p) for p = 1 / (1 + exp(-score))."""

    def softplus(value: float) -> float:
        return max(value, 0.0) + math.log1p(math.exp(-abs(value)))

    return weight * softplus(-score) if gold else softplus(score)


def test_cross_entropy_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    assert cross_entropy(logits, torch.tensor([0, 1])).tolist() == pytest.approx([math.log(4 / 3), math.log(2)])


def test_cross_entropy_of_extreme_logits_is_finite():
    logits = torch.tensor([[3e38, -3e38], [1e4, 0.0]])
    assert cross_entropy(logits, torch.tensor([0, 0])).tolist() == [0.0, 0.0]
    assert cross_entropy(logits[1:], torch.tensor([1])).tolist() == [1e4]


def test_margins_by_hand():
    full = torch.tensor([0.5, 0.5])
    # differences CE_full - CE_comp: -0.2 and -2.5 (beyond the margin of 1), 0.4 and -1.0
    without = torch.tensor([[0.7, 0.1], [3.0, 1.5]])
    assert comprehensiveness_loss(full, without, "diff", 1.0).tolist() == pytest.approx([-1.35, -0.3])
    assert comprehensiveness_loss(full, without, "margin", 1.0).tolist() == pytest.approx([0.4, 0.7])
    # differences CE_suff - CE_full: 0.2 and 2.5, -0.4 (beyond the margin of 0.1) and 1.0
    assert sufficiency_loss(full, without, "diff", 0.1).tolist() == pytest.approx([1.35, 0.3])
    assert sufficiency_loss(full, without, "margin", 0.1).tolist() == pytest.approx([1.45, 0.55])


def test_bce_by_hand():
    scores = torch.tensor([[0.0, math.log(3.0), 50.0], [1.0, 2.0, 3.0]])
    gold = torch.tensor([[False, True, True], [False, False, False]])
    counted = torch.tensor([[True, True, False], [False, False, False]])
    # log 2 for the first token, 3 times log(1 + 1/3) for the second; the third is padding, the second row has no gold
    sums = plausibility_bce(scores, gold, counted, 3.0)
    assert sums.tolist() == pytest.approx([math.log(2) + 3 * math.log(4 / 3), 0.0])


def test_bce_of_extreme_scores_is_finite_and_uncounted_tokens_get_no_gradient():
    scores = torch.tensor([[1e4, -1e4, 1e38, -5.0]], requires_grad=True)
    gold = torch.tensor([[False, True, False, True]])
    counted = torch.tensor([[True, True, False, False]])
    loss = plausibility_bce(scores, gold, counted, 2.0).sum()
    loss.backward()
    assert float(loss.detach()) == 3e4
    assert scores.grad is not None
    assert scores.grad.tolist() == [[1.0, -2.0, 0.0, 0.0]]


_finite = st.floats(-30, 30)


@st.composite
def losses_inputs(draw):
    instances, thresholds, classes = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(2, 4))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=instances, max_size=instances))
    flat = st.lists(_finite, min_size=classes * instances, max_size=classes * instances)
    full = torch.tensor(draw(flat), dtype=torch.double).view(instances, classes)
    other = torch.stack(
        [torch.tensor(draw(flat), dtype=torch.double).view(instances, classes) for _ in range(thresholds)]
    )
    return full, other, torch.tensor(labels)


@settings(max_examples=60, deadline=None)
@given(losses_inputs(), st.sampled_from(["margin", "diff"]), st.sampled_from([0.0, 0.1, 1.0]))
def test_faithfulness_losses_are_those_of_a_loop_over_instances(inputs, kind, margin):
    full, other, labels = inputs
    ce_full, ce_other = cross_entropy(full, labels), cross_entropy(other, labels)
    comp = comprehensiveness_loss(ce_full, ce_other, kind, margin)
    suff = sufficiency_loss(ce_full, ce_other, kind, margin)
    for number, label in enumerate(labels.tolist()):
        whole = naive_cross_entropy(full[number].tolist(), label)
        assert float(ce_full[number]) == pytest.approx(whole, abs=1e-12)
        comps, suffs = [], []
        for logits in other[:, number].tolist():
            part = naive_cross_entropy(logits, label)
            comps.append(whole - part if kind == "diff" else max(-margin, whole - part) + margin)
            suffs.append(part - whole if kind == "diff" else max(-margin, part - whole) + margin)
        assert float(comp[number]) == pytest.approx(sum(comps) / len(comps), abs=1e-12)
        assert float(suff[number]) == pytest.approx(sum(suffs) / len(suffs), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bce_is_that_of_a_loop_over_tokens(data):
    rows, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    scores = torch.tensor(data.draw(st.lists(_finite, min_size=rows * width, max_size=rows * width)))
    flags = st.lists(st.booleans(), min_size=rows * width, max_size=rows * width)
    gold, counted = torch.tensor(data.draw(flags)), torch.tensor(data.draw(flags))
    weight = data.draw(st.floats(0.01, 100))
    sums = plausibility_bce(
        scores.double().view(rows, width), gold.view(rows, width), counted.view(rows, width), weight
    )
    terms = [
        naive_bce(score, is_gold, weight) if counts else 0.0
        for score, is_gold, counts in zip(scores.tolist(), gold.tolist(), counted.tolist(), strict=True)
    ]
    naive = [sum(terms[row * width : (row + 1) * width]) for row in range(rows)]
    assert sums.tolist() == pytest.approx(naive, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", ["margin", "diff"])
def test_gradients_flow_through_both_sides(kind):
    torch.manual_seed(0)
    full = torch.randn(3, 2, dtype=torch.double, requires_grad=True)
    other = torch.randn(4, 3, 2, dtype=torch.double, requires_grad=True)
    labels = torch.tensor([0, 1, 1])

    def comp(full, other):
        return comprehensiveness_loss(cross_entropy(full, labels), cross_entropy(other, labels), kind, 1.0)

    def suff(full, other):
        return sufficiency_loss(cross_entropy(full, labels), cross_entropy(other, labels), kind, 0.1)

    for loss in (comp, suff):
        assert torch.autograd.gradcheck(loss, (full, other))
        gradients = torch.autograd.grad(loss(full, other).sum(), (full, other))
        assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)


def test_no_gradient_beyond_the_margin():
    full = torch.tensor([0.1], requires_grad=True)
    other = torch.tensor([[1.5]], requires_grad=True)
    assert torch.autograd.grad(comprehensiveness_loss(full, other, "margin", 1.0).sum(), (full, other)) == (0.0, 0.0)
    assert torch.autograd.grad(comprehensiveness_loss(full, other, "diff", 1.0).sum(), (full, other)) == (1.0, -1.0)


def test_bce_gradients():
    torch.manual_seed(0)
    scores = torch.randn(2, 5, dtype=torch.double, requires_grad=True)
    gold, counted = torch.rand(2, 5) > 0.5, torch.rand(2, 5) > 0.3
    assert torch.autograd.gradcheck(lambda values: plausibility_bce(values, gold, counted, 2.5), (scores,))

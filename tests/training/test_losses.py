import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.training.losses import (
    agreement_loss,
    comprehensiveness_loss,
    cross_entropy,
    imitation_loss,
    plausibility_bce,
    plausibility_kl,
    plausibility_linear,
    sufficiency_kl,
    sufficiency_loss,
)


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
    perturbed = torch.tensor([[0.7, 0.1], [3.0, 1.5]])
    assert comprehensiveness_loss(full, perturbed, "diff", 1.0).tolist() == pytest.approx([-1.35, -0.3])
    assert comprehensiveness_loss(full, perturbed, "margin", 1.0).tolist() == pytest.approx([0.4, 0.7])
    # differences CE_suff - CE_full: 0.2 and 2.5, -0.4 (beyond the margin of 0.1) and 1.0
    assert sufficiency_loss(full, perturbed, "diff", 0.1).tolist() == pytest.approx([1.35, 0.3])
    assert sufficiency_loss(full, perturbed, "margin", 0.1).tolist() == pytest.approx([1.45, 0.55])


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
        entropy = naive_cross_entropy(full[number].tolist(), label)
        assert float(ce_full[number]) == pytest.approx(entropy, abs=1e-12)
        comps, suffs = [], []
        for logits in other[:, number].tolist():
            part = naive_cross_entropy(logits, label)
            comps.append(entropy - part if kind == "diff" else max(-margin, entropy - part) + margin)
            suffs.append(part - entropy if kind == "diff" else max(-margin, part - entropy) + margin)
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


def naive_softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    return [math.exp(value - top) / sum(math.exp(other - top) for other in logits) for value in logits]


def naive_kl(p: list[float], q: list[float]) -> float:
    return sum(one * math.log(one / other) for one, other in zip(p, q, strict=True) if one > 0)


def test_mae_by_hand():
    full, rationale = torch.tensor([0.5, 0.5]), torch.tensor([[0.7, 0.1], [3.0, 1.5]])
    assert sufficiency_loss(full, rationale, "mae", 0.1).tolist() == pytest.approx([(0.2 + 2.5) / 2, (0.4 + 1.0) / 2])


def test_kl_by_hand():
    # p = (3/4, 1/4) on the rationale, q = (1/2, 1/2) on the text: 3/4 log(3/2) + 1/4 log(1/2)
    full, rationale = torch.tensor([[0.0, 0.0]]), torch.tensor([[[math.log(3.0), 0.0]]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert sufficiency_kl(full, rationale).tolist() == pytest.approx([expected])
    # The other way round it is another number: log 2 - 1/2 log 3 + ...
    assert sufficiency_kl(rationale[0], full[None]).tolist() == pytest.approx(
        [0.5 * math.log(2 / 3) + 0.5 * math.log(2)]
    )


def test_agreement_by_hand():
    # p = (3/4, 1/4), q = (1/4, 3/4), their mixture (1/2, 1/2): both divergences are 3/4 log(3/2) + 1/4 log(1/2)
    rationale, attention = torch.tensor([[[math.log(3.0), 0.0]]]), torch.tensor([[0.0, math.log(3.0)]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert agreement_loss(rationale, attention).tolist() == pytest.approx([expected])
    assert agreement_loss(rationale, rationale[0]).tolist() == pytest.approx([0.0], abs=1e-7)
    # Predictors that exclude each other are log 2 apart.
    sure = torch.tensor([[1e4, -1e4]])
    assert agreement_loss(sure[None], -sure).tolist() == pytest.approx([math.log(2)])


def test_plausibility_kl_by_hand():
    # softmax = (1/6, 3/6, 2/6); gold: the last two, 1/2 each; the fourth token is padding
    scores = torch.tensor([[0.0, math.log(3.0), math.log(2.0), 9.0], [1.0, 2.0, 3.0, 4.0]])
    gold = torch.tensor([[False, True, True, False], [False] * 4])
    attended = torch.tensor([[True, True, True, False], [True] * 4])
    expected = 0.5 * math.log(0.5 / (3 / 6)) + 0.5 * math.log(0.5 / (2 / 6))
    assert plausibility_kl(scores, gold, attended).tolist() == pytest.approx([expected, 0.0], abs=1e-7)


def test_plausibility_linear_by_hand():
    scores = torch.tensor([[0.5, 2.0, -0.3, 9.0], [1.0, 2.0, 3.0, 4.0]])
    gold = torch.tensor([[False, True, True, False], [False] * 4])
    attended = torch.tensor([[True, True, True, False], [True] * 4])
    # terms 0.5, -2.0, 0.3; with a margin of 0.1: 0.6, 0.0, 0.4
    assert plausibility_linear(scores, gold, attended, None).tolist() == pytest.approx([-1.2 / 3, 0.0])
    assert plausibility_linear(scores, gold, attended, 0.1).tolist() == pytest.approx([1.0 / 3, 0.0])


def test_imitation_by_hand():
    logits = torch.zeros(2, 2, 5)
    logits[0, 1, 3] = math.log(4.0)
    classes, counted = torch.tensor([[0, 3], [2, 2]]), torch.tensor([[True, True], [True, False]])
    # chances 1/5 and 4/8; one token of the second row counts
    expected = [math.log(5) + math.log(2), math.log(5)]
    assert imitation_loss(logits, classes, counted).tolist() == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(losses_inputs())
def test_divergences_are_those_of_a_loop_over_instances(inputs):
    full, other, labels = inputs
    kl, agreement = sufficiency_kl(full, other), agreement_loss(other, full)
    mae = sufficiency_loss(cross_entropy(full, labels), cross_entropy(other, labels), "mae", 0.1)
    for number, label in enumerate(labels.tolist()):
        q = naive_softmax(full[number].tolist())
        entropy = naive_cross_entropy(full[number].tolist(), label)
        kls, divergences, errors = [], [], []
        for logits in other[:, number].tolist():
            p = naive_softmax(logits)
            mixture = [(one + two) / 2 for one, two in zip(p, q, strict=True)]
            kls.append(naive_kl(p, q))
            divergences.append((naive_kl(p, mixture) + naive_kl(q, mixture)) / 2)
            errors.append(abs(naive_cross_entropy(logits, label) - entropy))
        assert float(kl[number]) == pytest.approx(sum(kls) / len(kls), abs=1e-10)
        assert float(agreement[number]) == pytest.approx(sum(divergences) / len(divergences), abs=1e-10)
        assert float(mae[number]) == pytest.approx(sum(errors) / len(errors), abs=1e-10)
        assert -1e-12 <= float(agreement[number]) <= math.log(2) + 1e-12


@st.composite
def token_rows(draw):
    """Scores with ties and extremes, gold, lengths from one token on."""
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(1, width), min_size=rows, max_size=rows))
    values = st.one_of(_finite, st.sampled_from([0.0, 1.0, -500.0, 500.0]))
    scores = draw(st.lists(values, min_size=rows * width, max_size=rows * width))
    flags = draw(st.lists(st.booleans(), min_size=rows * width, max_size=rows * width))
    attended = torch.arange(width) < torch.tensor(lengths)[:, None]
    gold = torch.tensor(flags).view(rows, width) & attended
    return torch.tensor(scores, dtype=torch.double).view(rows, width), gold, attended


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(token_rows(), st.sampled_from([0.0, 0.1, 2.0]))
def test_plausibility_is_that_of_a_loop_over_tokens(inputs, margin):
    scores, gold, attended = inputs
    scores.requires_grad_()
    losses = {
        "kl": plausibility_kl(scores, gold, attended),
        "linear": plausibility_linear(scores, gold, attended, None),
        "linear_margin": plausibility_linear(scores, gold, attended, margin),
    }
    for row, length in enumerate(attended.sum(1).tolist()):
        values, flags = scores[row, :length].tolist(), gold[row, :length].tolist()
        expected = dict.fromkeys(losses, 0.0)
        if any(flags):
            top = max(values)
            normaliser = top + math.log(sum(math.exp(value - top) for value in values))
            share = 1 / sum(flags)
            gold_values = [value for value, flag in zip(values, flags, strict=True) if flag]
            expected["kl"] = sum(share * (math.log(share) - (value - normaliser)) for value in gold_values)
            terms = [-value if flag else value for value, flag in zip(values, flags, strict=True)]
            expected["linear"] = sum(terms) / length
            expected["linear_margin"] = sum(max(-margin, term) + margin for term in terms) / length
        for name, value in expected.items():
            assert float(losses[name][row].detach()) == pytest.approx(value, rel=1e-9, abs=1e-9), name
    for terms in losses.values():
        (gradient,) = torch.autograd.grad(terms.sum(), scores, retain_graph=True)
        assert gradient.isfinite().all()
        assert not gradient[~attended].any()
        assert not gradient[~gold.any(1)].any()


def test_divergences_and_plausibility_have_the_gradients_of_their_values():
    torch.manual_seed(0)
    full = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    other = torch.randn(2, 3, 4, dtype=torch.double, requires_grad=True)
    scores = torch.randn(3, 5, dtype=torch.double, requires_grad=True)
    attended = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
    gold = (torch.rand(3, 5) > 0.5) & attended
    labels = torch.tensor([0, 1, 3])

    def mae(full, other):
        return sufficiency_loss(cross_entropy(full, labels), cross_entropy(other, labels), "mae", 0.1)

    for loss in (sufficiency_kl, mae, lambda full, other: agreement_loss(other, full)):
        assert torch.autograd.gradcheck(loss, (full, other))
        gradients = torch.autograd.grad(loss(full, other).sum(), (full, other))
        assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)
    assert torch.autograd.gradcheck(lambda s: plausibility_kl(s, gold, attended), (scores,))
    assert torch.autograd.gradcheck(lambda s: plausibility_linear(s, gold, attended, None), (scores,))
    assert torch.autograd.gradcheck(lambda s: plausibility_linear(s, gold, attended, 0.1), (scores,))
    classes = torch.randint(5, (2, 3))
    token_logits = torch.randn(2, 3, 5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: imitation_loss(t, classes, torch.rand(2, 3) > -1), (token_logits,))


def test_divergences_of_extreme_logits_are_finite_with_finite_gradients():
    full = torch.tensor([[1e4, -1e4], [0.0, 1e4]], requires_grad=True)
    other = torch.tensor([[[-1e4, 1e4], [1e4, 0.0]]], requires_grad=True)
    for loss in (sufficiency_kl(full, other), agreement_loss(other, full)):
        gradients = torch.autograd.grad(loss.sum(), (full, other), retain_graph=True)
        assert loss.isfinite().all()
        assert all(gradient.isfinite().all() for gradient in gradients)

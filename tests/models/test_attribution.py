import copy

import numpy as np
import pytest
import torch
from captum.attr import DeepLift, InputXGradient, IntegratedGradients, Saliency
from helpers.tiny import FAST_FAMILIES, encode, make_split, tiny_config, tiny_corpus, whole_batch
from torch import Tensor

from unirex_ray.data.batching import Batch
from unirex_ray.data.encoded import SpecialTokens
from unirex_ray.models.attribution import (
    attribute,
    captum_integrated_gradients,
    convergence_delta,
    dropout_off,
    gauss_legendre,
)
from unirex_ray.models.task_model import TaskModel
from unirex_ray.models.token_subsets import ForwardPlan


def plain_logits(model: TaskModel, embeds: Tensor, types: Tensor | None) -> Tensor:
    """The library's own model called the usual way: no position ids, no mask, one row or many of one length."""
    types = None if types is None else types.expand(len(embeds), -1)
    output = model.encoder.backbone(inputs_embeds=embeds, token_type_ids=types)
    logits: Tensor = model.head(output.pooler_output)
    return logits


def rows_of(batch: Batch, family: str, row: int) -> tuple[Tensor, Tensor | None]:
    length = int(batch.lengths[row])
    types = batch.token_types[row : row + 1, :length] if family == "bert" else None
    return batch.input_ids[row : row + 1, :length], types


def path_ends(model: TaskModel, batch: Batch, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings of a row, and of its baseline: PAD except on the first token and the separators."""
    table = model.encoder.backbone.get_input_embeddings()
    sep = batch.input_ids[batch.separators][0]
    baseline_ids = torch.where(ids == sep, ids, batch.pad_id)
    baseline_ids[:, 0] = ids[:, 0]
    return table(ids).detach(), table(baseline_ids).detach()


@pytest.mark.parametrize("steps", [1, 3, 8])
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("family", FAST_FAMILIES)
def test_captum_gives_the_same(encoders, trained, family, pair, steps):
    model = trained(family, "slm").task_model
    split, tokens = encode(tiny_config(encoders[family]), tiny_corpus((4, 1, 1), pair=pair).splits["train"])
    batch = whole_batch(split, tokens)
    classes = torch.tensor([0, 1, 1, 0])
    scores = attribute(model, batch, classes, "ig", ForwardPlan(), steps=steps)
    of_the_batch = captum_integrated_gradients(model, batch, classes, steps=steps)
    assert float((scores - of_the_batch).abs().max()) < 1e-5 * max(1.0, float(scores.abs().max()))
    with dropout_off(model):
        for row in range(4):
            ids, types = rows_of(batch, family, row)
            inputs, baseline = path_ends(model, batch, ids)
            captum = IntegratedGradients(lambda embeds, types=types: plain_logits(model, embeds, types))
            expected = captum.attribute(
                inputs, baseline, target=int(classes[row]), n_steps=steps, method="gausslegendre"
            ).sum(-1)[0]
            length = len(expected)
            error = float((scores[row, :length] - expected).abs().max())
            assert error < 1e-5 * max(1.0, float(expected.abs().max()))
            assert scores[row, length:].eq(0).all()


@pytest.mark.parametrize("family", FAST_FAMILIES)
def test_scores_sum_to_the_difference_that_the_tokens_make(encoders, trained, family):
    model = trained(family, "slm").task_model
    split, tokens = encode(tiny_config(encoders[family]), tiny_corpus((3, 1, 1)).splits["train"])
    batch = whole_batch(split, tokens)
    scores = attribute(model, batch, torch.ones(3, dtype=torch.long), "ig", ForwardPlan(), steps=100)
    with dropout_off(model):
        for row in range(3):
            ids, types = rows_of(batch, family, row)
            inputs, baseline = path_ends(model, batch, ids)
            logit, baseline_logit = (plain_logits(model, embeds, types)[0, 1] for embeds in (inputs, baseline))
            assert float(scores[row].sum()) == pytest.approx(float((logit - baseline_logit).detach()), abs=2e-3)
    # The sentiment words carry it, and CLS and SEP nothing at all.
    assert scores[:, 0].eq(0).all()
    assert scores[batch.separators].eq(0).all()
    assert scores[~batch.attended].eq(0).all()
    assert scores.abs().max() > 0


def test_scores_depend_on_neither_the_plan_nor_the_other_rows(encoders, trained):
    model = trained("bert", "slm").task_model
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((6, 1, 1)).splits["train"])
    batch = whole_batch(split, tokens)
    classes = torch.arange(6) % 2
    reference = attribute(model, batch, classes, "ig", ForwardPlan(), steps=3)
    for plan in (
        ForwardPlan(token_budget=64),
        ForwardPlan(pass_cost=0),
        ForwardPlan(activation_checkpointing=True),
        ForwardPlan(drop=False),
    ):
        again = attribute(model, batch, classes, "ig", plan, steps=3)
        assert torch.allclose(again, reference, atol=1e-5, rtol=1e-5)


def test_attribution_leaves_modes_gradients_and_random_state_alone(encoders, trained):
    model = trained("bert", "slm").task_model
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((3, 1, 1)).splits["train"])
    batch = whole_batch(split, tokens)
    model.zero_grad()
    model.train()
    model.dropout.eval()
    modes = [part.training for part in model.modules()]
    state = torch.get_rng_state()
    with torch.no_grad():
        scores = attribute(model, batch, torch.zeros(3, dtype=torch.long), "ig", ForwardPlan(), steps=3)
    assert not scores.requires_grad
    assert [part.training for part in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    model.train()


def test_dropout_off_restores_modes_after_an_error(trained):
    model = trained("bert", "slm").task_model
    model.train()

    def fail() -> None:
        with dropout_off(model):
            assert not model.training
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert all(part.training for part in model.modules())


def test_text_that_reads_pad_gets_no_score(trained):
    model = trained("bert", "slm").task_model
    split = make_split([[2, 30, 0, 31, 3]], [0])
    batch = whole_batch(split, SpecialTokens(pad_id=0, sep_id=3))
    scores = attribute(model, batch, torch.tensor([0]), "ig", ForwardPlan(), steps=3)
    assert float(scores[0, 2]) == 0.0
    assert scores[0, [1, 3]].abs().min() > 0


def test_quadrature_by_hand():
    nodes, weights = gauss_legendre(3)
    assert nodes == pytest.approx((0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5))
    assert weights == pytest.approx((5 / 18, 8 / 18, 5 / 18))
    nodes, weights = gauss_legendre(5)
    for power in range(10):  # exact up to degree 2n - 1
        integral = sum(weight * node**power for node, weight in zip(nodes, weights, strict=True))
        assert integral == pytest.approx(1 / (power + 1))


class PlainModel(torch.nn.Module):
    """The library's model called the usual way, with the task model's head."""

    def __init__(self, model: TaskModel, types: Tensor | None) -> None:
        super().__init__()
        self.model, self.types = model, types

    def forward(self, embeds: Tensor) -> Tensor:
        return plain_logits(self.model, embeds, self.types)


@pytest.mark.filterwarnings("ignore:.*Setting forward, backward hooks")
@pytest.mark.parametrize("algorithm", ["grad", "input_x_grad", "deeplift"])
@pytest.mark.parametrize("family", FAST_FAMILIES)
def test_the_other_algorithms_are_captums_row_by_row(encoders, trained, family, algorithm):
    model = trained(family, "slm").task_model
    split, tokens = encode(tiny_config(encoders[family]), tiny_corpus((5, 1, 1)).splits["train"])
    batch = whole_batch(split, tokens)
    classes = torch.tensor([0, 1, 1, 0, 1])
    scores = attribute(model, batch, classes, algorithm, ForwardPlan())
    narrow = attribute(model, batch, classes, algorithm, ForwardPlan(token_budget=32))
    assert torch.allclose(narrow, scores, atol=1e-5, rtol=1e-5)
    with dropout_off(model):
        for row in range(5):
            ids, types = rows_of(batch, family, row)
            inputs, baseline = path_ends(model, batch, ids)
            plain, target = PlainModel(model, types), int(classes[row])
            inputs.requires_grad_()
            expected = {
                "grad": lambda: Saliency(plain).attribute(inputs, target=target),  # noqa: B023
                "input_x_grad": lambda: InputXGradient(plain).attribute(inputs, target=target),  # noqa: B023
                "deeplift": lambda: DeepLift(plain).attribute(inputs, baseline, target=target),  # noqa: B023
            }[algorithm]().sum(-1)[0]
            length = len(expected)
            assert torch.allclose(scores[row, :length], expected.detach(), atol=1e-5, rtol=1e-4)
            assert scores[row, length:].eq(0).all()
    assert (float(scores.min()) < 0) == (algorithm != "grad")


def test_deeplift_is_not_the_plain_gradient_at_the_pooler(encoders, trained):
    model = trained("bert", "slm").task_model
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((4, 1, 1)).splits["train"])
    batch, classes = whole_batch(split, tokens), torch.zeros(4, dtype=torch.long)
    with dropout_off(model):
        ids, types = rows_of(batch, "bert", 0)
        inputs, baseline = path_ends(model, batch, ids)
        inputs.requires_grad_()
        (gradient,) = torch.autograd.grad(plain_logits(model, inputs, types)[0, 0], inputs)
        plain = ((inputs - baseline) * gradient).sum(-1)[0]
    scores = attribute(model, batch, classes, "deeplift", ForwardPlan())[0, : len(plain)]
    assert float((scores - plain).detach().abs().max()) > 1e-3


def test_few_steps_at_a_time_give_the_same_as_all_at_once(encoders, trained):
    model = trained("bert", "slm").task_model
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((3, 1, 1)).splits["train"])
    batch, classes = whole_batch(split, tokens), torch.tensor([0, 1, 1])
    passes: list[int] = []
    forward = model.encoder.backbone.forward
    reference = attribute(model, batch, classes, "ig", ForwardPlan(), steps=50)

    def counted(**inputs):
        passes.append(inputs["inputs_embeds"][..., 0].numel())
        return forward(**inputs)

    model.encoder.backbone.forward = counted
    try:
        again = attribute(model, batch, classes, "ig", ForwardPlan(token_budget=64), steps=50)
    finally:
        del model.encoder.backbone.forward
    assert max(passes) <= 64
    assert torch.allclose(again, reference, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_convergence_delta_is_captums(encoders, trained, steps):
    model = trained("bert", "slm").task_model
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((4, 1, 1)).splits["train"])
    batch, classes = whole_batch(split, tokens), torch.tensor([0, 1, 1, 0])
    scores = attribute(model, batch, classes, "ig", ForwardPlan(), steps=steps)
    delta = convergence_delta(model, batch, classes, scores, ForwardPlan(token_budget=32))
    with dropout_off(model):
        for row in range(4):
            ids, types = rows_of(batch, "bert", row)
            inputs, baseline = path_ends(model, batch, ids)
            captum = IntegratedGradients(lambda embeds, types=types: plain_logits(model, embeds, types))
            _, expected = captum.attribute(
                inputs,
                baseline,
                target=int(classes[row]),
                n_steps=steps,
                method="gausslegendre",
                return_convergence_delta=True,
            )
            assert float(delta[row]) == pytest.approx(abs(float(expected)), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAST_FAMILIES)
def test_scores_that_are_trained_have_the_gradients_of_differences(encoders, trained, family):
    """Second order, by central differences in double precision; the fused kernels could not do it."""
    model = copy.deepcopy(trained(family, "slm").task_model).double()
    split, tokens = encode(tiny_config(encoders[family]), tiny_corpus((3, 1, 1)).splits["train"])
    batch, classes = whole_batch(split, tokens), torch.tensor([0, 1, 1])
    weight = torch.linspace(-1, 1, batch.input_ids.numel()).view_as(batch.input_ids)

    def total(learn: bool) -> Tensor:
        scores = attribute(model, batch, classes, "ig", ForwardPlan(), learn=np.array([learn] * batch.rows))
        return (weight * scores).sum()

    loss = total(True)
    loss.backward()
    step = 1e-3
    checked = 0
    for name, parameter in model.named_parameters():
        if parameter.grad is None or float(parameter.grad.abs().max()) < 1e-3:
            continue
        index = int(parameter.grad.abs().argmax())
        flat = parameter.data.view(-1)
        before = float(flat[index])
        sides = []
        for shift in (step, -step):
            flat[index] = before + shift
            sides.append(float(total(False)))
        flat[index] = before
        difference = (sides[0] - sides[1]) / (2 * step)
        assert float(parameter.grad.view(-1)[index]) == pytest.approx(difference, rel=2e-2, abs=2e-3), name
        checked += 1
    assert checked > 10


def test_trained_scores_are_the_same_numbers_and_only_ig_has_them(encoders, trained):
    model = trained("bert", "slm").task_model
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((3, 1, 1)).splits["train"])
    batch, classes = whole_batch(split, tokens), torch.tensor([0, 1, 1])
    plain = attribute(model, batch, classes, "ig", ForwardPlan())
    learned = attribute(model, batch, classes, "ig", ForwardPlan(), learn=np.ones(batch.rows, bool))
    assert learned.requires_grad
    assert not plain.requires_grad
    assert torch.allclose(learned.detach(), plain, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="only scores of 'ig' can be trained, but got algorithm='grad'"):
        attribute(model, batch, classes, "grad", ForwardPlan(), learn=np.ones(batch.rows, bool))


def test_rows_whose_scores_are_trained_keep_their_place_and_the_others_have_no_graph(encoders, trained):
    model = trained("bert", "slm").task_model
    split, tokens = encode(tiny_config(encoders["bert"]), tiny_corpus((5, 1, 1)).splits["train"])
    batch, classes = whole_batch(split, tokens), torch.tensor([0, 1, 1, 0, 1])
    learn = np.array([True, False, False, True, False])

    def of_rows(learned: np.ndarray, rows: list[int]) -> tuple[Tensor, list[Tensor]]:
        scores = attribute(model, batch, classes, "ig", ForwardPlan(), learn=learned)
        total = sum(scores[row].square().sum() for row in rows)
        return scores.detach(), list(torch.autograd.grad(total, list(model.parameters()), allow_unused=True))

    every, gradients = of_rows(np.ones(5, bool), [0, 3])
    some, gradients_of_some = of_rows(learn, [0, 1, 2, 3, 4])
    assert torch.allclose(some, every, atol=1e-5, rtol=1e-4)
    for one, other in zip(gradients, gradients_of_some, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, atol=1e-4, rtol=1e-3)

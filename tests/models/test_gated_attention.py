"""Gates: forward they are a mask, and backward each has the change that showing its token makes."""

from types import SimpleNamespace

import pytest
import torch
from helpers.families import save_family
from helpers.marks import slow, slow_but
from helpers.tiny import FAST_FAMILIES, encode, tiny_config, tiny_corpus, whole_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unirex_ray.config import ModelConfig
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.encoder import load_encoder
from unirex_ray.models.gated_attention import gated_attention
from unirex_ray.models.token_subsets import ForwardPlan, TokenSubsets, perturbed_subsets

MODULE = SimpleNamespace(is_causal=False)


def attend(query: Tensor, key: Tensor, value: Tensor, gates: Tensor, **options: object) -> Tensor:
    return gated_attention(MODULE, query, key, value, gates[:, None, None], **options)[0].transpose(1, 2)


def naive_attend(query: Tensor, key: Tensor, value: Tensor, shown: Tensor, bias: Tensor | float) -> Tensor:
    """By the definition, on the shown keys alone; [R, A, T, D]."""
    rows = []
    for row in range(len(query)):
        columns = shown[row].nonzero().flatten()
        logits = query[row] @ key[row].transpose(1, 2) / query.shape[3] ** 0.5 + bias
        rows.append(logits[:, :, columns].softmax(-1) @ value[row][:, columns])
    return torch.stack(rows)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 7), st.booleans(), st.sampled_from([0.3, 3.0]))
def test_a_gates_gradient_is_the_change_that_showing_the_token_makes(seed, width, biased, scale):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    query, key, value = scale * draw(2, 3, width, 4), draw(2, 3, width, 4), draw(2, 3, width, 4)
    bias = draw(1, 3, width, width) if biased else None
    shown = torch.rand(2, width, generator=generator) < 0.5
    shown[:, 0] = True
    gates, weight = shown.double().requires_grad_(), draw(2, 3, width, 4)
    output = attend(query, key, value, gates, position_bias=bias)
    added = 0.0 if bias is None else bias[0]
    assert torch.allclose(output, naive_attend(query, key, value, shown, added), atol=1e-12)
    (gradient,) = torch.autograd.grad((weight * output).sum(), gates)
    for row in range(2):
        for token in range(1, width):
            with_it, without = shown.clone(), shown.clone()
            with_it[row, token], without[row, token] = True, False
            change = naive_attend(query, key, value, with_it, added) - naive_attend(query, key, value, without, added)
            assert float(gradient[row, token]) == pytest.approx(float((weight * change).sum()), rel=1e-6, abs=1e-9)


def test_four_tokens_by_hand():
    """One head of one dimension, logits 0; CLS (value 0) and a token of 6 are shown, two of 9 and -3 are hidden.

    The output is 3 for each of the four queries. Without the token of 6 it would be 0: a change of 3. With the third
    one it would be (0 + 6 + 9) / 3 = 5: a change of 2; with the fourth one (0 + 6 - 3) / 3 = 1: of -2. Without CLS it
    would be 6: showing it makes a change of -3.
    """
    zeros = torch.zeros(1, 1, 4, 1)
    gates = torch.tensor([[1.0, 1.0, 0.0, 0.0]], requires_grad=True)
    output = attend(zeros, zeros, torch.tensor([0.0, 6.0, 9.0, -3.0]).reshape(1, 1, 4, 1), gates)
    assert output.flatten().tolist() == [3.0] * 4
    (gradient,) = torch.autograd.grad(output[0, 0, 0, 0], gates)
    assert gradient[0].tolist() == pytest.approx([-3.0, 3.0, 2.0, -2.0])


def test_keys_that_all_heads_wait_for_leave_finite_gradients_of_the_size_of_values():
    """A hidden key of logit 100 and a shown one that has all attention, which derivatives of gated shares take ill."""
    query, key = torch.full((1, 1, 3, 1), 10.0), torch.tensor([0.0, 5.0, 10.0]).reshape(1, 1, 3, 1)
    gates = torch.tensor([[1.0, 1.0, 0.0]], requires_grad=True)
    output = attend(query, key, torch.tensor([0.0, 2.0, 5.0]).reshape(1, 1, 3, 1), gates)
    (gradient,) = torch.autograd.grad(output[0, 0, 0, 0], gates)
    assert gradient.isfinite().all()
    assert float(gradient[0, 2]) == pytest.approx(3.0)  # from 2 to 5
    assert float(gradient[0, 1]) == pytest.approx(2.0)  # from 0 to 2, though float32 takes its share for 1


def test_heads_may_share_keys():
    query, key, value = torch.randn(2, 4, 5, 3), torch.randn(2, 2, 5, 3), torch.randn(2, 2, 5, 3)
    gates = (torch.rand(2, 5) < 0.5).float()
    gates[:, 0] = 1.0
    module = SimpleNamespace(is_causal=False, num_key_value_groups=2)
    results = []
    for keys, values, used in (
        (key, value, module),
        (key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), MODULE),
    ):
        leaf = gates.clone().requires_grad_()
        output, _ = gated_attention(used, query, keys, values, leaf[:, None, None])
        results.append((output, *torch.autograd.grad(output.square().sum(), leaf)))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("family", FAST_FAMILIES)
@pytest.mark.parametrize("choices", [1, *slow(3)])
def test_gates_hide_as_the_mask_does_on_both_sides_of_every_threshold(encoders, trained, family, choices):
    model = trained(family, "slm", choices)
    split, tokens = encode(tiny_config(encoders[family]), tiny_corpus((6, 1, 1), choices=choices).splits["train"])
    batch = whole_batch(split, tokens)
    scores = torch.randn(batch.input_ids.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    subsets = perturbed_subsets(batch, scores, (1, 20, 50), differentiable=True).subsets
    without = TokenSubsets(subsets.rows, subsets.kept, subsets.lengths)
    with dropout_off(model):
        gated = model.task_model.logits(batch, subsets, ForwardPlan())
        masked = model.task_model.logits(batch, without, ForwardPlan(drop=False))
    assert float((gated - masked).detach().abs().max()) < 1e-6
    (gradient,) = torch.autograd.grad(gated.square().sum(), scores)
    assert gradient.any()
    assert not gradient[~batch.attended].any()
    assert not gradient[:, 0].any()
    # The task model learns from gated passes what it learns from masked ones.
    parameters = list(model.task_model.parameters())
    with dropout_off(model):
        one, other = (
            torch.autograd.grad(
                model.task_model.logits(batch, given, ForwardPlan(drop=False)).square().sum(), parameters
            )
            for given in (subsets, without)
        )
    assert all(torch.allclose(left, right, atol=1e-5, rtol=1e-4) for left, right in zip(one, other, strict=True))


@pytest.mark.parametrize("family", slow_but(["bert"], ["bert", "roberta", "distilbert", "albert", "electra", "t5"]))
def test_through_an_encoder_gradients_foretell_what_flipping_a_token_changes(tmp_path, family):
    save_family(tmp_path / family, family)
    encoder = load_encoder(ModelConfig(encoder=str(tmp_path / family))).eval()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 100, (6, 12), generator=generator)
    positions, types = torch.arange(12).expand(6, -1), torch.zeros_like(ids)
    shown = torch.rand(ids.shape, generator=generator) < 0.4
    shown[:, 0] = True
    direction = torch.randn(encoder.hidden_size, generator=generator)

    def read(mask: Tensor) -> Tensor:
        states, _ = encoder(input_ids=ids, position_ids=positions, token_types=types, attention_mask=mask)
        return states[:, 0] @ direction

    gates = shown.float().requires_grad_()
    (gradient,) = torch.autograd.grad(read(gates).sum(), gates)
    changes = torch.zeros(ids.shape)
    with torch.no_grad():
        for token in range(1, 12):
            with_it, without = shown.clone(), shown.clone()
            with_it[:, token], without[:, token] = True, False
            changes[:, token] = read(with_it) - read(without)
    both = torch.stack([gradient[:, 1:].flatten(), changes[:, 1:].flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.7


def test_an_encoder_is_left_as_it_was(encoders):
    encoder = load_encoder(ModelConfig(encoder=encoders["bert"]))
    ids = torch.tensor([[2, 30, 31, 3]])
    given = {"position_ids": torch.arange(4)[None], "token_types": torch.zeros_like(ids)}
    usual = encoder.backbone.config._attn_implementation
    encoder(input_ids=ids, attention_mask=torch.ones(1, 4), **given)
    assert encoder.backbone.config._attn_implementation == usual
    with pytest.raises(IndexError):
        encoder(input_ids=ids + 10_000, attention_mask=torch.ones(1, 4), **given)
    assert encoder.backbone.config._attn_implementation == usual


def test_half_precision_keeps_the_direction_of_gradients(encoders):
    encoder = load_encoder(ModelConfig(encoder=encoders["bert"], dropout=0.0)).train()
    ids, gates = torch.tensor([[2, 30, 31, 32, 33, 3]]), torch.tensor([[1.0, 1.0, 0.0, 0.0, 1.0, 0.0]])
    given = {"position_ids": torch.arange(6)[None], "token_types": torch.zeros_like(ids)}
    gradients = []
    for half in (False, True):
        leaf = gates.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            states, _ = encoder(input_ids=ids, attention_mask=leaf, **given)
        gradients += torch.autograd.grad(states[0, 0, :8].float().sum(), leaf)
    assert float(torch.cosine_similarity(*(gradient[:, 1:] for gradient in gradients))) > 0.98

"""Attribution of a task logit to the tokens (AA extractors).

Shapes: R rows, T tokens, H hidden size, O task outputs, S integration steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from unirex_ray.data.batching import Batch, on_device, to_device
from unirex_ray.errors import UserError
from unirex_ray.models.task_model import TaskModel
from unirex_ray.models.token_subsets import ForwardPlan, encode_subsets, full_subsets

Algorithm = Literal["grad", "input_x_grad", "deeplift", "ig"]

_Extra = tuple[Tensor, Tensor, Tensor | None]
"""Position ids, token types and attention mask, each [R, T]."""


def attribute(
    task_model: TaskModel,
    batch: Batch,
    classes: Tensor,
    algorithm: Algorithm,
    plan: ForwardPlan,
    *,
    steps: int = 3,
    pool: Callable[[Tensor], Tensor] | None = None,
    learn: np.ndarray | None = None,
) -> Tensor:
    """Attribute one logit per row to the word embeddings, and pool over the hidden dimension.

    The baseline of IG and DeepLIFT is the PAD embedding, except on CLS and SEP. Dropout is off. Scores do not depend on
    how a batch is cut into sub-batches.

    Args:
        classes: whose logit to attribute [R] (0 for multi-choice's single scalar).
        steps: S, the integration steps of IG.
        pool: reduces the hidden dimension, [r, t, H] to [r, t]; by default the sum.
        learn: rows [R], none by default, of which to keep the graph, so that their scores can be trained
            (second-order gradients; only IG).

    Returns:
        Scores [R, T], any real number (`grad`: at least 0), 0 on padding; of IG and DeepLIFT 0 on CLS and SEP as well.
    """
    learned = np.zeros(batch.rows, dtype=bool) if learn is None else learn
    if learned.any() and algorithm != "ig":
        raise ValueError(f"only scores of 'ig' can be trained, but got {algorithm=}")
    logits = _EmbeddedTaskModel(task_model)

    def score(
        ids: Tensor, position_ids: Tensor, types: Tensor, mask: Tensor | None, rows: Tensor, *, learn: bool
    ) -> Tensor:
        inputs, baseline = _path_ends(task_model, batch, ids, rows, learn=learn)
        target, extra = classes[rows], (position_ids, types, mask)
        if algorithm == "ig":
            dimensions = _integrated_gradients(
                logits, inputs, baseline, target, extra, steps=steps, budget=plan.token_budget, learn=learn
            )
        else:
            dimensions = _CAPTUM[algorithm](logits, inputs.requires_grad_(), baseline, target, extra)
        scores = (dimensions.sum(-1) if pool is None else pool(dimensions)).float()
        if mask is not None:
            scores = scores.masked_fill(~mask, 0.0)
        return F.pad(scores, (0, batch.input_ids.shape[1] - scores.shape[1]))

    copies = {"ig": steps, "deeplift": 2}.get(algorithm, 1)  # of every token in one encoder pass
    narrow = replace(plan, token_budget=max(1, plan.token_budget // copies), drop=True, activation_checkpointing=False)
    parts, order = [], []
    with dropout_off(task_model), torch.enable_grad():
        for learns in (False, True):
            rows = np.flatnonzero(learned == learns)
            if not len(rows):
                continue
            # Fused attention has no second derivative.
            with sdpa_kernel(SDPBackend.MATH) if learns else nullcontext():
                scores = encode_subsets(batch, full_subsets(batch, rows), partial(score, learn=learns), narrow)
            parts.append(scores if learns else scores.detach())
            order.append(rows)
    if len(parts) == 1:
        return parts[0]
    (inverse,) = on_device(batch.lengths.device, np.argsort(np.concatenate(order)))
    return torch.cat(parts)[inverse]


def captum_integrated_gradients(task_model: TaskModel, batch: Batch, classes: Tensor, *, steps: int) -> Tensor:
    """IG as Captum computes it, on the padded batch: what `attribute` with "ig" is measured against.

    Args:
        classes: whose logit to attribute [R].
        steps: S.

    Returns:
        Scores [R, T], summed over the hidden dimension; 0 on padding, CLS and SEP.
    """
    ids, rows = batch.input_ids, torch.arange(batch.rows, device=batch.lengths.device)
    inputs, baseline = _path_ends(task_model, batch, ids, rows, learn=False)
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    logits = _EmbeddedTaskModel(task_model)
    with dropout_off(task_model):
        dimensions: Tensor = (
            _captum()
            .IntegratedGradients(logits)
            .attribute(
                inputs,
                baseline,
                target=classes,
                additional_forward_args=(positions, batch.token_types, batch.attended),
                n_steps=steps,
                method="gausslegendre",
            )
        )
    return dimensions.sum(-1).masked_fill(~batch.attended, 0.0)


@torch.no_grad()
def convergence_delta(
    task_model: TaskModel, batch: Batch, classes: Tensor, scores: Tensor, plan: ForwardPlan
) -> Tensor:
    """|sum of scores - (F(x) - F(baseline))| [R]: how far sum-pooled IG is from complete; at least 0, lower is better.

    Args:
        classes: whose logit `scores` attribute [R].
        scores: [R, T].
    """
    logits = _EmbeddedTaskModel(task_model)

    def logit_difference(ids: Tensor, position_ids: Tensor, types: Tensor, mask: Tensor | None, rows: Tensor) -> Tensor:
        ends = _path_ends(task_model, batch, ids, rows, learn=False)
        logit, baseline_logit = (
            logits(end, position_ids, types, mask).gather(1, classes[rows][:, None])[:, 0] for end in ends
        )
        difference: Tensor = logit - baseline_logit
        return difference

    with dropout_off(task_model):
        differences = encode_subsets(batch, full_subsets(batch), logit_difference, replace(plan, drop=True))
    error: Tensor = (scores.double().sum(1) - differences.double()).abs()
    return error


@lru_cache(maxsize=16)
def gauss_legendre(steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1]; the weights sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return tuple((0.5 * (1 + nodes)).tolist()), tuple((0.5 * weights).tolist())


@contextmanager
def dropout_off(module: nn.Module) -> Iterator[None]:
    """Put `module` into evaluation mode inside the block, then restore the mode of every submodule."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes:
            submodule.training = training


class _EmbeddedTaskModel(nn.Module):
    """The task model as a function of word embeddings."""

    def __init__(self, task_model: TaskModel) -> None:
        super().__init__()
        self.task_model = task_model

    def forward(self, embeds: Tensor, position_ids: Tensor, types: Tensor, mask: Tensor | None) -> Tensor:
        """Logits [R, O] of embeddings [R, T, H]."""
        states, pooled = self.task_model.encoder(
            inputs_embeds=embeds, position_ids=position_ids, token_types=types, attention_mask=mask
        )
        return self.task_model.logits_from_states(states, pooled)


def _path_ends(task_model: TaskModel, batch: Batch, ids: Tensor, rows: Tensor, *, learn: bool) -> tuple[Tensor, Tensor]:
    """Word embeddings of a text and of its baseline [r, t, H]."""
    table = task_model.encoder.word_embeddings
    inputs = table(ids) if learn else table(ids).detach()
    special = batch.separators[rows, : ids.shape[1]].clone()
    special[:, 0] = True  # CLS
    return inputs, torch.where(special[..., None], inputs, table(torch.full_like(ids[:1, :1], batch.pad_id)).detach())


def _integrated_gradients(
    logits: nn.Module,
    inputs: Tensor,
    baseline: Tensor,
    target: Tensor,
    extra: _Extra,
    *,
    steps: int,
    budget: int,
    learn: bool,
) -> Tensor:
    """IG per dimension [R, T, H]; one forward and backward pass takes as many steps as the budget allows."""
    device = inputs.device
    nodes, weights = to_device(torch.tensor(gauss_legendre(steps)), device)[..., None, None, None]
    steps_per_pass = max(1, budget // (inputs.shape[0] * inputs.shape[1]))
    mean = torch.zeros_like(inputs)
    for start in range(0, steps, steps_per_pass):
        alpha, weight = nodes[start : start + steps_per_pass], weights[start : start + steps_per_pass]
        path = (baseline + alpha * (inputs - baseline)).flatten(0, 1)
        path = path if path.requires_grad else path.requires_grad_()
        size = len(alpha)
        repeated = [None if part is None else part.repeat(size, 1) for part in extra]
        target_logits = logits(path, *repeated).gather(1, target.repeat(size)[:, None])
        (gradient,) = torch.autograd.grad(target_logits.sum(), path, create_graph=learn)
        mean = mean + (weight * gradient.view(size, *inputs.shape)).sum(0)
    return (inputs - baseline) * mean


def _captum() -> Any:
    """Captum, which is imported where it is asked for: IG, and what is learned, do without it.

    Raises:
        UserError: where it is not installed.
    """
    try:
        import captum.attr
    except ImportError as error:
        raise UserError(f"gradients, input x gradient and DeepLIFT need captum: pip install captum ({error})") from None
    return captum.attr


def _saliency(logits: nn.Module, inputs: Tensor, _: Tensor, target: Tensor, extra: _Extra) -> Tensor:
    saliency = _captum().Saliency(logits)
    attributions: Tensor = saliency.attribute(inputs, target=target, abs=True, additional_forward_args=extra)
    return attributions


def _input_x_gradient(logits: nn.Module, inputs: Tensor, _: Tensor, target: Tensor, extra: _Extra) -> Tensor:
    input_x_gradient = _captum().InputXGradient(logits)
    attributions: Tensor = input_x_gradient.attribute(inputs, target=target, additional_forward_args=extra)
    return attributions


def _deeplift(logits: nn.Module, inputs: Tensor, baseline: Tensor, target: Tensor, extra: _Extra) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Setting forward, backward hooks")
        attributions: Tensor = (
            _captum().DeepLift(logits).attribute(inputs, baseline, target=target, additional_forward_args=extra)
        )
    return attributions


_CAPTUM: dict[str, Callable[[nn.Module, Tensor, Tensor, Tensor, _Extra], Tensor]] = {
    "grad": _saliency,
    "input_x_grad": _input_x_gradient,
    "deeplift": _deeplift,
}
"""Attributions per dimension [R, T, H]."""

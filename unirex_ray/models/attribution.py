"""Attribution of the task model's logit to its tokens (AA extractors).

Shapes: R rows, T tokens, H hidden size, S integration steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unirex_ray.data.batching import Batch
from unirex_ray.models.task_model import TaskModel
from unirex_ray.models.views import Plan, encode_views, full_views


@lru_cache(maxsize=16)
def gauss_legendre(steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1]; the weights sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return tuple((0.5 * (1 + nodes)).tolist()), tuple((0.5 * weights).tolist())


def integrated_gradients(task_model: TaskModel, batch: Batch, classes: Tensor, *, steps: int, plan: Plan) -> Tensor:
    """IG of one logit per row with respect to the word embeddings, summed over the hidden dimension.

    The baseline is the PAD embedding, with CLS and SEP kept. Dropout is off. All steps of a sub-batch go through one
    forward and one backward pass. The result carries no gradient.

    Args:
        classes: whose logit to attribute [R] (0 for multi-choice's single scalar).

    Returns:
        Scores [R, T], any real number, 0 on CLS, SEP and padding.
    """
    nodes, weights = gauss_legendre(steps)
    table = task_model.encoder.word_embeddings
    device = batch.input_ids.device
    alpha = torch.tensor(nodes, device=device)[:, None, None, None]
    weight = torch.tensor(weights, device=device)[:, None, None, None]
    kept = batch.separators.clone()
    kept[:, 0] = True

    def attribute(ids: Tensor, places: Tensor, types: Tensor, mask: Tensor | None, rows: Tensor) -> Tensor:
        width = ids.shape[1]
        inputs = table(ids).detach()
        baseline = table.weight[batch.pad_id].detach().expand_as(inputs)
        baseline = torch.where(kept[rows, :width, None], inputs, baseline)
        path = (baseline + alpha * (inputs - baseline)).flatten(0, 1).requires_grad_()
        states, pooled = task_model.encoder(
            inputs_embeds=path,
            positions=places.repeat(steps, 1),
            token_types=types.repeat(steps, 1),
            attention_mask=None if mask is None else mask.repeat(steps, 1),
        )
        logits = task_model.read(states, pooled).float()
        chosen = logits.gather(1, classes[rows].repeat(steps)[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, path)
        mean = (weight * gradient.unflatten(0, (steps, -1))).sum(0)
        scores = ((inputs - baseline) * mean).sum(-1).float()
        if mask is not None:
            scores = scores.masked_fill(~mask, 0.0)
        return F.pad(scores, (0, batch.input_ids.shape[1] - width))

    with dropout_off(task_model), torch.enable_grad():
        narrow = replace(plan, token_budget=max(1, plan.token_budget // steps), drop=True, stream=False)
        return encode_views(batch, full_views(batch), attribute, narrow).detach()


@contextmanager
def dropout_off(module: nn.Module) -> Iterator[None]:
    """Evaluate `module` inside the block, and put every part back into the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training

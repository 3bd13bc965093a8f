"""One training step: the losses of a global batch, and their gradients on this worker.

The global batch is formed first and then split. Every count that a loss divides by is taken over the whole of it, so
that the sum of all workers' and micro-batches' terms is the batch's loss, whatever the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unirex_ray.config import LossConfig
from unirex_ray.data.batching import Batch
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.losses import comprehensiveness_loss, cross_entropy, plausibility_bce, sufficiency_loss
from unirex_ray.methods.recipe import Criterion
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.views import Plan, perturbed_views
from unirex_ray.training.runtime import Runtime


@dataclass(frozen=True)
class GlobalCounts:
    """What the losses of a global batch divide by.

    Attributes:
        instances: B.
        gold_tokens: attended tokens of rows with a gold rationale.
        positive_weight: negatives / positives among them; 1 where there are none.
    """

    instances: int
    gold_tokens: int
    positive_weight: float


def global_counts(split: EncodedSplit, instances: Sequence[int]) -> GlobalCounts:
    """Count over a global batch."""
    tokens = positives = 0
    for instance in instances:
        for row in range(instance * split.choices, (instance + 1) * split.choices):
            if split.has_gold[row]:
                start, end = int(split.offsets[row]), int(split.offsets[row + 1])
                tokens += end - start
                positives += int(split.gold[start:end].sum())
    return GlobalCounts(len(instances), tokens, (tokens - positives) / positives if positives else 1.0)


def loss_terms(
    model: RationaleModel,
    batch: Batch,
    counts: GlobalCounts,
    criteria: Sequence[Criterion],
    config: LossConfig,
    plan: Plan,
) -> dict[Criterion, Tensor]:
    """This part's share of each criterion of the global batch, unweighted scalars with gradients."""
    terms: dict[Criterion, Tensor] = {}
    if set(criteria) == {"task"}:
        row_logits = model.task_model.full_logits(batch, plan)
    else:
        row_logits, scores = model.read(batch, plan, "gold")
    full = cross_entropy(class_logits(row_logits, batch.choices), batch.labels)
    if "task" in criteria:
        terms["task"] = full.sum() / counts.instances
    if "comp" in criteria or "suff" in criteria:
        perturbed = perturbed_views(batch, scores.detach(), config.top_k_percents)
        logits = model.task_model.logits(batch, perturbed.views, plan)[perturbed.index]
        without, alone = cross_entropy(class_logits(logits, batch.choices), batch.labels)
        if "comp" in criteria:
            comp = comprehensiveness_loss(full, without, config.comp, config.comp_margin)
            terms["comp"] = comp.sum() / counts.instances
        if "suff" in criteria:
            suff = sufficiency_loss(full, alone, config.suff, config.suff_margin)
            terms["suff"] = suff.sum() / counts.instances
    if "plaus" in criteria:
        counted = batch.attended & batch.has_gold[:, None]
        plaus = plausibility_bce(scores, batch.gold, counted, counts.positive_weight)
        terms["plaus"] = plaus.sum() / max(1, counts.gold_tokens)
    return terms


def weighted_sum(terms: dict[Criterion, Tensor], config: LossConfig) -> Tensor:
    """L = L_task + a_c L_comp + a_s L_suff + a_p L_plaus (SPEC, losses)."""
    weights: dict[Criterion, float] = {
        "task": 1.0,
        "comp": config.comp_weight,
        "suff": config.suff_weight,
        "plaus": config.plaus_weight,
    }
    return torch.stack([weights[criterion] * term for criterion, term in terms.items()]).sum()


def reduce_gradients(parameters: Sequence[torch.nn.Parameter], runtime: Runtime) -> None:
    """Sum gradients over workers in one call; a parameter that no worker has a gradient for keeps none."""
    if runtime.world == 1:
        return
    present = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=runtime.device)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([present, *(grad.reshape(-1) for grad in grads)])
    runtime.all_reduce(flat)
    held, *summed = torch.split(flat, [len(parameters), *(parameter.numel() for parameter in parameters)])
    for parameter, grad, holders in zip(parameters, summed, held.tolist(), strict=True):
        parameter.grad = grad.view_as(parameter) if holders > 0 else None

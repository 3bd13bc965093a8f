"""One training step: the losses of a global batch, and their gradients on this worker.

Every count that a loss divides by is taken over the global batch, so that the terms of all workers and micro-batches
sum to the batch's loss, however the batch is split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from unirex_ray.config import LossConfig
from unirex_ray.data.batching import Batch
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.methods.recipe import WEIGHT_KEYS, Criterion
from unirex_ray.models.encoder import Encoder
from unirex_ray.models.extractor import ExtractorOutput, ImitationExtractor
from unirex_ray.models.importance import importance_classes
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.token_subsets import ForwardPlan
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
from unirex_ray.training.runtime import Runtime

BUCKET = 8_000_000
"""Numbers that workers sum in one call: enough for the network, and little beside the gradients themselves."""


@dataclass(frozen=True)
class GlobalCounts:
    """Denominators of the losses of a global batch.

    Attributes:
        instances: B.
        tokens: attended tokens of all rows.
        gold_rows: rows with a gold rationale.
        gold_tokens: attended tokens of those rows.
        positive_weight: negatives / positives among those tokens; 1 without positives.
    """

    instances: int
    tokens: int
    gold_rows: int
    gold_tokens: int
    positive_weight: float


def global_counts(split: EncodedSplit, instances: Sequence[int]) -> GlobalCounts:
    """Count over the global batch of these instances."""
    rows = (np.asarray(instances)[:, None] * split.choices + np.arange(split.choices)).ravel()
    lengths, has_gold, positives = split.lengths.numpy()[rows], split.has_gold.numpy()[rows], split.gold_per_row[rows]
    gold_tokens, gold = int(lengths[has_gold].sum()), int(positives.sum())
    weight = (gold_tokens - gold) / gold if gold else 1.0
    return GlobalCounts(len(instances), int(lengths.sum()), int(has_gold.sum()), gold_tokens, weight)


def sampled_thresholds(config: LossConfig, seed: Sequence[int]) -> LossConfig:
    """The losses on `config.sampled_top_k` of their K thresholds, drawn without replacement; in order.

    Every loss is a mean over thresholds, so its expectation is the loss on all of them.

    Args:
        seed: of the step; the same on every worker.
    """
    if config.sampled_top_k is None:
        return config
    draw = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    chosen = np.sort(draw.choice(len(config.top_k_percents), config.sampled_top_k, replace=False))
    return config.model_copy(update={"top_k_percents": tuple(config.top_k_percents[index] for index in chosen)})


def warmed_up(config: LossConfig, step: int, steps: int) -> LossConfig:
    """The losses with the faithfulness weights of a step: they rise linearly over the first `config.warmup` of a stage.

    Args:
        step: of the stage, from 0; step i of w has (i + 1)/w of alpha_c and alpha_s, so that none has 0.
        steps: that the stage has at most.
    """
    warmup_steps = math.ceil(round(config.warmup * steps, 6))
    if step >= warmup_steps:
        return config
    share = (step + 1) / warmup_steps
    weights = {"comp_weight": share * config.comp_weight, "suff_weight": share * config.suff_weight}
    return config.model_copy(update=weights)


class LossContext:
    """Model outputs on a part of a global batch, each computed once and only if a criterion asks for it.

    Shapes: B instances, R rows, T tokens, K thresholds, C classes, O task outputs; F as in `models.rationale_model`.
    """

    def __init__(
        self,
        model: RationaleModel,
        batch: Batch,
        counts: GlobalCounts,
        criteria: Sequence[Criterion],
        config: LossConfig,
        plan: ForwardPlan,
    ) -> None:
        self.model, self.batch, self.counts, self.config, self.plan = model, batch, counts, config, plan
        self._needs_scores = model.design.predicts_from == "rationale" or any(
            name in _NEEDS_SCORES for name in criteria
        )
        trained_by = [name for name in criteria if name in _TRAINS_SCORES]
        self._learn = np.full(batch.rows, bool(trained_by))
        # An extractor's own weights have a gradient in every part, be it 0: workers and AdamW rely on it.
        if trained_by == ["plaus"] and "task" in criteria and not any(True for _ in model.extractor.parameters()):
            self._learn &= batch.host_has_gold

    @cached_property
    def extracted(self) -> ExtractorOutput:
        """Scores that explain the gold label, and task logits where the extractor computes them."""
        return self.model.extract(self.batch, self.plan, "gold", learn=self._learn)

    @property
    def scores(self) -> Tensor:
        """Importance [R, T]."""
        return self.extracted.scores

    @cached_property
    def full_row_logits(self) -> Tensor:
        """Task logits per row on the input(s) of F_task [F, R, O]."""
        extracted = self.extracted if self._needs_scores else None
        return self.model.full_logits(self.batch, extracted, self.config.top_k_percents, self.plan)

    @cached_property
    def full_logits(self) -> Tensor:
        """Class logits on the input(s) of F_task [F, B, C]."""
        return class_logits(self.full_row_logits, self.batch.choices)

    @cached_property
    def full_entropy(self) -> Tensor:
        """Cross entropy of `full_logits` [F, B]."""
        return cross_entropy(self.full_logits, self.batch.labels)

    @cached_property
    def perturbed_logits(self) -> tuple[Tensor, Tensor]:
        r"""Class logits on x \ r^(k) and on r^(k), [K, B, C] each."""
        complement_logits, rationale_logits = self.model.perturbed_logits(
            self.batch, self.scores, self.full_row_logits, self.config.top_k_percents, self.plan, "original"
        )
        choices = self.batch.choices
        return class_logits(complement_logits, choices), class_logits(rationale_logits, choices)

    @cached_property
    def attention_logits(self) -> Tensor:
        """Class logits of A2R's second predictor [B, C]."""
        predictor = self.model.attention_predictor
        if predictor is None:
            raise ValueError(f"the criteria need an attention predictor, but {self.model.design} has none")
        return class_logits(predictor.logits(self.batch, self.scores, self.plan), self.batch.choices)

    def over_instances(self, terms: Tensor) -> Tensor:
        """This part's share of the mean over the global batch."""
        return terms.sum() / self.counts.instances


def _task(ctx: LossContext) -> Tensor:
    return ctx.over_instances(ctx.full_entropy.mean(0))


def _comp(ctx: LossContext) -> Tensor:
    complement_logits, _ = ctx.perturbed_logits
    complement_entropy = cross_entropy(complement_logits, ctx.batch.labels)
    terms = comprehensiveness_loss(ctx.full_entropy, complement_entropy, ctx.config.comp, ctx.config.comp_margin)
    return ctx.over_instances(terms)


def _suff(ctx: LossContext) -> Tensor:
    kind = ctx.config.suff or "margin"
    _, rationale_logits = ctx.perturbed_logits
    if kind == "kl":
        return ctx.over_instances(sufficiency_kl(ctx.full_logits, rationale_logits))
    rationale_entropy = cross_entropy(rationale_logits, ctx.batch.labels)
    return ctx.over_instances(sufficiency_loss(ctx.full_entropy, rationale_entropy, kind, ctx.config.suff_margin))


def _plaus(ctx: LossContext) -> Tensor:
    kind, batch, scores = ctx.config.plaus, ctx.batch, ctx.scores
    if kind == "bce":
        counted = batch.attended & batch.has_gold[:, None]
        terms = plausibility_bce(scores, batch.gold, counted, ctx.counts.positive_weight)
        return terms.sum() / max(1, ctx.counts.gold_tokens)
    if kind == "kl":
        terms = plausibility_kl(scores, batch.gold, batch.attended)
    else:
        margin = ctx.config.plaus_margin if kind == "linear_margin" else None
        terms = plausibility_linear(scores, batch.gold, batch.attended, margin)
    return terms.sum() / max(1, ctx.counts.gold_rows)


def _imitation(ctx: LossContext) -> Tensor:
    batch, extractor = ctx.batch, ctx.model.extractor
    if batch.teacher_scores is None or not isinstance(extractor, ImitationExtractor):
        raise ValueError(f"imitation needs teacher scores and an imitation extractor, but {ctx.model.design} lacks one")
    classes = importance_classes(batch.teacher_scores, batch.attended, batch.choices)
    terms = imitation_loss(extractor.token_logits(batch, ctx.plan), classes, batch.attended)
    return terms.sum() / ctx.counts.tokens


def _attention(ctx: LossContext) -> Tensor:
    return ctx.over_instances(cross_entropy(ctx.attention_logits, ctx.batch.labels))


def _agreement(ctx: LossContext) -> Tensor:
    return ctx.over_instances(agreement_loss(ctx.full_logits, ctx.attention_logits))


_TERMS: dict[Criterion, Callable[[LossContext], Tensor]] = {
    "task": _task,
    "comp": _comp,
    "suff": _suff,
    "plaus": _plaus,
    "imitation": _imitation,
    "attention": _attention,
    "agreement": _agreement,
}
_NEEDS_SCORES: tuple[Criterion, ...] = ("comp", "suff", "plaus", "attention", "agreement")
_TRAINS_SCORES: tuple[Criterion, ...] = ("plaus", "attention", "agreement")


def loss_terms(
    model: RationaleModel,
    batch: Batch,
    counts: GlobalCounts,
    criteria: Sequence[Criterion],
    config: LossConfig,
    plan: ForwardPlan,
) -> dict[Criterion, Tensor]:
    """This part's share of each criterion of the global batch, unweighted scalars with gradients."""
    ctx = LossContext(model, batch, counts, criteria, config, plan)
    return {criterion: _TERMS[criterion](ctx) for criterion in criteria}


def weighted_sum(terms: dict[Criterion, Tensor], config: LossConfig) -> Tensor:
    """The criteria times their weights, e.g. L = L_task + a_c L_comp + a_s L_suff + a_p L_plaus (paper, equation 1)."""

    def weight(criterion: Criterion) -> float:
        key = WEIGHT_KEYS.get(criterion)
        return 1.0 if key is None else float(getattr(config, key.removeprefix("loss.")))

    return torch.stack([weight(criterion) * term for criterion, term in terms.items()]).sum()


def use_sparse_word_gradients(model: torch.nn.Module, device: torch.device) -> None:
    """Let each encoder pass on a CPU leave the gradient of the word embeddings as the rows that it read.

    A step has a dozen passes, and to fill and add up as many dense gradients of the table takes a seventh of its time.
    """
    for module in model.modules():
        if isinstance(module, Encoder):
            module.word_embeddings.sparse = device.type == "cpu"


def densify_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Turn what `use_sparse_word_gradients` left into the gradient that optimizers and reductions read."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()


def trained_parameters(parameters: Sequence[torch.nn.Parameter], runtime: Runtime) -> list[torch.nn.Parameter]:
    """Those that have a gradient on some worker."""
    has_gradient = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=runtime.device)
    runtime.all_reduce(has_gradient)
    return [parameter for parameter, workers in zip(parameters, has_gradient.tolist(), strict=True) if workers > 0]


def reduce_gradients(parameters: Sequence[torch.nn.Parameter], runtime: Runtime) -> None:
    """Sum gradients over workers, a bucket of parameters at a time; one that a worker lacks counts as 0 there."""
    for bucket in _buckets(parameters):
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in bucket])
        runtime.all_reduce(flat)
        for parameter, total in zip(bucket, torch.split(flat, [p.numel() for p in bucket]), strict=True):
            parameter.grad = total.view_as(parameter)


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Runs of parameters of `BUCKET` numbers at most, or of a single larger one."""
    bucket: list[torch.nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and size + parameter.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket

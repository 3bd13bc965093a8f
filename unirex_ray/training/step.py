"""One training step: the losses of a global batch, and their gradients on this worker.

The global batch is formed first and then split. Every count that a loss divides by is taken over the whole of it, so
that the sum of all workers' and micro-batches' terms is the batch's loss, whatever the split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unirex_ray.config import LossConfig
from unirex_ray.data.batching import Batch
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.methods.recipe import WEIGHT_KEYS, Criterion
from unirex_ray.models.extractor import ImitationExtractor, Reading
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


@dataclass(frozen=True)
class GlobalCounts:
    """What the losses of a global batch divide by.

    Attributes:
        instances: B.
        tokens: attended tokens of all rows.
        gold_rows: rows with a gold rationale.
        gold_tokens: attended tokens of these.
        positive_weight: negatives / positives among them; 1 where there are none.
    """

    instances: int
    tokens: int
    gold_rows: int
    gold_tokens: int
    positive_weight: float


def global_counts(split: EncodedSplit, instances: Sequence[int]) -> GlobalCounts:
    """Count over a global batch."""
    tokens = gold_rows = gold_tokens = positives = 0
    for instance in instances:
        for row in range(instance * split.choices, (instance + 1) * split.choices):
            start, end = int(split.offsets[row]), int(split.offsets[row + 1])
            tokens += end - start
            if split.has_gold[row]:
                gold_rows += 1
                gold_tokens += end - start
                positives += int(split.gold[start:end].sum())
    weight = (gold_tokens - positives) / positives if positives else 1.0
    return GlobalCounts(len(instances), tokens, gold_rows, gold_tokens, weight)


class Pass:
    """A part of a global batch on its way through the model: what criteria ask for is computed once, nothing else is.

    Attributes:
        reading: task logits on the text, where they came along, and scores (`RationaleModel.read`).
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
        self._needs_scores = model.design.predicts_from == "rationale" or any(name in _ON_SCORES for name in criteria)
        self._learn = any(name in _TRAINS_SCORES for name in criteria)

    @cached_property
    def reading(self) -> Reading:
        """Scores explain the gold label in training."""
        return self.model.read(self.batch, self.plan, "gold", learn=self._learn)

    @property
    def scores(self) -> Tensor:
        """Importance [R, T]."""
        return self.reading[1]

    @cached_property
    def full_logits(self) -> Tensor:
        """On what F_task predicts from [F, R, O]."""
        reading = self.reading if self._needs_scores else None
        return self.model.full_logits(self.batch, reading, self.config.top_k_percents, self.plan)

    @cached_property
    def full(self) -> Tensor:
        """The same by class [F, B, C]."""
        return class_logits(self.full_logits, self.batch.choices)

    @cached_property
    def full_entropy(self) -> Tensor:
        """Cross entropy of `full` [F, B]."""
        return cross_entropy(self.full, self.batch.labels)

    @cached_property
    def perturbed(self) -> tuple[Tensor, Tensor]:
        r"""Class logits on x \ r^(k) and on r^(k), [K, B, C] each; the selection has no gradient."""
        without, alone = self.model.perturbed_logits(
            self.batch, self.scores.detach(), self.full_logits, self.config.top_k_percents, self.plan, "original"
        )
        return class_logits(without, self.batch.choices), class_logits(alone, self.batch.choices)

    @cached_property
    def attention(self) -> Tensor:
        """Class logits of A2R's second predictor [B, C]."""
        predictor = self.model.attention_predictor
        if predictor is None:
            raise ValueError(f"the criteria ask for an attention predictor, which {self.model.design} has not")
        return class_logits(predictor.logits(self.batch, self.scores, self.plan), self.batch.choices)

    def over_instances(self, terms: Tensor) -> Tensor:
        """This part's share of the mean over the global batch."""
        return terms.sum() / self.counts.instances


def _task(step: Pass) -> Tensor:
    return step.over_instances(step.full_entropy.mean(0))


def _comp(step: Pass) -> Tensor:
    without = cross_entropy(step.perturbed[0], step.batch.labels)
    terms = comprehensiveness_loss(step.full_entropy, without, step.config.comp, step.config.comp_margin)
    return step.over_instances(terms)


def _suff(step: Pass) -> Tensor:
    kind, alone = step.config.suff or "margin", step.perturbed[1]
    if kind == "kl":
        return step.over_instances(sufficiency_kl(step.full, alone))
    entropy = cross_entropy(alone, step.batch.labels)
    return step.over_instances(sufficiency_loss(step.full_entropy, entropy, kind, step.config.suff_margin))


def _plaus(step: Pass) -> Tensor:
    kind, batch, scores = step.config.plaus, step.batch, step.scores
    if kind == "bce":
        counted = batch.attended & batch.has_gold[:, None]
        terms = plausibility_bce(scores, batch.gold, counted, step.counts.positive_weight)
        return terms.sum() / max(1, step.counts.gold_tokens)
    if kind == "kl":
        terms = plausibility_kl(scores, batch.gold, batch.attended)
    else:
        margin = step.config.plaus_margin if kind == "linear_margin" else None
        terms = plausibility_linear(scores, batch.gold, batch.attended, margin)
    return terms.sum() / max(1, step.counts.gold_rows)


def _imitation(step: Pass) -> Tensor:
    batch, extractor = step.batch, step.model.extractor
    if batch.teacher_scores is None or not isinstance(extractor, ImitationExtractor):
        raise ValueError(f"nothing to imitate: no scores were handed on, or {step.model.design} imitates none")
    classes = importance_classes(batch.teacher_scores, batch.attended, batch.choices)
    terms = imitation_loss(extractor.token_logits(batch, step.plan), classes, batch.attended)
    return terms.sum() / step.counts.tokens


def _attention(step: Pass) -> Tensor:
    return step.over_instances(cross_entropy(step.attention, step.batch.labels))


def _agreement(step: Pass) -> Tensor:
    return step.over_instances(agreement_loss(step.full, step.attention))


_TERMS: dict[Criterion, Callable[[Pass], Tensor]] = {
    "task": _task,
    "comp": _comp,
    "suff": _suff,
    "plaus": _plaus,
    "imitation": _imitation,
    "attention": _attention,
    "agreement": _agreement,
}
_ON_SCORES: tuple[Criterion, ...] = ("comp", "suff", "plaus", "attention", "agreement")
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
    step = Pass(model, batch, counts, criteria, config, plan)
    return {criterion: _TERMS[criterion](step) for criterion in criteria}


def weighted_sum(terms: dict[Criterion, Tensor], config: LossConfig) -> Tensor:
    """The criteria times their weights, e.g. L = L_task + a_c L_comp + a_s L_suff + a_p L_plaus (SPEC, losses)."""

    def weight(criterion: Criterion) -> float:
        key = WEIGHT_KEYS.get(criterion)
        return 1.0 if key is None else float(getattr(config, key.removeprefix("loss.")))

    return torch.stack([weight(criterion) * term for criterion, term in terms.items()]).sum()


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

"""Evaluation of a split: every metric as sums and counts, so that neither batch size nor workers change a value."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from unirex_ray.config import Config
from unirex_ray.data.batching import Batch, collate, sorted_chunks
from unirex_ray.data.encoded import EncodedCorpus, EncodedSplit, SpecialTokens
from unirex_ray.data.schema import TaskMetric
from unirex_ray.metrics import faithfulness, plausibility, task
from unirex_ray.metrics.moments import MOMENTS, mean, moments, standard_error
from unirex_ray.metrics.table import (
    ACCURACY,
    AUPRC,
    BINARY_F1,
    COMPREHENSIVENESS,
    CONVERGENCE_DELTA,
    CSD,
    LOG_ODDS,
    LOSS,
    MACRO_F1,
    METRIC_TOP_K_PERCENTS,
    STANDARD_ERRORS,
    SUFFICIENCY,
    TASK_SCORE,
    TOKEN_F1,
)
from unirex_ray.metrics.verdict import verdict
from unirex_ray.models.attribution import convergence_delta, dropout_off
from unirex_ray.models.extractor import ExtractorOutput, attributed_classes
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.losses import cross_entropy
from unirex_ray.training.runtime import Runtime, uses_bf16
from unirex_ray.training.setup import TrialSetup

_MEANS = {
    LOSS.key: 1.0,
    COMPREHENSIVENESS.key: 1.0,
    SUFFICIENCY.key: 1.0,
    AUPRC.key: 100.0,
    TOKEN_F1.key: 100.0,
    LOG_ODDS.key: 1.0,
    CONVERGENCE_DELTA.key: 1.0,
}
"""Metrics that are means over instances or over their rows, by key, with the factor of what is reported."""

Sums = dict[str, Tensor]
"""Moments (see `metrics.moments`) by key as in `_MEANS`."""

CHUNK = 64


@dataclass
class Stopwatch:
    """Seconds spent on extracting scores, and on how many instances."""

    seconds: float = 0.0
    instances: int = 0

    @property
    def per_instance(self) -> float:
        """Seconds; 0 before anything was timed."""
        return self.seconds / max(1, self.instances)


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a model; every worker takes its share of the instances.

    Attributes:
        convergence_delta: whether to measure how far IG's scores are from complete.
        log_odds: whether to measure log-odds.
        classes: of the corpus.
        class_map: the corpus' class of each of the model's; None where they are the same. There is no loss where two of
            the model's classes map to one.
        stopwatch: runs while scores are extracted, with the prediction that they explain.
    """

    model: RationaleModel
    special_tokens: SpecialTokens
    classes: int
    task_metric: TaskMetric
    plan: ForwardPlan
    runtime: Runtime
    bf16: bool = False
    convergence_delta: bool = False
    log_odds: bool = False
    class_map: tuple[int, ...] | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    @torch.no_grad()
    def __call__(self, split: EncodedSplit, *, explain: bool = True) -> dict[str, float]:
        """Metrics of a split by key, without its prefix.

        Args:
            explain: all of them, plausibility only where the split has gold rationales; otherwise the task's alone.
        """
        inputs = max(1, len(self.model.design.rationales(METRIC_TOP_K_PERCENTS)))
        sums = torch.zeros(len(_MEANS), MOMENTS, dtype=torch.float64)
        confusion = torch.zeros(inputs, self.classes, self.classes, dtype=torch.float64)
        own_share = range(self.runtime.rank, len(split), self.runtime.world)
        with dropout_off(self.model):
            for chunk in sorted_chunks(split, own_share, CHUNK):
                part, matrices = self._chunk(
                    collate(split, chunk, self.special_tokens).to(self.runtime.device), explain
                )
                sums += torch.stack([part.get(key, torch.zeros_like(sums[0])) for key in _MEANS])
                confusion += matrices
        total = torch.cat([sums.flatten(), confusion.flatten()]).to(self.runtime.device)
        self.runtime.all_reduce(total)
        total = total.cpu()
        matrices = total[sums.numel() :].view_as(confusion)
        by_key = dict(zip(_MEANS, total[: sums.numel()].view_as(sums), strict=True))
        metrics = {key: _MEANS[key] * mean(part) for key, part in by_key.items() if part[0] > 0}
        metrics = metrics | self._task_metrics(matrices)
        if not explain:
            return metrics
        metrics[CSD.key] = metrics[COMPREHENSIVENESS.key] - metrics[SUFFICIENCY.key]
        return metrics | self._standard_errors(by_key, matrices) | verdict(matrices, self.task_metric)

    def _chunk(self, batch: Batch, explain: bool) -> tuple[Sums, Tensor]:
        """Sums over a chunk, and a confusion matrix per input that F_task predicts from."""
        needs_scores = explain or self.model.design.predicts_from == "rationale"
        with self._autocast():
            extracted = self._timed_extraction(batch) if needs_scores else None
            full_row_logits = self.model.full_logits(batch, extracted, METRIC_TOP_K_PERCENTS, self.plan)
        full_logits = class_logits(full_row_logits, batch.choices)
        classes = self._classes
        sums = {}
        if self._one_to_one:
            labels = classes.argsort()[batch.labels]
            sums[LOSS.key] = moments(cross_entropy(full_logits.double(), labels).mean(0))
        confusion = [
            task.confusion_matrix(batch.labels, classes[logits.argmax(-1)], self.classes) for logits in full_logits
        ]
        if explain and extracted is not None:
            sums |= self._explanation_sums(batch, extracted, full_row_logits)
        return sums, torch.stack(confusion).cpu()

    def _explanation_sums(self, batch: Batch, extracted: ExtractorOutput, full_row_logits: Tensor) -> Sums:
        model, scores, percents, plan = self.model, extracted.scores, METRIC_TOP_K_PERCENTS, self.plan
        with self._autocast():
            perturbed = model.perturbed_logits(batch, scores, full_row_logits, percents, plan, "fresh")
        full_logits = class_logits(full_row_logits, batch.choices)
        complement_logits, rationale_logits = (class_logits(logits, batch.choices) for logits in perturbed)
        sums = {
            COMPREHENSIVENESS.key: moments(faithfulness.comprehensiveness(full_logits, complement_logits)),
            SUFFICIENCY.key: moments(faithfulness.sufficiency(full_logits, rationale_logits)),
            **_plausibility(batch, scores),
        }
        if self.log_odds:
            with self._autocast():
                padded_logits = class_logits(model.padded_logits(batch, extracted, percents, plan), batch.choices)
            sums[LOG_ODDS.key] = moments(faithfulness.log_odds(full_logits, padded_logits))
        if self.convergence_delta:
            attributed = attributed_classes(extracted.task_logits, batch)
            delta = convergence_delta(model.task_model, batch, attributed, scores, plan)
            sums[CONVERGENCE_DELTA.key] = _row_moments(delta, torch.ones_like(delta), batch)
        return sums

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.runtime.device.type, torch.bfloat16, enabled=self.bf16)

    @cached_property
    def _classes(self) -> Tensor:
        """The corpus' class of each of the model's."""
        classes = torch.arange(self.classes) if self.class_map is None else torch.tensor(self.class_map)
        return classes.to(self.runtime.device)

    @cached_property
    def _one_to_one(self) -> bool:
        return sorted(self._classes.tolist()) == list(range(self.classes))

    def _timed_extraction(self, batch: Batch) -> ExtractorOutput:
        device = batch.input_ids.device
        started = time.perf_counter()
        extracted = self.model.extract(batch, self.plan)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.stopwatch.seconds += time.perf_counter() - started
        self.stopwatch.instances += len(batch.ids)
        return extracted

    def _task_metrics(self, confusion: Tensor) -> dict[str, float]:
        """Means over the inputs that F_task predicts from."""
        reported: dict[str, TaskMetric] = {ACCURACY.key: "accuracy", MACRO_F1.key: "macro_f1"}
        if self.task_metric == "binary_f1":
            reported[BINARY_F1.key] = "binary_f1"
        scores = {
            key: 100 * math.fsum(float(task.TASK_SCORES[name](matrix)) for matrix in confusion) / len(confusion)
            for key, name in reported.items()
        }
        return {TASK_SCORE.key: scores[self.task_metric], **scores}

    def _standard_errors(self, sums: Sums, confusion: Tensor) -> dict[str, float]:
        """Over instances, of each metric of NRG that there is; over several inputs the mean, which is a bound."""
        score = task.TASK_SCORES[self.task_metric]
        errors = {
            TASK_SCORE.key: 100 * math.fsum(task.score_error(score, matrix) for matrix in confusion) / len(confusion)
        }
        for key in (COMPREHENSIVENESS.key, SUFFICIENCY.key, AUPRC.key, TOKEN_F1.key):
            error = standard_error(sums[key])
            if error is not None:
                errors[key] = _MEANS[key] * error
        return {STANDARD_ERRORS[key].key: error for key, error in errors.items()}


def make_evaluator(
    model: RationaleModel,
    encoded: EncodedCorpus,
    config: Config,
    plan: ForwardPlan,
    runtime: Runtime,
    *,
    class_map: tuple[int, ...] | None = None,
) -> Evaluator:
    """An evaluator of a model on a corpus, as a configuration asks for it.

    Args:
        class_map: see `Evaluator`.
    """
    attributes = model.design.extractor == "aa-ig" and config.model.pooling == "sum"
    return Evaluator(
        model=model,
        special_tokens=encoded.special_tokens,
        classes=encoded.classes,
        task_metric=encoded.task_metric,
        plan=plan,
        runtime=runtime,
        bf16=uses_bf16(config.train, runtime.device),
        convergence_delta=config.model.convergence_delta and attributes,
        log_odds=config.model.log_odds,
        class_map=class_map,
    )


@torch.no_grad()
def score_split(model: RationaleModel, split: EncodedSplit, setup: TrialSetup, runtime: Runtime) -> Tensor:
    """Importance of every token of a split for the predicted label [tokens]; each worker scores its share."""
    scores = torch.zeros(len(split.input_ids), device=runtime.device)
    own_share = range(runtime.rank, len(split), runtime.world)
    bf16 = uses_bf16(setup.config.train, runtime.device)
    with dropout_off(model):
        for chunk in sorted_chunks(split, own_share, CHUNK):
            batch = collate(split, chunk, setup.encoded.special_tokens).to(runtime.device)
            with torch.autocast(runtime.device.type, torch.bfloat16, enabled=bf16):
                scores_of_chunk = model.scores(batch, setup.forward_plan)
            rows = [instance * split.choices + choice for instance in chunk for choice in range(split.choices)]
            tokens = [torch.arange(int(split.offsets[row]), int(split.offsets[row + 1])) for row in rows]
            scores[torch.cat(tokens).to(scores.device)] = scores_of_chunk[batch.attended]
    runtime.all_reduce(scores)
    return scores.cpu()


def _plausibility(batch: Batch, scores: Tensor) -> Sums:
    """AUPRC and token F1, each in [0, 1], over the rows with gold."""
    columns = np.zeros((2, batch.rows))
    values, gold, lengths = scores.double().cpu().numpy(), batch.gold.cpu().numpy(), batch.host_lengths.tolist()
    for row in batch.host_has_gold.nonzero()[0].tolist():
        s, g = values[row, : lengths[row]], gold[row, : lengths[row]]
        columns[:, row] = plausibility.auprc(s, g), plausibility.token_f1(s, g)
    auprc, token_f1 = torch.from_numpy(columns)
    return {
        AUPRC.key: _row_moments(auprc, batch.has_gold, batch),
        TOKEN_F1.key: _row_moments(token_f1, batch.has_gold, batch),
    }


def _row_moments(values: Tensor, counted: Tensor, batch: Batch) -> Tensor:
    """Moments over instances of a mean over their rows: values [R], which of them count [R]."""
    counts = counted.cpu().double()
    by_instance = (values.cpu().double() * counts).view(-1, batch.choices).sum(1)
    return moments(by_instance, counts.view(-1, batch.choices).sum(1))

"""Evaluation of a split, instance by instance, so that neither batch size nor workers change a value."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from unirex_ray.config import Config
from unirex_ray.data.batching import Batch, collate, sorted_chunks
from unirex_ray.data.encoded import EncodedCorpus, EncodedSplit, SpecialTokens
from unirex_ray.data.progress_bar import terminal_bar
from unirex_ray.data.schema import TaskMetric
from unirex_ray.metrics import plausibility
from unirex_ray.metrics.faithfulness import confidence_drop, log_odds
from unirex_ray.metrics.instances import (
    COMP,
    PLAUSIBILITY,
    PREDICTED_AT,
    PROBABILITY_AT,
    SUFF,
    InstanceResults,
    split_metrics,
)
from unirex_ray.metrics.table import CONVERGENCE_DELTA, LOG_ODDS, LOSS, METRIC_TOP_K_PERCENTS
from unirex_ray.models.attribution import convergence_delta, dropout_off
from unirex_ray.models.extractor import ExtractorOutput, attributed_classes
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.losses import cross_entropy
from unirex_ray.training.runtime import Runtime, uses_bf16
from unirex_ray.training.setup import TrialSetup

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


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitResults:
    """What an evaluation finds.

    Attributes:
        metrics: by key, without the split's prefix.
        scores: importance of every token of the split [tokens]; empty where they were not asked for.
    """

    metrics: dict[str, float]
    instances: InstanceResults
    scores: Tensor


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
    def __call__(self, split: EncodedSplit, *, explain: bool = True, keep_scores: bool = False) -> SplitResults:
        """Results on a split, equal on every worker.

        Args:
            explain: everything, plausibility only where the split has gold rationales; otherwise the task's alone.
            keep_scores: whether importance scores are part of the results; they are extracted for that where nothing
                else needs them.
        """
        columns = self._columns(split, explain)
        values = torch.zeros(len(columns), len(split), dtype=torch.float64)
        scores = torch.zeros(len(split.input_ids) if keep_scores else 0)
        own_share = range(self.runtime.rank, len(split), self.runtime.world)
        with dropout_off(self.model):
            chunks = sorted_chunks(split, own_share, CHUNK)
            for chunk in terminal_bar(chunks, "explaining" if explain else "predicting", unit="batches"):
                batch = collate(split, chunk, self.special_tokens).to(self.runtime.device)
                found, importance = self._chunk(batch, explain, keep_scores)
                values[:, chunk] = torch.stack([found[name].cpu().double() for name in columns])
                if keep_scores and importance is not None:
                    scores[_tokens_of(split, chunk)] = importance[batch.attended].float().cpu()
        values, scores = self._over_workers(values), self._over_workers(scores)
        results = self._results(split, dict(zip(columns, values.numpy(), strict=True)))
        return SplitResults(metrics=split_metrics(results), instances=results, scores=scores)

    def _columns(self, split: EncodedSplit, explain: bool) -> list[str]:
        """Names of what `_chunk` finds."""
        has_gold = explain and bool(split.has_gold.any())
        return [
            "predicted",
            "probability",
            *((*PREDICTED_AT, *PROBABILITY_AT) if self.model.design.rationales(METRIC_TOP_K_PERCENTS)[1:] else ()),
            *([LOSS.key] if self._one_to_one else []),
            *((*COMP, *SUFF) if explain else ()),
            *(PLAUSIBILITY if has_gold else ()),
            *([LOG_ODDS.key] if explain and self.log_odds else []),
            *([CONVERGENCE_DELTA.key] if explain and self.convergence_delta else []),
        ]

    def _over_workers(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self.runtime.device)
        self.runtime.all_reduce(tensor)
        return tensor.cpu()

    def _results(self, split: EncodedSplit, values: dict[str, np.ndarray]) -> InstanceResults:
        gold_rows = split.has_gold.numpy().reshape(-1, split.choices).sum(1)
        for name in PLAUSIBILITY:
            if name in values:
                values[name] = np.where(gold_rows > 0, values[name], np.nan)
        return InstanceResults(
            ids=tuple(split.ids),
            labels=split.labels.numpy(),
            predicted=values.pop("predicted").astype(np.int64),
            probability=values.pop("probability"),
            tokens=split.lengths.numpy().reshape(-1, split.choices).sum(1),
            gold_rows=gold_rows,
            measured=values,
            classes=self.classes,
            task_metric=self.task_metric,
        )

    def _chunk(self, batch: Batch, explain: bool, scored: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Columns [B] of a chunk's instances, and importance scores [R, T] where they are needed or asked for."""
        needs_scores = explain or scored or self.model.design.predicts_from == "rationale"
        with self._autocast():
            extracted = self._timed_extraction(batch) if needs_scores else None
            full_row_logits = self.model.full_logits(batch, extracted, METRIC_TOP_K_PERCENTS, self.plan)
        full_logits = class_logits(full_row_logits, batch.choices)
        classes = self._classes
        # A pipeline predicts from the rationale of every threshold: what is shown is its mean.
        probabilities = torch.softmax(full_logits.double(), -1)
        probability, predicted = probabilities.mean(0).max(-1)
        found = {"predicted": classes[predicted], "probability": probability}
        found |= {name: classes[votes.argmax(-1)] for name, votes in zip(PREDICTED_AT, full_logits, strict=False)}
        found |= dict(zip(PROBABILITY_AT, probabilities.amax(-1), strict=False))
        if self._one_to_one:
            labels = classes.argsort()[batch.labels]
            found[LOSS.key] = cross_entropy(full_logits.double(), labels).mean(0)
        if explain and extracted is not None:
            found |= self._explanation(batch, extracted, full_row_logits)
        return found, None if extracted is None else extracted.scores

    def _explanation(self, batch: Batch, extracted: ExtractorOutput, full_row_logits: Tensor) -> dict[str, Tensor]:
        model, scores, percents, plan = self.model, extracted.scores, METRIC_TOP_K_PERCENTS, self.plan
        with self._autocast():
            perturbed = model.perturbed_logits(batch, scores, full_row_logits, percents, plan, "fresh")
        full_logits = class_logits(full_row_logits, batch.choices)
        complement_logits, rationale_logits = (class_logits(logits, batch.choices) for logits in perturbed)
        found = {
            **dict(zip(COMP, confidence_drop(full_logits, complement_logits), strict=True)),
            **dict(zip(SUFF, confidence_drop(full_logits, rationale_logits), strict=True)),
            **_plausibility(batch, scores),
        }
        if self.log_odds:
            with self._autocast():
                padded_logits = class_logits(model.padded_logits(batch, extracted, percents, plan), batch.choices)
            found[LOG_ODDS.key] = log_odds(full_logits, padded_logits)
        if self.convergence_delta:
            attributed = attributed_classes(extracted.task_logits, batch)
            delta = convergence_delta(model.task_model, batch, attributed, scores, plan)
            found[CONVERGENCE_DELTA.key] = delta.double().view(-1, batch.choices).mean(1)
        return found

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
            scores[_tokens_of(split, chunk).to(scores.device)] = scores_of_chunk[batch.attended]
    runtime.all_reduce(scores)
    return scores.cpu()


def _tokens_of(split: EncodedSplit, chunk: Sequence[int]) -> Tensor:
    """Where the tokens of a chunk's instances lie in the split, row by row."""
    rows = [instance * split.choices + choice for instance in chunk for choice in range(split.choices)]
    return torch.cat([torch.arange(int(split.offsets[row]), int(split.offsets[row + 1])) for row in rows])


def _plausibility(batch: Batch, scores: Tensor) -> dict[str, Tensor]:
    """AUPRC and token F1, x100, means over each instance's rows with gold [B]; 0 where there are none."""
    columns = np.zeros((2, batch.rows))
    values, gold, lengths = scores.double().cpu().numpy(), batch.gold.cpu().numpy(), batch.host_lengths.tolist()
    for row in batch.host_has_gold.nonzero()[0].tolist():
        s, g = values[row, : lengths[row]], gold[row, : lengths[row]]
        columns[:, row] = plausibility.auprc(s, g), plausibility.token_f1(s, g)
    sums = columns.reshape(2, -1, batch.choices).sum(2)
    means = 100 * sums / np.maximum(1, batch.host_has_gold.reshape(-1, batch.choices).sum(1))
    return dict(zip(PLAUSIBILITY, torch.from_numpy(means), strict=True))

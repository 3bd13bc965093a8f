"""Evaluation of a split: every metric as sums and counts, so that neither batch size nor workers change a value."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
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
from unirex_ray.metrics.table import (
    ACCURACY,
    AUPRC,
    BINARY_F1,
    COMPREHENSIVENESS,
    CONVERGENCE_DELTA,
    CSD,
    LOSS,
    MACRO_F1,
    METRIC_TOP_K_PERCENTS,
    SUFFICIENCY,
    TASK_SCORE,
    TOKEN_F1,
)
from unirex_ray.models.attribution import convergence_delta, dropout_off
from unirex_ray.models.extractor import ExtractorOutput, attributed_classes
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.losses import cross_entropy
from unirex_ray.training.runtime import Runtime, uses_bf16
from unirex_ray.training.setup import TrialSetup

_SUMS = (
    "loss",
    "comprehensiveness",
    "sufficiency",
    "auprc",
    "token_f1",
    "rows_with_gold",
    "convergence_delta",
    "rows",
)
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
    class_map: tuple[int, ...] | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    @torch.no_grad()
    def __call__(self, split: EncodedSplit, *, explain: bool = True) -> dict[str, float]:
        """Metrics of a split by key, without its prefix.

        Args:
            explain: all of them, plausibility only where the split has gold rationales; otherwise the task's alone.
        """
        inputs = max(1, len(self.model.design.rationales(METRIC_TOP_K_PERCENTS)))
        sums = torch.zeros(len(_SUMS), dtype=torch.float64)
        confusion = torch.zeros(inputs, self.classes, self.classes, dtype=torch.float64)
        own_share = range(self.runtime.rank, len(split), self.runtime.world)
        with dropout_off(self.model):
            for chunk in sorted_chunks(split, own_share, CHUNK):
                part, matrices = self._chunk(
                    collate(split, chunk, self.special_tokens).to(self.runtime.device), explain
                )
                sums += torch.tensor([part.get(name, 0.0) for name in _SUMS], dtype=torch.float64)
                confusion += matrices
        total = torch.cat([sums, confusion.flatten()]).to(self.runtime.device)
        self.runtime.all_reduce(total)
        total = total.cpu()
        matrices = total[len(_SUMS) :].view_as(confusion)
        named = dict(zip(_SUMS, total.tolist(), strict=False))
        return self._task_metrics(named, matrices) | (self._explanation_metrics(named, matrices) if explain else {})

    def _chunk(self, batch: Batch, explain: bool) -> tuple[dict[str, float], Tensor]:
        """Sums over a chunk, and a confusion matrix per input that F_task predicts from."""
        model, percents = self.model, METRIC_TOP_K_PERCENTS
        needs_scores = explain or model.design.predicts_from == "rationale"
        with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=self.bf16):
            extracted = self._timed_extraction(batch) if needs_scores else None
            full_row_logits = model.full_logits(batch, extracted, percents, self.plan)
        full_logits = class_logits(full_row_logits, batch.choices)
        classes = self._classes
        sums = {}
        if self._one_to_one:
            labels = classes.argsort()[batch.labels]
            sums["loss"] = float(cross_entropy(full_logits.double(), labels).mean(0).sum())
        confusion = [
            task.confusion_matrix(batch.labels, classes[logits.argmax(-1)], self.classes) for logits in full_logits
        ]
        if explain and extracted is not None:
            scores = extracted.scores
            with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=self.bf16):
                perturbed = model.perturbed_logits(batch, scores, full_row_logits, percents, self.plan, "fresh")
            complement_logits, rationale_logits = (class_logits(logits, batch.choices) for logits in perturbed)
            sums["comprehensiveness"] = float(faithfulness.comprehensiveness(full_logits, complement_logits).sum())
            sums["sufficiency"] = float(faithfulness.sufficiency(full_logits, rationale_logits).sum())
            sums |= _plausibility(batch, scores)
            if self.convergence_delta:
                attributed = attributed_classes(extracted.task_logits, batch)
                delta = convergence_delta(model.task_model, batch, attributed, scores, self.plan)
                sums |= {"convergence_delta": float(delta.sum()), "rows": batch.rows}
        return sums, torch.stack(confusion).cpu()

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
        start = time.perf_counter()
        extracted = self.model.extract(batch, self.plan)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.stopwatch.seconds += time.perf_counter() - start
        self.stopwatch.instances += len(batch.ids)
        return extracted

    def _task_metrics(self, sums: Mapping[str, float], confusion: Tensor) -> dict[str, float]:
        """Means over the inputs that F_task predicts from."""
        inputs, count = len(confusion), float(confusion[0].sum())
        scores = {
            ACCURACY.key: 100 * math.fsum(map(task.accuracy, confusion)) / inputs,
            MACRO_F1.key: 100 * math.fsum(map(task.macro_f1, confusion)) / inputs,
        }
        if self.task_metric == "binary_f1":
            scores[BINARY_F1.key] = 100 * math.fsum(map(task.binary_f1, confusion)) / inputs
        loss = {LOSS.key: sums["loss"] / count} if self._one_to_one else {}
        return {**loss, TASK_SCORE.key: scores[self.task_metric], **scores}

    def _explanation_metrics(self, sums: Mapping[str, float], confusion: Tensor) -> dict[str, float]:
        count = float(confusion[0].sum())
        comp, suff = sums["comprehensiveness"] / count, sums["sufficiency"] / count
        metrics = {COMPREHENSIVENESS.key: comp, SUFFICIENCY.key: suff, CSD.key: comp - suff}
        if sums["rows_with_gold"]:
            metrics[AUPRC.key] = 100 * sums["auprc"] / sums["rows_with_gold"]
            metrics[TOKEN_F1.key] = 100 * sums["token_f1"] / sums["rows_with_gold"]
        if self.convergence_delta:
            metrics[CONVERGENCE_DELTA.key] = sums["convergence_delta"] / sums["rows"]
        return metrics


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


def _plausibility(batch: Batch, scores: Tensor) -> dict[str, float]:
    """Sums of AUPRC and token F1 over the rows with gold, each in [0, 1], and how many rows those are."""
    sums = np.zeros(3)
    values, gold, lengths = scores.double().cpu().numpy(), batch.gold.cpu().numpy(), batch.lengths.tolist()
    for row in batch.has_gold.nonzero().flatten().tolist():
        s, g = values[row, : lengths[row]], gold[row, : lengths[row]]
        sums += (plausibility.auprc(s, g), plausibility.token_f1(s, g), 1)
    return dict(zip(("auprc", "token_f1", "rows_with_gold"), sums.tolist(), strict=True))

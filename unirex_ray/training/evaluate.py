"""Evaluation of a split: every metric as sums and counts, so that neither batch size nor workers change a value."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from unirex_ray.data.batching import Batch, SpecialTokens, collate, sorted_chunks
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.highlight import HighlightedInstance, highlight_row
from unirex_ray.data.instance import Instance
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
from unirex_ray.models.extractor import Reading, attributed_classes
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.models.top_k import selection_sizes, token_ranks
from unirex_ray.training.losses import cross_entropy
from unirex_ray.training.runtime import Runtime

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
HIGHLIGHTS = 40


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
        class_map: the corpus' class of each of the model's; None where they are the same. Without a loss where it is
            not one to one.
        stopwatch: runs while scores are extracted, with the prediction that they explain.
    """

    model: RationaleModel
    tokens: SpecialTokens
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
        mine = range(self.runtime.rank, len(split), self.runtime.world)
        with dropout_off(self.model):
            for chunk in sorted_chunks(split, mine, CHUNK):
                part, matrices = self._chunk(collate(split, chunk, self.tokens).to(self.runtime.device), explain)
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
            reading = self._timed_reading(batch) if needs_scores else None
            full_logits = model.full_logits(batch, reading, percents, self.plan)
        full = class_logits(full_logits, batch.choices)
        answers = self._classes
        sums = {}
        if self._one_to_one:
            labels = answers.argsort()[batch.labels]
            sums["loss"] = float(cross_entropy(full.double(), labels).mean(0).sum())
        confusion = [task.confusion_matrix(batch.labels, answers[each.argmax(-1)], self.classes) for each in full]
        if explain and reading is not None:
            scores = reading[1]
            with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=self.bf16):
                perturbed = model.perturbed_logits(batch, scores, full_logits, percents, self.plan, "fresh")
            without, alone = (class_logits(logits, batch.choices) for logits in perturbed)
            sums["comprehensiveness"] = float(faithfulness.comprehensiveness(full, without).sum())
            sums["sufficiency"] = float(faithfulness.sufficiency(full, alone).sum())
            sums |= _plausibility(batch, scores)
            if self.convergence_delta:
                classes = attributed_classes(reading[0], batch)
                delta = convergence_delta(model.task_model, batch, classes, scores, self.plan)
                sums |= {"convergence_delta": float(delta.sum()), "rows": batch.rows}
        return sums, torch.stack(confusion).cpu()

    @cached_property
    def _classes(self) -> Tensor:
        """The corpus' class of each of the model's."""
        answers = torch.arange(self.classes) if self.class_map is None else torch.tensor(self.class_map)
        return answers.to(self.runtime.device)

    @cached_property
    def _one_to_one(self) -> bool:
        return sorted(self._classes.tolist()) == list(range(self.classes))

    def _timed_reading(self, batch: Batch) -> Reading:
        device = batch.input_ids.device
        start = time.perf_counter()
        reading = self.model.read(batch, self.plan)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.stopwatch.seconds += time.perf_counter() - start
        self.stopwatch.instances += len(batch.ids)
        return reading

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

    @torch.no_grad()
    def highlight(
        self,
        split: EncodedSplit,
        instances: Sequence[Instance],
        labels: Sequence[str],
        *,
        top_k_percent: int = 20,
        known_label: bool = True,
    ) -> tuple[HighlightedInstance, ...]:
        """Predict instances and mark their top-k% rationales.

        Args:
            split: the encoded `instances`, in the same order.
            labels: class names of the corpus by index; for multi-choice the choices are numbered.
            top_k_percent: of no effect on a rationale that has a size of its own (FRESH).
        """
        top_k_percent = self.model.design.top_k_percent or top_k_percent
        shown: list[HighlightedInstance] = []
        numbers = range(len(instances))
        with dropout_off(self.model):
            for chunk in (list(numbers[start : start + CHUNK]) for start in range(0, len(numbers), CHUNK)):
                batch = collate(split, chunk, self.tokens).to(self.runtime.device)
                reading = self.model.read(batch, self.plan)
                full = self.model.full_logits(batch, reading, METRIC_TOP_K_PERCENTS, self.plan)
                # A pipeline predicts from the rationale of every threshold: what is shown is its mean.
                chances = torch.softmax(class_logits(full, batch.choices).double(), -1).mean(0)
                scores = reading[1]
                sizes = selection_sizes(batch.lengths, [top_k_percent])[0]
                selected = token_ranks(scores, batch.lengths) < sizes[:, None]
                for place, number in enumerate(chunk):
                    instance = instances[number]
                    predicted = int(chances[place].argmax())
                    answer = predicted if self.class_map is None else self.class_map[predicted]
                    rows = range(place * batch.choices, (place + 1) * batch.choices)
                    inputs = tuple(
                        highlight_row(
                            split,
                            number * batch.choices + choice,
                            source.segments,
                            selected[row].tolist(),
                            scores[row].tolist(),
                            labels[choice] if batch.choices > 1 else "",
                        )
                        for choice, (row, source) in enumerate(zip(rows, instance.inputs, strict=True))
                    )
                    shown.append(
                        HighlightedInstance(
                            id=instance.id,
                            inputs=inputs,
                            label=labels[instance.label] if known_label else None,
                            predicted=labels[answer],
                            probability=float(chances[place, predicted]),
                            top_k_percent=top_k_percent,
                        )
                    )
        return tuple(shown)


def _plausibility(batch: Batch, scores: Tensor) -> dict[str, float]:
    """Sums of AUPRC and token F1 over the rows with gold, each in [0, 1], and how many rows those are."""
    sums = np.zeros(3)
    values, gold, lengths = scores.double().cpu().numpy(), batch.gold.cpu().numpy(), batch.lengths.tolist()
    for row in batch.has_gold.nonzero().flatten().tolist():
        s, g = values[row, : lengths[row]], gold[row, : lengths[row]]
        sums += (plausibility.auprc(s, g), plausibility.token_f1(s, g), 1)
    return dict(zip(("auprc", "token_f1", "rows_with_gold"), sums.tolist(), strict=True))

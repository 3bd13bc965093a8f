"""Evaluation of a split: every metric as sums and counts, so that neither batch size nor workers change a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unirex_ray.data.batching import Batch, Tokens, collate, sorted_chunks
from unirex_ray.data.encoded import EncodedSplit
from unirex_ray.data.schema import Instance, TaskMetric
from unirex_ray.highlight import HighlightedInput, HighlightedInstance, HighlightedToken
from unirex_ray.losses import cross_entropy
from unirex_ray.metrics import faithfulness, plausibility, task
from unirex_ray.metrics.table import (
    ACCURACY,
    AUPRC,
    COMPREHENSIVENESS,
    CSD,
    LOSS,
    MACRO_F1,
    METRIC_TOP_K_PERCENTS,
    SUFFICIENCY,
    TASK_SCORE,
    TOKEN_F1,
)
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.views import Plan, perturbed_views
from unirex_ray.rationale import selection_sizes, token_ranks
from unirex_ray.training.runtime import Runtime

_SUMS = ("loss", "comprehensiveness", "sufficiency", "auprc", "token_f1", "rows_with_gold")
CHUNK = 64


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a model; every worker takes its share of the instances."""

    model: RationaleModel
    tokens: Tokens
    classes: int
    task_metric: TaskMetric
    plan: Plan
    runtime: Runtime
    bf16: bool = False

    @torch.no_grad()
    def __call__(self, split: EncodedSplit) -> dict[str, float]:
        """All metrics of a split by key, without its prefix; plausibility only where the split has gold rationales."""
        sums = torch.zeros(len(_SUMS), dtype=torch.float64)
        confusion = torch.zeros(self.classes, self.classes, dtype=torch.float64)
        mine = range(self.runtime.rank, len(split), self.runtime.world)
        with dropout_off(self.model):
            for chunk in sorted_chunks(split, mine, CHUNK):
                part, matrix = self._chunk(collate(split, chunk, self.tokens).to(self.runtime.device))
                sums += part
                confusion += matrix
        total = torch.cat([sums, confusion.flatten()]).to(self.runtime.device)
        self.runtime.all_reduce(total)
        total = total.cpu()
        return self._metrics(dict(zip(_SUMS, total.tolist(), strict=False)), total[len(_SUMS) :].view_as(confusion))

    def _chunk(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=self.bf16):
            row_logits, scores = self.model.read(batch, self.plan, "predicted")
            perturbed = perturbed_views(batch, scores, METRIC_TOP_K_PERCENTS)
            views = self.model.task_model.logits(batch, perturbed.views, self.plan, positions="fresh")
        full = class_logits(row_logits, batch.choices)
        without, alone = class_logits(views[perturbed.index], batch.choices)
        sums = [
            cross_entropy(full.double(), batch.labels).sum(),
            faithfulness.comprehensiveness(full, without).sum(),
            faithfulness.sufficiency(full, alone).sum(),
        ]
        agreement = np.zeros(3)
        values, gold, lengths = scores.double().cpu().numpy(), batch.gold.cpu().numpy(), batch.lengths.tolist()
        for row in batch.has_gold.nonzero().flatten().tolist():
            s, g = values[row, : lengths[row]], gold[row, : lengths[row]]
            agreement += (plausibility.auprc(s, g), plausibility.token_f1(s, g), 1)
        confusion = task.confusion_matrix(batch.labels, full.argmax(-1), self.classes)
        return torch.cat([torch.stack(sums).cpu(), torch.from_numpy(agreement)]), confusion.cpu()

    def _metrics(self, sums: dict[str, float], confusion: Tensor) -> dict[str, float]:
        count = float(confusion.sum())
        comp, suff = sums["comprehensiveness"] / count, sums["sufficiency"] / count
        scores = {"accuracy": 100 * task.accuracy(confusion), "macro_f1": 100 * task.macro_f1(confusion)}
        metrics = {
            LOSS.key: sums["loss"] / count,
            TASK_SCORE.key: scores[self.task_metric],
            ACCURACY.key: scores["accuracy"],
            MACRO_F1.key: scores["macro_f1"],
            COMPREHENSIVENESS.key: comp,
            SUFFICIENCY.key: suff,
            CSD.key: comp - suff,
        }
        if sums["rows_with_gold"]:
            metrics[AUPRC.key] = 100 * sums["auprc"] / sums["rows_with_gold"]
            metrics[TOKEN_F1.key] = 100 * sums["token_f1"] / sums["rows_with_gold"]
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
            labels: class names by index; for multi-choice the choices are numbered.
        """
        shown: list[HighlightedInstance] = []
        numbers = range(len(instances))
        with dropout_off(self.model):
            for chunk in (list(numbers[start : start + CHUNK]) for start in range(0, len(numbers), CHUNK)):
                batch = collate(split, chunk, self.tokens).to(self.runtime.device)
                row_logits, scores = self.model.read(batch, self.plan, "predicted")
                chances = torch.softmax(class_logits(row_logits, batch.choices).double(), -1)
                sizes = selection_sizes(batch.lengths, [top_k_percent])[0]
                selected = token_ranks(scores, batch.lengths) < sizes[:, None]
                for place, number in enumerate(chunk):
                    instance = instances[number]
                    predicted = int(chances[place].argmax())
                    rows = range(place * batch.choices, (place + 1) * batch.choices)
                    inputs = tuple(
                        _highlight_row(
                            split, number * batch.choices + choice, source.segments, selected[row], scores[row]
                        )
                        for choice, (row, source) in enumerate(zip(rows, instance.inputs, strict=True))
                    )
                    shown.append(
                        HighlightedInstance(
                            id=instance.id,
                            inputs=inputs,
                            label=labels[instance.label] if known_label else None,
                            predicted=labels[predicted],
                            probability=float(chances[place, predicted]),
                            top_k_percent=top_k_percent,
                        )
                    )
        return tuple(shown)


def _highlight_row(
    split: EncodedSplit, row: int, segments: tuple[str, ...], selected: Tensor, scores: Tensor
) -> HighlightedInput:
    start, end = int(split.offsets[row]), int(split.offsets[row + 1])
    known = bool(split.has_gold[row])
    columns = zip(
        split.spans[start:end].tolist(),
        split.gold[start:end].tolist(),
        selected.tolist(),
        scores.tolist(),
        strict=False,
    )
    tokens = tuple(
        HighlightedToken(
            segment=segment, start=first, end=last, score=score, selected=chosen, gold=gold if known else None
        )
        for (segment, first, last), gold, chosen, score in columns
        if segment >= 0
    )
    return HighlightedInput(segments=segments, tokens=tokens)

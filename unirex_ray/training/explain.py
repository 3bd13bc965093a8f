"""Predictions with their rationales, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unirex_ray.data.batching import collate, on_device
from unirex_ray.data.encoded import EncodedSplit, SpecialTokens
from unirex_ray.data.highlight import HighlightedInstance, highlight_row
from unirex_ray.data.instance import Instance
from unirex_ray.metrics.table import METRIC_TOP_K_PERCENTS
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.models.top_k import selection_sizes, token_ranks
from unirex_ray.training.evaluate import CHUNK

HIGHLIGHTS = 40
"""Instances that a page of rationales shows."""


@torch.no_grad()
def explain_instances(
    model: RationaleModel,
    split: EncodedSplit,
    instances: Sequence[Instance],
    labels: Sequence[str],
    special_tokens: SpecialTokens,
    plan: ForwardPlan,
    *,
    bf16: bool = False,
    class_map: tuple[int, ...] | None = None,
    top_k_percent: int = 20,
    known_label: bool = True,
) -> tuple[HighlightedInstance, ...]:
    """Predict instances and mark their top-k% rationales.

    Args:
        split: begins with the encoded `instances`, in the same order.
        labels: class names of the corpus by index; for multi-choice the choices are numbered.
        bf16: whether passes run in bf16 autocast: as where the metrics beside them come from.
        class_map: the corpus' class of each of the model's; None where they are the same.
        top_k_percent: of no effect on a rationale that has a size of its own (FRESH).
        known_label: whether the instances' labels are the gold ones.
    """
    top_k_percent = model.design.top_k_percent or top_k_percent
    device = next(model.parameters()).device
    explained: list[HighlightedInstance] = []
    with dropout_off(model):
        for start in range(0, len(instances), CHUNK):
            numbers = range(start, min(start + CHUNK, len(instances)))
            batch = collate(split, numbers, special_tokens).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                extracted = model.extract(batch, plan)
                full = model.full_logits(batch, extracted, METRIC_TOP_K_PERCENTS, plan)
            # A pipeline predicts from the rationale of every threshold: what is shown is its mean.
            probabilities = torch.softmax(class_logits(full, batch.choices).double(), -1).mean(0)
            scores = extracted.scores
            (sizes,) = on_device(device, selection_sizes(batch.host_lengths, [top_k_percent])[0])
            selected = token_ranks(scores, batch.lengths) < sizes[:, None]
            for index, number in enumerate(numbers):
                instance, predicted = instances[number], int(probabilities[index].argmax())
                inputs = tuple(
                    highlight_row(
                        split,
                        number * batch.choices + choice,
                        text.segments,
                        selected[index * batch.choices + choice].tolist(),
                        scores[index * batch.choices + choice].tolist(),
                        labels[choice] if batch.choices > 1 else "",
                    )
                    for choice, text in enumerate(instance.inputs)
                )
                explained.append(
                    HighlightedInstance(
                        id=instance.id,
                        inputs=inputs,
                        label=labels[instance.label] if known_label else None,
                        predicted=labels[predicted if class_map is None else class_map[predicted]],
                        probability=float(probabilities[index, predicted]),
                        top_k_percent=top_k_percent,
                    )
                )
    return tuple(explained)

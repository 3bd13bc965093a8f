r"""What a model computes on texts that nobody has labelled: p(x), importance scores, p(x \ r) and p(r).

Shapes: N instances, B of them in a chunk, C classes, F inputs per row that F_task predicts from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unirex_ray.data.batching import Batch, collate, sorted_chunks
from unirex_ray.data.encoded import EncodedSplit, SpecialTokens
from unirex_ray.data.progress_bar import progress_bar
from unirex_ray.metrics.table import METRIC_TOP_K_PERCENTS
from unirex_ray.models.rationale_model import RationaleModel
from unirex_ray.models.task_model import class_logits
from unirex_ray.models.token_subsets import ForwardPlan
from unirex_ray.training.evaluate import CHUNK


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplainedSplit:
    r"""What `explain_split` finds.

    Attributes:
        probabilities: p(x) [N, C].
        complement, rationale: p(x \ r) and p(r) of the predicted class [N].
        scores: of each row's tokens, special ones included, by row.
    """

    probabilities: NDArray[np.float64]
    complement: NDArray[np.float64]
    rationale: NDArray[np.float64]
    scores: tuple[NDArray[np.float32], ...]


@torch.no_grad()
def explain_split(
    model: RationaleModel,
    split: EncodedSplit,
    special_tokens: SpecialTokens,
    *,
    top_k_percent: int,
    plan: ForwardPlan,
    device: torch.device,
    bf16: bool,
) -> ExplainedSplit:
    """Predict and explain a split, in chunks of like length as an evaluation does.

    Args:
        model: on `device`, with dropout off.
        bf16: whether passes run in bf16 autocast.
    """
    probabilities = np.zeros((len(split), model.task_model.outputs if split.choices == 1 else split.choices))
    parts = np.zeros((2, len(split)))
    scores: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * (len(split) * split.choices)
    chunks = sorted_chunks(split, range(len(split)), CHUNK)
    for chunk in progress_bar(chunks, "explaining", len(split), size=CHUNK):
        batch = collate(split, chunk, special_tokens).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            importance, logits = _passes(model, batch, top_k_percent, plan)
        # A pipeline predicts from the rationale of every threshold: what is shown is its mean.
        full, complement, rationale = (part.double().softmax(-1).mean(0) for part in logits)
        predicted = full.argmax(-1, keepdim=True)
        probabilities[chunk] = full.cpu().numpy()
        parts[:, chunk] = torch.stack([part.gather(1, predicted)[:, 0] for part in (complement, rationale)]).cpu()
        rows = [instance * split.choices + choice for instance in chunk for choice in range(split.choices)]
        for row, length, row_scores in zip(rows, batch.host_lengths.tolist(), importance.float().cpu(), strict=True):
            scores[row] = row_scores[:length].numpy()
    return ExplainedSplit(probabilities=probabilities, complement=parts[0], rationale=parts[1], scores=tuple(scores))


def _passes(
    model: RationaleModel, batch: Batch, top_k_percent: int, plan: ForwardPlan
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    r"""Importance [R, T], and class logits on what F_task predicts from [F, B, C], on x \ r and on r [1, B, C]."""
    extracted = model.extract(batch, plan)
    full = at_k = model.full_logits(batch, extracted, METRIC_TOP_K_PERCENTS, plan)
    if model.design.rationales(METRIC_TOP_K_PERCENTS) != model.design.rationales([top_k_percent]):
        at_k = model.full_logits(batch, extracted, [top_k_percent], plan)
    complement, rationale = model.perturbed_logits(batch, extracted.scores, at_k, [top_k_percent], plan, "fresh")
    full, complement, rationale = (class_logits(part, batch.choices) for part in (full, complement, rationale))
    return extracted.scores, (full, complement, rationale)

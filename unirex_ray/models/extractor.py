"""F_ext: where importance scores come from.

Shapes: R rows, T tokens, O task outputs.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unirex_ray.data.batching import Batch
from unirex_ray.models.attribution import integrated_gradients
from unirex_ray.models.encoder import Encoder
from unirex_ray.models.heads import TokenHead
from unirex_ray.models.task_model import TaskModel, class_logits
from unirex_ray.models.views import Plan, encode_views, full_views

Target = Literal["gold", "predicted"]


class Extractor(Protocol):
    """Scores the tokens of whole rows, sharing the task model's pass where it can."""

    def read(self, task_model: TaskModel, batch: Batch, plan: Plan, target: Target) -> tuple[Tensor, Tensor]:
        """Task logits and importance scores of whole rows.

        Args:
            target: the class that attributions explain: gold in training losses, predicted in evaluation.

        Returns:
            Task logits [R, O] and scores [R, T], finite, 0 on padding.
        """


class AttributionExtractor(nn.Module):
    """AA: integrated gradients of the task model; nothing of its own to train, no gradient through the scores."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def read(self, task_model: TaskModel, batch: Batch, plan: Plan, target: Target) -> tuple[Tensor, Tensor]:
        """See `Extractor`."""
        logits = task_model.full_logits(batch, plan)
        if batch.choices > 1:
            classes = torch.zeros(batch.rows, dtype=torch.long, device=logits.device)
        else:
            classes = batch.labels if target == "gold" else class_logits(logits, batch.choices).argmax(-1)
        return logits, integrated_gradients(task_model, batch, classes, steps=self.steps, plan=plan)


class DualExtractor(nn.Module):
    """DLM: an encoder of its own, and a head on every token."""

    def __init__(self, encoder: Encoder, head: str) -> None:
        super().__init__()
        self.encoder = encoder
        if getattr(encoder.backbone, "pooler", None) is not None:
            encoder.backbone.pooler = None  # it would never be used or trained
        self.head = TokenHead(encoder.hidden_size, head)

    def read(self, task_model: TaskModel, batch: Batch, plan: Plan, target: Target) -> tuple[Tensor, Tensor]:
        """See `Extractor`."""

        def encode(ids: Tensor, places: Tensor, types: Tensor, mask: Tensor | None, _: Tensor) -> Tensor:
            states, _pooled = self.encoder(input_ids=ids, positions=places, token_types=types, attention_mask=mask)
            return _spread(self.head(states).float(), mask, batch)

        scores = encode_views(batch, full_views(batch), encode, plan)
        return task_model.full_logits(batch, plan), scores


class SharedExtractor(nn.Module):
    """SLM: a head on every token of the task model's encoder; one pass gives logits and scores."""

    def __init__(self, hidden_size: int, head: str) -> None:
        super().__init__()
        self.head = TokenHead(hidden_size, head)

    def read(self, task_model: TaskModel, batch: Batch, plan: Plan, target: Target) -> tuple[Tensor, Tensor]:
        """See `Extractor`."""

        def encode(ids: Tensor, places: Tensor, types: Tensor, mask: Tensor | None, _: Tensor) -> Tensor:
            states, pooled = task_model.encoder(input_ids=ids, positions=places, token_types=types, attention_mask=mask)
            scores = _spread(self.head(states).float(), mask, batch)
            return torch.cat([task_model.read(states, pooled).float(), scores], dim=1)

        both = encode_views(batch, full_views(batch), encode, plan)
        return both[:, : task_model.outputs], both[:, task_model.outputs :]


def _spread(scores: Tensor, mask: Tensor | None, batch: Batch) -> Tensor:
    """Widen a sub-batch's scores to the batch's width, 0 on padding."""
    if mask is not None:
        scores = scores.masked_fill(~mask, 0.0)
    return F.pad(scores, (0, batch.input_ids.shape[1] - scores.shape[1]))

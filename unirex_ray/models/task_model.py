"""F_task: encoder, pooled first token, linear head.

Shapes: R rows, T tokens, H hidden size, O outputs (classes, or 1 for multi-choice).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unirex_ray.data.batching import Batch
from unirex_ray.models.encoder import Encoder
from unirex_ray.models.token_subsets import ForwardPlan, Positions, TokenSubsets, encode_subsets, full_subsets


class TaskModel(nn.Module):
    """Linear head on the encoder's own pooler, or on a new dense + tanh where it has none."""

    def __init__(self, encoder: Encoder, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.outputs = outputs
        size = encoder.hidden_size
        self.pooler = None if encoder.has_pooler else nn.Sequential(nn.Linear(size, size), nn.Tanh())
        self.dropout = nn.Dropout(_head_dropout(encoder))
        self.head = nn.Linear(encoder.hidden_size, outputs)

    def logits_from_states(self, states: Tensor, pooled: Tensor | None) -> Tensor:
        """Logits [R, O], single precision, from the encoder's states [R, T, H] and its pooled first token [R, H]."""
        first = pooled if self.pooler is None else self.pooler(states[:, 0])
        assert first is not None
        # Comprehensiveness and sufficiency are small differences; half precision would round them away.
        with torch.autocast(first.device.type, enabled=False):
            logits: Tensor = self.head(self.dropout(first.to(self.head.weight.dtype)))
        return logits

    def logits(
        self, batch: Batch, subsets: TokenSubsets, plan: ForwardPlan, *, positions: Positions = "original"
    ) -> Tensor:
        """Logits of subsets [V, O]."""

        def encode(ids: Tensor, position_ids: Tensor, types: Tensor, mask: Tensor | None, _: Tensor) -> Tensor:
            states, pooled = self.encoder(
                input_ids=ids, position_ids=position_ids, token_types=types, attention_mask=mask
            )
            return self.logits_from_states(states, pooled).float()

        return encode_subsets(batch, subsets, encode, plan, positions=positions)

    def full_logits(self, batch: Batch, plan: ForwardPlan) -> Tensor:
        """Logits of whole rows [R, O]."""
        return self.logits(batch, full_subsets(batch), plan)


class AttentionPredictor(nn.Module):
    """A2R's second predictor: a linear head on the states of whole rows, weighted by the softmax of the scores.

    Selecting tokens has no gradient; A2R's extractor learns through this softmax (Yu et al. 2021).
    """

    def __init__(self, encoder: Encoder, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        encoder.drop_pooler()  # the scores pool instead
        self.dropout = nn.Dropout(_head_dropout(encoder))
        self.head = nn.Linear(encoder.hidden_size, outputs)

    def logits(self, batch: Batch, scores: Tensor, plan: ForwardPlan) -> Tensor:
        """Logits of whole rows [R, O]; scores [R, T]."""
        weights = scores.masked_fill(~batch.attended, -torch.inf).softmax(-1)

        def encode(ids: Tensor, position_ids: Tensor, types: Tensor, mask: Tensor | None, rows: Tensor) -> Tensor:
            states, _pooled = self.encoder(
                input_ids=ids, position_ids=position_ids, token_types=types, attention_mask=mask
            )
            with torch.autocast(states.device.type, enabled=False):
                pooled = (weights[rows, : states.shape[1], None] * states.float()).sum(1)
                logits: Tensor = self.head(self.dropout(pooled))
            return logits

        return encode_subsets(batch, full_subsets(batch), encode, plan)


def class_logits(logits: Tensor, choices: int) -> Tensor:
    """Class logits per instance [..., B, C] from row logits [..., R, O]; with several choices, one logit per row."""
    return logits if choices == 1 else logits.squeeze(-1).reshape(*logits.shape[:-2], -1, choices)


def _head_dropout(encoder: Encoder) -> float:
    settings = encoder.settings
    for key in ("classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob", "dropout"):
        value = getattr(settings, key, None)
        if isinstance(value, float | int):
            return float(value)
    return 0.0

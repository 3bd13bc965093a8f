"""F_ext: the extractors of importance scores.

Shapes: R rows, T tokens, O task outputs.
"""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unirex_ray.data.batching import Batch, on_device, to_device
from unirex_ray.models.attribution import Algorithm, attribute, dropout_off
from unirex_ray.models.encoder import Encoder
from unirex_ray.models.heads import TokenHead
from unirex_ray.models.importance import IMPORTANCE_CLASSES
from unirex_ray.models.task_model import TaskModel
from unirex_ray.models.token_subsets import ForwardPlan, encode_subsets, full_subsets
from unirex_ray.models.top_k import selection_sizes, token_ranks

Target = Literal["gold", "predicted"]


class ExtractorOutput(NamedTuple):
    """What an extractor computes from whole rows.

    Attributes:
        task_logits: the task model's [R, O]; None where the extractor does not run it.
        scores: importance [R, T], finite, 0 on padding.
    """

    task_logits: Tensor | None
    scores: Tensor


class Extractor(Protocol):
    """Scores the tokens of whole rows."""

    def extract(
        self,
        task_model: TaskModel,
        batch: Batch,
        plan: ForwardPlan,
        target: Target = "predicted",
        *,
        learn: np.ndarray | None = None,
    ) -> ExtractorOutput:
        """Importance scores, and task logits where the extractor runs the task model on the text.

        Args:
            target: the class that attributions explain: gold in training losses, predicted in evaluation.
            learn: rows whose scores a loss trains [R], none by default; attributions build a costly graph for these.
        """


class AttributionExtractor(nn.Module):
    """AA: attributions of the task model; only the head that may pool them has weights.

    Args:
        embedding_size: of a word embedding, which some families make narrower than a state.
        head: kind of the `TokenHead` that pools the embedding's dimensions; None: sum.
    """

    def __init__(self, algorithm: Algorithm, steps: int, embedding_size: int, head: str | None = None) -> None:
        super().__init__()
        self.algorithm, self.steps = algorithm, steps
        self.head = None if head is None else TokenHead(embedding_size, head)

    def extract(
        self,
        task_model: TaskModel,
        batch: Batch,
        plan: ForwardPlan,
        target: Target = "predicted",
        *,
        learn: np.ndarray | None = None,
    ) -> ExtractorOutput:
        """See `Extractor`."""
        logits = None if target == "gold" else task_model.full_logits(batch, plan)
        scores = attribute(
            task_model,
            batch,
            attributed_classes(logits, batch),
            self.algorithm,
            plan,
            steps=self.steps,
            pool=self.head,
            learn=learn,
        )
        return ExtractorOutput(logits, scores)


def attributed_classes(logits: Tensor | None, batch: Batch) -> Tensor:
    """Class whose logit is explained [R]: 0 for multi-choice, else the predicted or (without logits) the gold one."""
    if batch.choices > 1:
        return torch.zeros(batch.rows, dtype=torch.long, device=batch.labels.device)
    return batch.labels if logits is None else logits.argmax(-1)


class TokenClassifier(nn.Module):
    """An encoder separate from the task model's, with a head of one or several outputs on every token."""

    def __init__(self, encoder: Encoder, head: str, outputs: int = 1) -> None:
        super().__init__()
        self.encoder = encoder
        encoder.drop_pooler()  # never used or trained
        self.head = TokenHead(encoder.hidden_size, head, outputs)

    def token_logits(self, batch: Batch, plan: ForwardPlan) -> Tensor:
        """Output of the head on every token of whole rows, 0 on padding [R, T] or [R, T, outputs]."""

        def encode(ids: Tensor, position_ids: Tensor, types: Tensor, mask: Tensor | None, _: Tensor) -> Tensor:
            states, _pooled = self.encoder(
                input_ids=ids, position_ids=position_ids, token_types=types, attention_mask=mask
            )
            return _pad_to_batch(self.head(states).float(), mask, batch)

        return encode_subsets(batch, full_subsets(batch), encode, plan)


class DualExtractor(TokenClassifier):
    """DLM: a separate encoder with a head on every token."""

    def extract(
        self,
        task_model: TaskModel,
        batch: Batch,
        plan: ForwardPlan,
        target: Target = "predicted",
        *,
        learn: np.ndarray | None = None,
    ) -> ExtractorOutput:
        """See `Extractor`."""
        return ExtractorOutput(None, self.token_logits(batch, plan))


class ImitationExtractor(TokenClassifier):
    """L2E: classifies every token by importance; the score is the most likely class, from -2 to 2."""

    def __init__(self, encoder: Encoder, head: str) -> None:
        super().__init__(encoder, head, IMPORTANCE_CLASSES)

    def extract(
        self,
        task_model: TaskModel,
        batch: Batch,
        plan: ForwardPlan,
        target: Target = "predicted",
        *,
        learn: np.ndarray | None = None,
    ) -> ExtractorOutput:
        """See `Extractor`."""
        scores = self.token_logits(batch, plan).argmax(-1).float() - IMPORTANCE_CLASSES // 2
        return ExtractorOutput(None, scores.masked_fill(~batch.attended, 0.0))


class SharedExtractor(nn.Module):
    """SLM: a head on every token of the task model's encoder; one pass gives logits and scores."""

    def __init__(self, hidden_size: int, head: str) -> None:
        super().__init__()
        self.head = TokenHead(hidden_size, head)

    def extract(
        self,
        task_model: TaskModel,
        batch: Batch,
        plan: ForwardPlan,
        target: Target = "predicted",
        *,
        learn: np.ndarray | None = None,
    ) -> ExtractorOutput:
        """See `Extractor`."""

        def encode(ids: Tensor, position_ids: Tensor, types: Tensor, mask: Tensor | None, _: Tensor) -> Tensor:
            states, pooled = task_model.encoder(
                input_ids=ids, position_ids=position_ids, token_types=types, attention_mask=mask
            )
            scores = _pad_to_batch(self.head(states).float(), mask, batch)
            return torch.cat([task_model.logits_from_states(states, pooled).float(), scores], dim=1)

        columns = encode_subsets(batch, full_subsets(batch), encode, plan)
        return ExtractorOutput(columns[:, : task_model.outputs], columns[:, task_model.outputs :])


class RandomExtractor(nn.Module):
    """Rand: standard normal scores, drawn from the seed and the instance's id alone, whatever its batch."""

    seed: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.register_buffer("seed", torch.tensor(seed))  # saved with the weights
        self._seed = seed
        self.register_load_state_dict_post_hook(lambda module, _: module._read_seed())  # type: ignore[no-untyped-call]

    def _read_seed(self) -> None:
        self._seed = int(self.seed)

    def extract(
        self,
        task_model: TaskModel,
        batch: Batch,
        plan: ForwardPlan,
        target: Target = "predicted",
        *,
        learn: np.ndarray | None = None,
    ) -> ExtractorOutput:
        """See `Extractor`."""
        scores = torch.zeros(batch.input_ids.shape)
        for row, length in enumerate(batch.host_lengths.tolist()):
            instance, choice = divmod(row, batch.choices)
            key = f"{self._seed}/{choice}/{batch.ids[instance]}"
            generator = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))
            scores[row, :length] = torch.from_numpy(generator.standard_normal(length))
        return ExtractorOutput(None, to_device(scores, batch.input_ids.device))


class GoldExtractor(nn.Module):
    """Gold: the gold rationale as scores (0 or 1); inverted: the attended tokens outside it."""

    def __init__(self, *, inverted: bool = False) -> None:
        super().__init__()
        self.inverted = inverted

    def extract(
        self,
        task_model: TaskModel,
        batch: Batch,
        plan: ForwardPlan,
        target: Target = "predicted",
        *,
        learn: np.ndarray | None = None,
    ) -> ExtractorOutput:
        """See `Extractor`."""
        scores = (batch.attended & ~batch.gold) if self.inverted else batch.gold
        return ExtractorOutput(None, scores.float())


class SelectionExtractor(nn.Module):
    """FRESH: 1 on the top-k% tokens by the scores of an earlier stage, 0 elsewhere.

    Args:
        source: the earlier stage's model, which is frozen.
    """

    def __init__(self, source: nn.Module, top_k_percent: int) -> None:
        super().__init__()
        self.source, self.top_k_percent = source.requires_grad_(False), top_k_percent

    def extract(
        self,
        task_model: TaskModel,
        batch: Batch,
        plan: ForwardPlan,
        target: Target = "predicted",
        *,
        learn: np.ndarray | None = None,
    ) -> ExtractorOutput:
        """See `Extractor`; selects by `batch.teacher_scores`, or by scores of `source` where there are none."""
        scores = batch.teacher_scores
        if scores is None:
            with dropout_off(self.source), torch.no_grad():
                scores = self.source.scores(batch, plan)  # type: ignore[operator]
        (sizes,) = on_device(scores.device, selection_sizes(batch.host_lengths, [self.top_k_percent])[0])
        return ExtractorOutput(None, (token_ranks(scores, batch.lengths) < sizes[:, None]).float())


def _pad_to_batch(scores: Tensor, mask: Tensor | None, batch: Batch) -> Tensor:
    """Pad the scores of a sub-batch [r, t, ...] to the batch's width [r, T, ...], 0 on padding."""
    if mask is not None:
        scores = scores.masked_fill(~(mask if scores.dim() == 2 else mask[..., None]), 0.0)
    missing = batch.input_ids.shape[1] - scores.shape[1]
    return F.pad(scores, (0, 0) * (scores.dim() - 2) + (0, missing))

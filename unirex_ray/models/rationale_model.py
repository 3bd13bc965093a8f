"""Task model and extractor together, as a stage of a method's recipe asks for them.

Shapes: B instances, R rows, T tokens, K thresholds, O task outputs, F inputs per row that F_task predicts from: 1 (the
text, or one rationale) or K (the rationale of every threshold).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from unirex_ray.config import ModelConfig
from unirex_ray.data.batching import Batch, on_device
from unirex_ray.models.design import Design, ExtractorKind
from unirex_ray.models.encoder import Encoder, load_encoder
from unirex_ray.models.extractor import (
    AttributionExtractor,
    DualExtractor,
    Extractor,
    ExtractorOutput,
    GoldExtractor,
    ImitationExtractor,
    RandomExtractor,
    SelectionExtractor,
    SharedExtractor,
    Target,
)
from unirex_ray.models.task_model import AttentionPredictor, TaskModel
from unirex_ray.models.token_subsets import ForwardPlan, Positions, empty_subsets, perturbed_subsets, rationale_subsets
from unirex_ray.models.top_k import selection_sizes, token_ranks

EncoderFactory = Callable[[ModelConfig], Encoder]


class RationaleModel(nn.Module):
    """F_task and F_ext.

    Args:
        outputs: number of classes, or 1 for multi-choice.
        seed: of the scores that the extractor `rand` draws.
        earlier: the earlier stage's model, for designs that build on one.
        make_encoder: called for each encoder of the design; loads a pre-trained one by default.
    """

    task_model: TaskModel
    extractor: nn.Module
    attention_predictor: AttentionPredictor | None

    def __init__(
        self,
        config: ModelConfig,
        design: Design,
        outputs: int,
        *,
        seed: int = 0,
        earlier: RationaleModel | None = None,
        make_encoder: EncoderFactory = load_encoder,
    ) -> None:
        super().__init__()
        self.design = design
        if design.task_model == "new":
            self.task_model = TaskModel(make_encoder(config), outputs)
        else:
            self.task_model = _required(earlier).task_model.requires_grad_(design.task_model == "continued")
        self.extractor = self._make_extractor(config, seed, earlier, make_encoder)
        self.attention_predictor = None
        if design.attention_predictor:
            self.attention_predictor = AttentionPredictor(make_encoder(config), outputs)

    def _make_extractor(
        self, config: ModelConfig, seed: int, earlier: RationaleModel | None, make: EncoderFactory
    ) -> nn.Module:
        encoder, kind = self.task_model.encoder, self.design.extractor
        embedding_size = encoder.word_embeddings.embedding_dim
        head = None if config.pooling == "sum" else "mlp-2048-2"
        makers: dict[ExtractorKind, Callable[[], nn.Module]] = {
            "aa-grad": lambda: AttributionExtractor("grad", 1, embedding_size),
            "aa-input-x-grad": lambda: AttributionExtractor("input_x_grad", 1, embedding_size),
            "aa-deeplift": lambda: AttributionExtractor("deeplift", 1, embedding_size),
            "aa-ig": lambda: AttributionExtractor("ig", config.ig_steps, embedding_size, head),
            "dlm": lambda: DualExtractor(make(config), config.head),
            "slm": lambda: SharedExtractor(encoder.hidden_size, config.head),
            "imitation": lambda: ImitationExtractor(make(config), config.head),
            "selection": lambda: SelectionExtractor(_required(earlier), *self.design.rationales(())),
            "rand": lambda: RandomExtractor(seed),
            "gold": lambda: GoldExtractor(),
            "inv": lambda: GoldExtractor(inverted=True),
        }
        return makers[kind]()

    def extract(
        self, batch: Batch, plan: ForwardPlan, target: Target = "predicted", *, learn: np.ndarray | None = None
    ) -> ExtractorOutput:
        """Importance scores, and task logits on the text where the extractor computes them (see `Extractor`)."""
        extractor: Extractor = self.extractor  # type: ignore[assignment]
        return extractor.extract(self.task_model, batch, plan, target, learn=learn)

    def scores(self, batch: Batch, plan: ForwardPlan) -> Tensor:
        """Importance scores for the predicted class [R, T]."""
        return self.extract(batch, plan).scores

    def full_logits(
        self, batch: Batch, extracted: ExtractorOutput | None, top_k_percents: Sequence[int], plan: ForwardPlan
    ) -> Tensor:
        """Task logits on what F_task predicts from: the text [1, R, O], or the rationale(s) [F, R, O].

        Args:
            extracted: from `extract`; may be None where F_task predicts from the text.
            top_k_percents: K; ignored where F_task predicts from the text or from one threshold.
        """
        percents = self.design.rationales(top_k_percents)
        if not percents:
            logits = None if extracted is None else extracted.task_logits
            return (self.task_model.full_logits(batch, plan) if logits is None else logits)[None]
        if extracted is None:
            raise ValueError("predicts_from = 'rationale' needs scores, but got extracted=None")
        perturbed = rationale_subsets(batch, extracted.scores, percents)
        return self.task_model.logits(batch, perturbed.subsets, plan, positions="fresh")[perturbed.index]

    def perturbed_logits(
        self,
        batch: Batch,
        scores: Tensor,
        full_logits: Tensor,
        top_k_percents: Sequence[int],
        plan: ForwardPlan,
        positions: Positions,
    ) -> tuple[Tensor, Tensor]:
        r"""Task logits on x \ r^(k) and on r^(k), [K, R, O] each.

        Where F_task predicts from the rationale, that is its full input, and the complement is CLS alone. Where the
        selection is differentiable, scores with a gradient get theirs from both sides.

        Args:
            full_logits: from the method of that name.
            positions: `original` in training losses, `fresh` in metrics.
        """
        if self.design.predicts_from == "text":
            differentiable = self.design.differentiable_selection and scores.requires_grad
            perturbed = perturbed_subsets(batch, scores, top_k_percents, differentiable=differentiable)
            logits = self.task_model.logits(batch, perturbed.subsets, plan, positions=positions)
            complement_logits, rationale_logits = logits[perturbed.index]
            return complement_logits, rationale_logits
        shape = (len(top_k_percents), *full_logits.shape[1:])
        empty_logits = self.task_model.logits(batch, empty_subsets(batch), plan, positions="fresh")
        return empty_logits.expand(shape), full_logits.expand(shape)

    def padded_logits(
        self, batch: Batch, extracted: ExtractorOutput, top_k_percents: Sequence[int], plan: ForwardPlan
    ) -> Tensor:
        """Task logits on the input with its top-k tokens replaced by PAD, which is attended to [K, R, O].

        Args:
            extracted: from `extract`, on the batch as it is.
        """
        ranks = token_ranks(extracted.scores, batch.lengths)
        unseen = ExtractorOutput(None, extracted.scores)
        logits = []
        (all_sizes,) = on_device(ranks.device, selection_sizes(batch.host_lengths, top_k_percents))
        for number, sizes in enumerate(all_sizes):
            padded = replace(batch, input_ids=batch.input_ids.masked_fill(ranks < sizes[:, None], batch.pad_id))
            full = self.full_logits(padded, unseen, top_k_percents, plan)
            logits.append(full[number if len(full) > 1 else 0])
        return torch.stack(logits)


def build_stage(
    config: ModelConfig,
    design: Design,
    outputs: int,
    *,
    seed: int,
    stage_index: int = 0,
    earlier: RationaleModel | None = None,
    make_encoder: EncoderFactory = load_encoder,
) -> RationaleModel:
    """Model of one stage; its new weights are drawn from the seed and the stage's index."""
    torch.manual_seed(seed + stage_index * 1_000_003)
    return RationaleModel(config, design, outputs, seed=seed, earlier=earlier, make_encoder=make_encoder)


def build_model(
    config: ModelConfig,
    designs: Sequence[Design],
    outputs: int,
    *,
    seed: int = 0,
    make_encoder: EncoderFactory = load_encoder,
) -> RationaleModel:
    """Model of the last stage, untrained, on top of the earlier ones."""
    model: RationaleModel | None = None
    for stage_index, design in enumerate(designs):
        model = build_stage(
            config, design, outputs, seed=seed, stage_index=stage_index, earlier=model, make_encoder=make_encoder
        )
    return _required(model)


def _required(earlier: RationaleModel | None) -> RationaleModel:
    if earlier is None:
        raise ValueError("this design builds on an earlier stage, but got earlier=None")
    return earlier

"""Task model and extractor together, as a stage of a method's recipe asks for them.

Shapes: B instances, R rows, T tokens, K thresholds, O task outputs; F: 1 where one input is predicted from, K where
r^(k) is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unirex_ray.config import ModelConfig
from unirex_ray.data.batching import Batch
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.encoder import Encoder, load_encoder
from unirex_ray.models.extractor import (
    AttributionExtractor,
    DualExtractor,
    Extractor,
    GoldExtractor,
    ImitationExtractor,
    RandomExtractor,
    Reading,
    SelectionExtractor,
    SharedExtractor,
    Target,
)
from unirex_ray.models.task_model import AttentionPredictor, TaskModel
from unirex_ray.models.token_subsets import ForwardPlan, Positions, empty_subsets, perturbed_subsets, rationale_subsets

EncoderFactory = Callable[[ModelConfig], Encoder]
ExtractorKind = Literal[
    "aa-grad", "aa-input-x-grad", "aa-deeplift", "aa-ig", "dlm", "slm", "imitation", "selection", "rand", "gold", "inv"
]


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a stage's model is made of.

    Attributes:
        extractor: where scores come from. `imitation` and `selection` build on an earlier stage's scores.
        predicts_from: what F_task reads: the text, or (select-predict pipelines) the rationale closed up.
        top_k_percent: the one threshold of `selection`; else rationales are taken at every threshold of K.
        task_model: a new one, or the earlier stage's, which then stays as it is.
        attention_predictor: whether A2R's second predictor trains along.
    """

    extractor: ExtractorKind
    predicts_from: Literal["text", "rationale"] = "text"
    top_k_percent: int | None = None
    task_model: Literal["new", "earlier"] = "new"
    attention_predictor: bool = False

    def rationales(self, top_k_percents: Sequence[int]) -> tuple[int, ...]:
        """Thresholds of the rationales that F_task predicts from, of K or its own; none where it reads the text."""
        if self.predicts_from == "text":
            return ()
        return tuple(top_k_percents) if self.top_k_percent is None else (self.top_k_percent,)

    @property
    def reads_earlier_scores(self) -> bool:
        """Whether the extractor builds on the scores that an earlier stage's gives."""
        return self.extractor in ("selection", "imitation")

    def __post_init__(self) -> None:
        if (self.extractor == "selection") != (self.top_k_percent is not None):
            raise ValueError(f"selection, and nothing else, has a top_k_percent, but got {self}")


class RationaleModel(nn.Module):
    """F_task and F_ext.

    Args:
        outputs: number of classes, or 1 for multi-choice.
        seed: of what an extractor draws by itself (rand).
        earlier: the earlier stage's model, for designs that build on one.
        make_encoder: makes each encoder that the design needs; pre-trained by default.
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
            self.task_model = _needed(earlier).task_model.requires_grad_(False)
        self.extractor = self._make_extractor(config, seed, earlier, make_encoder)
        self.attention_predictor = None
        if design.attention_predictor:
            self.attention_predictor = AttentionPredictor(make_encoder(config), outputs)

    def _make_extractor(
        self, config: ModelConfig, seed: int, earlier: RationaleModel | None, make: EncoderFactory
    ) -> nn.Module:
        hidden_size, kind = self.task_model.encoder.hidden_size, self.design.extractor
        rationales = self.design.rationales(())
        head = None if config.pooling == "sum" else "mlp-2048-2"
        makers: dict[ExtractorKind, Callable[[], nn.Module]] = {
            "aa-grad": lambda: AttributionExtractor("grad", 1, hidden_size),
            "aa-input-x-grad": lambda: AttributionExtractor("input_x_grad", 1, hidden_size),
            "aa-deeplift": lambda: AttributionExtractor("deeplift", 1, hidden_size),
            "aa-ig": lambda: AttributionExtractor("ig", config.ig_steps, hidden_size, head),
            "dlm": lambda: DualExtractor(make(config), config.head),
            "slm": lambda: SharedExtractor(hidden_size, config.head),
            "imitation": lambda: ImitationExtractor(make(config), config.head),
            "selection": lambda: SelectionExtractor(_needed(earlier), *rationales),
            "rand": lambda: RandomExtractor(seed),
            "gold": lambda: GoldExtractor(),
            "inv": lambda: GoldExtractor(inverted=True),
        }
        return makers[kind]()

    def read(self, batch: Batch, plan: ForwardPlan, target: Target = "predicted", *, learn: bool = False) -> Reading:
        """Task logits on the text [R, O], where they came along, and importance scores [R, T] (see `Extractor`)."""
        extractor: Extractor = self.extractor  # type: ignore[assignment]
        return extractor.read(self.task_model, batch, plan, target, learn=learn)

    def scores(self, batch: Batch, plan: ForwardPlan) -> Tensor:
        """Importance scores for the predicted class [R, T]."""
        return self.read(batch, plan)[1]

    def full_logits(
        self, batch: Batch, reading: Reading | None, top_k_percents: Sequence[int], plan: ForwardPlan
    ) -> Tensor:
        """Task logits on what F_task predicts from: the text [1, R, O], or the rationale(s) [F, R, O].

        Args:
            reading: from `read`; where F_task predicts from the text, None will do.
            top_k_percents: K; of no effect on the text and on the rationales of one threshold.
        """
        logits, scores = reading or (None, None)
        rationales = self.design.rationales(top_k_percents)
        if not rationales:
            return (self.task_model.full_logits(batch, plan) if logits is None else logits)[None]
        if scores is None:
            raise ValueError("a rationale cannot be predicted from without its scores")
        perturbed = rationale_subsets(batch, scores, rationales)
        return self.task_model.logits(batch, perturbed.subsets, plan, positions="fresh")[perturbed.index]

    def perturbed_logits(
        self,
        batch: Batch,
        scores: Tensor,
        full: Tensor,
        top_k_percents: Sequence[int],
        plan: ForwardPlan,
        positions: Positions,
    ) -> tuple[Tensor, Tensor]:
        r"""Task logits on x \ r^(k) and on r^(k), [K, R, O] each.

        Where F_task predicts from the rationale, that is its whole input: what remains without it is CLS alone.

        Args:
            full: from `full_logits`.
            positions: `original` in training losses, `fresh` in metrics.
        """
        if self.design.predicts_from == "text":
            perturbed = perturbed_subsets(batch, scores, top_k_percents)
            without, alone = self.task_model.logits(batch, perturbed.subsets, plan, positions=positions)[
                perturbed.index
            ]
            return without, alone
        shape = (len(top_k_percents), *full.shape[1:])
        empty = self.task_model.logits(batch, empty_subsets(batch), plan, positions="fresh")
        return empty.expand(shape), full.expand(shape)


def build_stage(
    config: ModelConfig,
    design: Design,
    outputs: int,
    *,
    seed: int,
    place: int = 0,
    earlier: RationaleModel | None = None,
    make_encoder: EncoderFactory = load_encoder,
) -> RationaleModel:
    """The model of one stage; its new parts are initialised from the seed and the stage's place."""
    torch.manual_seed(seed + place * 1_000_003)
    return RationaleModel(config, design, outputs, seed=seed, earlier=earlier, make_encoder=make_encoder)


def build_model(
    config: ModelConfig,
    designs: Sequence[Design],
    outputs: int,
    *,
    seed: int = 0,
    make_encoder: EncoderFactory = load_encoder,
) -> RationaleModel:
    """The model of the last of several stages, ready to take its weights."""
    model: RationaleModel | None = None
    for place, design in enumerate(designs):
        model = build_stage(config, design, outputs, seed=seed, place=place, earlier=model, make_encoder=make_encoder)
    return _needed(model)


@torch.no_grad()
def dropping_error(task_model: TaskModel, batch: Batch) -> float:
    """Largest difference between masked and dropped logits, dropout off, over a few rows: 0 up to rounding where exact.

    Infinite for encoders whose positions cannot be given.
    """
    if not task_model.encoder.takes_positions:
        return float("inf")
    with dropout_off(task_model):
        scores = batch.input_ids.double() % 17  # any fixed order of the tokens does
        subsets = perturbed_subsets(batch, scores, (20, 50)).subsets
        dropped, masked = (task_model.logits(batch, subsets, ForwardPlan(drop=drop)) for drop in (True, False))
    return float((dropped - masked).abs().max())


def _needed(earlier: RationaleModel | None) -> RationaleModel:
    if earlier is None:
        raise ValueError("this design builds on an earlier stage, and there is none")
    return earlier

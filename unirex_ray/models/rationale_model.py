"""Task model and extractor together, as a method's recipe asks for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unirex_ray.config import ModelConfig
from unirex_ray.data.batching import Batch
from unirex_ray.models.attribution import dropout_off
from unirex_ray.models.encoder import Encoder, load_encoder
from unirex_ray.models.extractor import AttributionExtractor, DualExtractor, Extractor, SharedExtractor, Target
from unirex_ray.models.task_model import TaskModel
from unirex_ray.models.views import Plan, perturbed_views

EncoderFactory = Callable[[ModelConfig], Encoder]

EXTRACTORS: dict[str, Callable[[ModelConfig, Encoder, EncoderFactory], Extractor]] = {
    "aa-ig": lambda config, encoder, make: AttributionExtractor(config.ig_steps),
    "dlm": lambda config, encoder, make: DualExtractor(make(config), config.head),
    "slm": lambda config, encoder, make: SharedExtractor(encoder.hidden_size, config.head),
}


class RationaleModel(nn.Module):
    """F_task and F_ext.

    Args:
        extractor: `aa-ig`, `dlm` or `slm`.
        outputs: number of classes, or 1 for multi-choice.
        make_encoder: makes each encoder that the method needs; pre-trained by default.
    """

    task_model: TaskModel
    extractor: nn.Module

    def __init__(
        self, config: ModelConfig, extractor: str, outputs: int, make_encoder: EncoderFactory = load_encoder
    ) -> None:
        super().__init__()
        encoder = make_encoder(config)
        self.task_model = TaskModel(encoder, outputs)
        self.extractor = EXTRACTORS[extractor](config, encoder, make_encoder)  # type: ignore[assignment]

    def read(self, batch: Batch, plan: Plan, target: Target) -> tuple[Tensor, Tensor]:
        """Task logits [R, O] and importance scores [R, T] of whole rows."""
        extractor: Extractor = self.extractor  # type: ignore[assignment]
        return extractor.read(self.task_model, batch, plan, target)


@torch.no_grad()
def dropping_error(task_model: TaskModel, batch: Batch) -> float:
    """Largest difference between masked and dropped logits, dropout off, over a few rows: 0 up to rounding where exact.

    Infinite for encoders whose positions cannot be given.
    """
    if not task_model.encoder.takes_positions:
        return float("inf")
    with dropout_off(task_model):
        scores = batch.input_ids.double() % 17  # any fixed order of the tokens does
        views = perturbed_views(batch, scores, (20, 50)).views
        dropped, masked = (task_model.logits(batch, views, Plan(drop=drop)) for drop in (True, False))
    return float((dropped - masked).abs().max())

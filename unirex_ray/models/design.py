"""The design of a stage's model, as a recipe declares it; no tensors here, so that recipes load at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unirex_ray.config import TopKPercent

ExtractorKind = Literal[
    "aa-grad", "aa-input-x-grad", "aa-deeplift", "aa-ig", "dlm", "slm", "imitation", "selection", "rand", "gold", "inv"
]


@dataclass(frozen=True, kw_only=True)
class Design:
    """Architecture of a stage's model.

    Attributes:
        extractor: computes the scores. `imitation` and `selection` build on an earlier stage's scores.
        predicts_from: the input of F_task: the text, or (select-predict pipelines) the rationale without gaps.
        top_k_percent: the one threshold of `selection`; other rationales have every threshold of K.
        task_model: a new one; or the earlier stage's: frozen (`earlier`), or trained further (`continued`).
        attention_predictor: whether A2R's second predictor is trained as well.
        differentiable_selection: whether the scores learn from comp and suff as well, through the selection.
    """

    extractor: ExtractorKind
    predicts_from: Literal["text", "rationale"] = "text"
    top_k_percent: TopKPercent | None = None
    task_model: Literal["new", "earlier", "continued"] = "new"
    attention_predictor: bool = False
    differentiable_selection: bool = False

    def rationales(self, top_k_percents: Sequence[int]) -> tuple[int, ...]:
        """Thresholds of the rationales that F_task predicts from: K or `top_k_percent`; none where it is the text."""
        if self.predicts_from == "text":
            return ()
        return tuple(top_k_percents) if self.top_k_percent is None else (self.top_k_percent,)

    @property
    def reads_earlier_scores(self) -> bool:
        """Whether the extractor builds on an earlier stage's scores."""
        return self.extractor in ("selection", "imitation")

    def __post_init__(self) -> None:
        if (self.extractor == "selection") != (self.top_k_percent is not None):
            raise ValueError(f"top_k_percent must be set for 'selection' and for no other extractor, but got {self}")
        learns_scores = self.extractor in ("dlm", "slm") and self.predicts_from == "text"
        if self.differentiable_selection and not learns_scores:
            raise ValueError(
                f"differentiable_selection needs 'dlm' or 'slm' beside a task model on texts, but got {self}"
            )

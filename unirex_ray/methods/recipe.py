"""Recipes: a method is one or more stages, a stage is a sum of losses on a model's design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unirex_ray.config import Config
from unirex_ray.models.design import Design, ExtractorKind

Criterion = Literal["task", "comp", "suff", "plaus", "imitation", "attention", "agreement"]
"""The losses that a stage can sum up; `training.step` computes them.

task: cross entropy of F_task. comp, suff, plaus: UNIREX's. imitation: L2E's cross entropy on importance classes.
attention, agreement: cross entropy of A2R's second predictor, and divergence of the two predictors.
"""

WEIGHT_KEYS: dict[Criterion, str] = {
    "comp": "loss.comp_weight",
    "suff": "loss.suff_weight",
    "plaus": "loss.plaus_weight",
    "agreement": "loss.agreement_weight",
}

_K = ("loss.top_k_percents", "loss.sampled_top_k")
_FAITHFULNESS = ("loss.warmup", *_K)

_CRITERION_KEYS: dict[Criterion, tuple[str, ...]] = {
    "comp": (WEIGHT_KEYS["comp"], "loss.comp", "loss.comp_margin", *_FAITHFULNESS),
    "suff": (WEIGHT_KEYS["suff"], "loss.suff", "loss.suff_margin", *_FAITHFULNESS),
    "plaus": (WEIGHT_KEYS["plaus"], "loss.plaus", "loss.plaus_margin", "data.gold_percent", "data.gold_batch_factor"),
    "agreement": (WEIGHT_KEYS["agreement"],),
}
"""Configuration keys that only a criterion reads."""

_EXTRACTOR_KEYS: dict[ExtractorKind, tuple[str, ...]] = {
    "aa-ig": ("model.ig_steps", "model.pooling", "model.convergence_delta"),
    "dlm": ("model.head",),
    "slm": ("model.head",),
    "imitation": ("model.head",),
}
"""Configuration keys that only an extractor reads."""

_OPTIONAL = {key for keys in (*_CRITERION_KEYS.values(), *_EXTRACTOR_KEYS.values()) for key in keys}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One round of training to early stopping.

    Attributes:
        name: for display, and in the reports of all stages but the last.
        criteria: the losses that are summed, e.g. L = L_task + a_c L_comp + a_s L_suff + a_p L_plaus.
        design: architecture of the model that is trained.
        shared: whether other methods or configurations have the same stage, so that a sweep trains it once; only a
            method's first stage can be shared.
    """

    name: str
    criteria: tuple[Criterion, ...]
    design: Design
    shared: bool = False

    @property
    def trains_task_model(self) -> bool:
        """Whether F_task is trained; a stage that freezes it stops early by its own loss on dev."""
        return self.design.task_model != "earlier"

    @property
    def uses_scores(self) -> bool:
        """Whether the trained weights depend on the extractor."""
        return self.criteria != ("task",) or self.design.predicts_from == "rationale"

    def reads(self, key: str) -> bool:
        """Whether a dotted configuration key has an effect on this stage."""
        return key not in _OPTIONAL or key in (*self._criterion_keys, *_EXTRACTOR_KEYS.get(self.design.extractor, ()))

    def learns_from(self, key: str) -> bool:
        """Whether a dotted configuration key can change this stage's weights where it is a method's first."""
        if key in ("method", "model.convergence_delta", "model.log_odds"):
            return False
        return self.reads(key) if self.uses_scores else key not in _OPTIONAL or key in self._criterion_keys

    @property
    def _criterion_keys(self) -> tuple[str, ...]:
        thresholds = _K if self.design.predicts_from == "rationale" and self.design.top_k_percent is None else ()
        return (*thresholds, *(key for criterion in self.criteria for key in _CRITERION_KEYS.get(criterion, ())))


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the paper's tables.

    Attributes:
        label: the row's name in the paper.
        stages: run in order; the last one's model is the method's.
        defaults: the method's values of loss options that the configuration leaves open.
        in_global_nrg: whether `compare` counts it among the methods by default.
    """

    name: str
    label: str
    stages: tuple[Stage, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    in_global_nrg: bool = True

    def __post_init__(self) -> None:
        if any(stage.shared for stage in self.stages[1:]):
            raise ValueError(f"only a first stage can be shared, as later ones build on earlier ones, but got {self}")

    @property
    def criteria(self) -> frozenset[Criterion]:
        """Losses of all stages."""
        return frozenset(criterion for stage in self.stages for criterion in stage.criteria)

    @property
    def needs_gold(self) -> bool:
        """Whether it learns from gold rationales."""
        return "plaus" in self.criteria

    @property
    def learns_through_selection(self) -> bool:
        """Whether a stage's scores learn through the selection, for which attention needs gates."""
        return any(stage.design.differentiable_selection for stage in self.stages)

    def reads(self, key: str) -> bool:
        """Whether a dotted configuration key has an effect on the method, e.g. a loss weight only with its loss."""
        return any(stage.reads(key) for stage in self.stages)

    def resolve(self, config: Config) -> Config:
        """`config` with the loss options that it leaves open set to this method's defaults."""
        defaults = {"loss.suff": "margin", **self.defaults}
        loss = config.model_dump(mode="json")["loss"]
        missing = {key: value for key, value in defaults.items() if loss[key.removeprefix("loss.")] is None}
        return config.changed(missing) if missing else config

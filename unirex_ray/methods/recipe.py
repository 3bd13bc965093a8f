"""What a method is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unirex_ray.config import Config, override
from unirex_ray.models.rationale_model import Design

Criterion = Literal["task", "comp", "suff", "plaus", "imitation", "attention", "agreement"]
"""The losses that a stage can sum up; `training.step` holds their terms.

task: cross entropy of F_task. comp, suff, plaus: UNIREX's. imitation: L2E's cross entropy on classes of importance.
attention, agreement: A2R's cross entropy of its second predictor, and divergence of the two.
"""

WEIGHT_KEYS: dict[Criterion, str] = {
    "comp": "loss.comp_weight",
    "suff": "loss.suff_weight",
    "plaus": "loss.plaus_weight",
    "agreement": "loss.agreement_weight",
}

_OPTION_KEYS: dict[str, tuple[str, ...]] = {
    "comp": ("loss.comp", "loss.comp_margin", "loss.top_k_percents"),
    "suff": ("loss.suff", "loss.suff_margin", "loss.top_k_percents"),
    "plaus": ("loss.plaus", "loss.plaus_margin"),
    "dlm": ("model.head",),
    "slm": ("model.head",),
    "imitation": ("model.head",),
}
"""Configuration keys that a criterion's loss, or an extractor that is trained, reads beside the weight."""

_OPTIONAL = ("loss.", "model.head", "model.ig_steps", "model.pooling", "model.convergence_delta", "method", "output")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One round of training to early stopping.

    Attributes:
        name: shown, and part of what is reported of all stages but the last.
        criteria: the losses that are summed, e.g. L = L_task + a_c L_comp + a_s L_suff + a_p L_plaus.
        design: the model that learns.
        shared: whether other methods or configurations have the same stage, so that a sweep trains it once.
    """

    name: str
    criteria: tuple[Criterion, ...]
    design: Design
    shared: bool = False

    @property
    def trains_task_model(self) -> bool:
        """Whether F_task learns; a stage that leaves it as it is stops early by its own loss on dev."""
        return self.design.task_model == "new"

    @property
    def uses_scores(self) -> bool:
        """Whether what is learned depends on the extractor."""
        return self.criteria != ("task",) or self.design.predicts_from == "rationale"

    def reads(self, key: str) -> bool:
        """Whether a dotted configuration key can change what this stage, as a method's first one, learns."""
        if not key.startswith(_OPTIONAL):
            return True
        weights = (WEIGHT_KEYS[criterion] for criterion in self.criteria if criterion in WEIGHT_KEYS)
        parts = (*self.criteria, *([self.design.extractor] if self.uses_scores else ()))
        options = (_OPTION_KEYS.get(part, ()) for part in parts)
        return key in (*weights, *(option for group in options for option in group))


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the paper's tables.

    Attributes:
        label: the row's name in the paper.
        stages: run in order; the last one's model is the method's.
        defaults: loss options that are the method's own where the configuration leaves them open.
        in_global_nrg: whether `compare` counts it among the methods by default (SPEC, global scope).
    """

    name: str
    label: str
    stages: tuple[Stage, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    in_global_nrg: bool = True

    @property
    def criteria(self) -> frozenset[Criterion]:
        """Every loss that some stage uses."""
        return frozenset(criterion for stage in self.stages for criterion in stage.criteria)

    @property
    def extractor(self) -> str:
        """Where the method's importance scores come from."""
        return self.stages[-1].design.extractor

    @property
    def weight_keys(self) -> tuple[str, ...]:
        """Configuration keys of the loss weights that this method has, e.g. `loss.comp_weight`."""
        return tuple(key for criterion, key in WEIGHT_KEYS.items() if criterion in self.criteria)

    @property
    def needs_gold(self) -> bool:
        """Whether it learns from gold rationales."""
        return "plaus" in self.criteria

    def reads(self, key: str) -> bool:
        """Whether a dotted configuration key means anything to the method: a loss weight only with its loss."""
        return key not in WEIGHT_KEYS.values() or key in self.weight_keys

    def resolve(self, config: Config) -> Config:
        """`config` with the loss options that it leaves open set as this method has them."""
        own = {"loss.suff": "margin", **self.defaults}
        given = config.model_dump(mode="json")
        open_keys = {key: value for key, value in own.items() if given["loss"][key.removeprefix("loss.")] is None}
        return override(config, open_keys) if open_keys else config

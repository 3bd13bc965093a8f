"""What a method is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Criterion = Literal["task", "comp", "suff", "plaus"]
ExtractorKind = Literal["aa-ig", "dlm", "slm"]

WEIGHT_KEYS: dict[Criterion, str] = {
    "comp": "loss.comp_weight",
    "suff": "loss.suff_weight",
    "plaus": "loss.plaus_weight",
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One round of training to early stopping.

    Attributes:
        criteria: the losses that are summed, in the order of L = L_task + a_c L_comp + a_s L_suff + a_p L_plaus.
        trains: which parts learn; SLM's extractor shares the task encoder.
    """

    criteria: tuple[Criterion, ...]
    trains: tuple[Literal["task_model", "extractor"], ...] = ("task_model", "extractor")


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the paper's tables.

    Attributes:
        label: the row's name in the paper.
        extractor: where importance scores come from.
        stages: run in order on the same model.
        in_global_nrg: whether `compare` counts it among the methods by default (SPEC, global scope).
    """

    name: str
    label: str
    extractor: ExtractorKind
    stages: tuple[Stage, ...]
    in_global_nrg: bool = True

    @property
    def criteria(self) -> frozenset[Criterion]:
        """Every loss that some stage uses."""
        return frozenset(criterion for stage in self.stages for criterion in stage.criteria)

    @property
    def weight_keys(self) -> tuple[str, ...]:
        """Configuration keys of the loss weights that this method has, e.g. `loss.comp_weight`."""
        return tuple(key for criterion, key in WEIGHT_KEYS.items() if criterion in self.criteria)

    @property
    def needs_gold(self) -> bool:
        """Whether it learns from gold rationales."""
        return "plaus" in self.criteria

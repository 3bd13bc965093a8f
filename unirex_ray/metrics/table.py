"""The one table of metrics: key, direction, desideratum. Everything that names, logs or ranks a metric reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from sys import intern
from typing import Literal, Self

Desideratum = Literal["faithfulness", "plausibility", "task"]
Group = Literal["train", "dev", "test", "time", "nrg"]
"""What a logged metric belongs to, and how its key begins: a split, the seconds that were spent, or a comparison."""

METRIC_TOP_K_PERCENTS = (1, 5, 10, 20, 50)
"""K of the faithfulness metrics, in percent (paper, section 4.1); fixed, so that results compare."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A raw metric.

    Attributes:
        key: name within its group; logged as `group/key`.
        label: column header.
        higher_is_better: direction; False for sufficiency.
        desideratum: whose NRG it enters; None for metrics that are reported only.
        decimals: digits shown in tables.
    """

    key: str
    label: str
    higher_is_better: bool
    desideratum: Desideratum | None
    decimals: int

    def on(self, group: Group) -> str:
        """The logged key, e.g. `dev/comprehensiveness`."""
        return f"{group}/{self.key}"


COMPREHENSIVENESS = Metric(
    key="comprehensiveness", label="Comp", higher_is_better=True, desideratum="faithfulness", decimals=3
)
SUFFICIENCY = Metric(key="sufficiency", label="Suff", higher_is_better=False, desideratum="faithfulness", decimals=3)
CSD = Metric(key="csd", label="CSD", higher_is_better=True, desideratum=None, decimals=3)
AUPRC = Metric(key="auprc", label="AUPRC", higher_is_better=True, desideratum="plausibility", decimals=2)
TOKEN_F1 = Metric(key="token_f1", label="TF1", higher_is_better=True, desideratum="plausibility", decimals=2)
TASK_SCORE = Metric(key="task_score", label="Task", higher_is_better=True, desideratum="task", decimals=2)
ACCURACY = Metric(key="accuracy", label="Accuracy", higher_is_better=True, desideratum=None, decimals=2)
MACRO_F1 = Metric(key="macro_f1", label="Macro-F1", higher_is_better=True, desideratum=None, decimals=2)
BINARY_F1 = Metric(key="binary_f1", label="Binary F1", higher_is_better=True, desideratum=None, decimals=2)
CONVERGENCE_DELTA = Metric(
    key="convergence_delta", label="IG delta", higher_is_better=False, desideratum=None, decimals=3
)
LOG_ODDS = Metric(key="log_odds", label="Log-odds", higher_is_better=False, desideratum=None, decimals=3)
LOSS = Metric(key="loss", label="Loss", higher_is_better=False, desideratum=None, decimals=4)

METRICS = (
    COMPREHENSIVENESS,
    SUFFICIENCY,
    CSD,
    AUPRC,
    TOKEN_F1,
    TASK_SCORE,
    ACCURACY,
    MACRO_F1,
    BINARY_F1,
    LOG_ODDS,
    CONVERGENCE_DELTA,
    LOSS,
)
NRG_METRICS = tuple(metric for metric in METRICS if metric.desideratum is not None)
"""The five raw metrics that CNRG sums up. `task_score` repeats the corpus' own task metric (see `TaskMetric`)."""


def nrg_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of `NRG_METRICS` that there are, without their standard errors."""
    return {metric.key: metrics[metric.key] for metric in NRG_METRICS if metric.key in metrics}


METRICS_VERSION = 1
"""Of the definitions of all metrics: a change that moves a number raises it; numbers of two versions are not pooled."""


def _report_only(key: str, label: str, decimals: int) -> Metric:
    return Metric(key=key, label=label, higher_is_better=False, desideratum=None, decimals=decimals)


STANDARD_ERRORS = {
    metric.key: _report_only(f"{metric.key}_se", f"{metric.label} SE", metric.decimals + 1) for metric in NRG_METRICS
}
"""Standard error over instances of each metric of NRG, by the metric's key."""

MAJORITY_SCORE = _report_only("majority_score", "Task score of the majority class", 2)
MAJORITY_P = _report_only("majority_p", "p against the majority class", 4)
TOP_PREDICTION = _report_only("top_prediction", "Share of the most frequent prediction", 3)
VERDICT = (MAJORITY_SCORE, MAJORITY_P, TOP_PREDICTION)
"""Whether the model learned anything, see `metrics.verdict`."""

TIED_EPOCHS = _report_only("tied_epochs", "Epochs with the best dev task score", 0)
TIED_COMP_RANGE = _report_only("tied_comp_range", "Range of Comp over those epochs", 3)
TIED_SUFF_RANGE = _report_only("tied_suff_range", "Range of Suff over those epochs", 3)
TIES = (TIED_EPOCHS, TIED_COMP_RANGE, TIED_SUFF_RANGE)
"""How many epochs tie for the best one, and how far Comp and Suff vary over them."""

STAGE_LOSS = Metric(key="stage_loss", label="Stage loss", higher_is_better=False, desideratum=None, decimals=4)
"""On dev, of a stage that leaves the task model as it is: what stops it early."""

TRAINING_LOSSES = tuple(
    Metric(key=key, label=label, higher_is_better=False, desideratum=None, decimals=4)
    for key, label in (
        ("loss", "Loss"),
        ("task_loss", "Task loss"),
        ("comp_loss", "Comp loss"),
        ("suff_loss", "Suff loss"),
        ("plaus_loss", "Plaus loss"),
        ("imitation_loss", "Imitation loss"),
        ("attention_loss", "Attention loss"),
        ("agreement_loss", "Agreement loss"),
    )
)
"""Means over an epoch: the weighted sum, and each criterion by itself."""


def _seconds(key: str, label: str) -> Metric:
    return Metric(key=key, label=label, higher_is_better=False, desideratum=None, decimals=2)


TRAIN_S = _seconds("train_s", "Training (s)")
EVALUATE_S = _seconds("evaluate_s", "Evaluation (s)")
WAIT_S = _seconds("wait_s", "Waiting for a shared stage (s)")
TOTAL_S = _seconds("total_s", "Total (s)")
EXTRACTION_S = _seconds("extraction_s", "Extraction per instance (s)")

NRG_SCORES = tuple(
    Metric(key=key, label=key.upper(), higher_is_better=True, desideratum=None, decimals=3)
    for key in ("cnrg", "fnrg", "pnrg", "tnrg")
)
"""Beside them a comparison logs the relative gain of each of `NRG_METRICS`, by its key."""

LOGGED: Mapping[Group, tuple[Metric, ...]] = {
    "train": (*TRAINING_LOSSES, *(m for m in METRICS if m is not LOSS), *STANDARD_ERRORS.values(), *VERDICT),
    "dev": (*METRICS, *STANDARD_ERRORS.values(), *VERDICT, *TIES, STAGE_LOSS),
    "test": (*METRICS, *STANDARD_ERRORS.values(), *VERDICT),
    "time": (TRAIN_S, EVALUATE_S, WAIT_S, TOTAL_S, EXTRACTION_S),
    "nrg": (*NRG_SCORES, *NRG_METRICS),
}
"""Every metric that is ever logged, by group; on train, losses of an epoch or an evaluation of the split."""

_FORMER_KEYS = {"dev/own_loss": STAGE_LOSS.on("dev")}


@dataclass(frozen=True, kw_only=True)
class TrialMetrics:
    """Metrics of a trial, of one of its epochs or of an evaluation, parted by group; keys as in `LOGGED`.

    Attributes:
        train: losses of an epoch; metrics where the train split was evaluated.
        time: seconds.
        nrg: what the latest comparison wrote back.
    """

    train: Mapping[str, float] = field(default_factory=dict)
    dev: Mapping[str, float] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)
    time: Mapping[str, float] = field(default_factory=dict)
    nrg: Mapping[str, float] = field(default_factory=dict)

    def of(self, group: Group) -> Mapping[str, float]:
        """The metrics of one group by key."""
        values: Mapping[str, float] = getattr(self, group)
        return values

    def flat(self) -> dict[str, float]:
        """All of them by logged key, e.g. `dev/auprc`."""
        return {f"{part.name}/{key}": value for part in fields(self) for key, value in getattr(self, part.name).items()}

    @classmethod
    def from_flat(cls, logged: Mapping[str, float]) -> Self:
        """Part what `flat` gave, or a store returns; keys of earlier versions get their present names.

        Keys of no group, which others may have logged, are left out.
        """
        groups: dict[str, dict[str, float]] = {part.name: {} for part in fields(cls)}
        for key, value in logged.items():
            group, _, name = _FORMER_KEYS.get(key, key).partition("/")
            if group in groups:
                groups[group][intern(name)] = value  # ten thousand trials share their keys
        return cls(**groups)

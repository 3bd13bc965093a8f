"""The one table of metrics: key, direction, desideratum. Everything that names or ranks a metric reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unirex_ray.data.schema import Split

Desideratum = Literal["faithfulness", "plausibility", "task"]
Group = Literal["train", "dev", "test", "time"]
"""What a trial's metrics belong to: a split, or the seconds that it took."""

METRIC_TOP_K_PERCENTS = (1, 5, 10, 20, 50)
"""K of the faithfulness metrics, in percent (paper, section 4.1); fixed, so that results compare."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A raw metric.

    Attributes:
        key: name within a split; logged as `split/key`.
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

    def on(self, split: Split) -> str:
        """The logged key, e.g. `dev/comprehensiveness`."""
        return f"{split}/{self.key}"


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
    CONVERGENCE_DELTA,
    LOSS,
)
NRG_METRICS = tuple(metric for metric in METRICS if metric.desideratum is not None)
"""The five raw metrics that CNRG sums up. `task_score` repeats the corpus' own task metric (see `TaskMetric`)."""

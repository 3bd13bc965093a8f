"""A trial as the search plans it and as the run store remembers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unirex_ray.data.schema import Split
from unirex_ray.metrics.table import TrialMetrics

TrialStatus = Literal["running", "completed", "stopped", "failed"]


def trial_name(sweep_id: str, method: str, configuration: int, seed: int) -> str:
    """`TrialSpec.trial_id`: the same trial has the same one in every process."""
    return f"{sweep_id}-{method}-{configuration:04d}-s{seed}"


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One configuration of one method with one seed.

    Attributes:
        trial_id: deterministic within the sweep, see `trial_name`.
        configuration: index of the suggestion within the method's study, from 0.
        parameters: what was sampled: dotted configuration keys and plain values (`method` and `train.seed` excluded).
    """

    trial_id: str
    method: str
    configuration: int
    seed: int
    parameters: Mapping[str, Any]


SAME_LABELS = "the same"
"""`Evaluation.labels` where model and corpus have one label set."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A trained model's metrics on a corpus that need not be the one that it was trained on.

    Attributes:
        trial_id, method, seed: of the model.
        trained_on, trained_digest: the corpus that it was trained on.
        corpus, digest: the one that it was evaluated on.
        split: of that corpus.
        labels: which of the corpus' labels each of the model's stands for, in words.
    """

    trial_id: str
    method: str
    seed: int
    trained_on: str
    trained_digest: str
    corpus: str
    digest: str
    split: Split
    labels: str
    metrics: TrialMetrics


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What is known of a trial.

    Attributes:
        status: `stopped` at a rung, `failed` with a reason, else `running` or `completed`.
        metrics: the final ones of a completed trial; empty before.
        history: losses and dev metrics by epoch.
        run_id: the store's own identifier, where it has one.
    """

    spec: TrialSpec
    status: TrialStatus
    metrics: TrialMetrics = field(default_factory=TrialMetrics)
    history: Mapping[int, TrialMetrics] = field(default_factory=dict)
    reason: str | None = None
    run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

"""A trial as the search plans it, and trials and evaluations as the run store records them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unirex_ray.data.schema import Split
from unirex_ray.metrics.table import TrialMetrics

TrialStatus = Literal["running", "completed", "stopped", "failed", "lost"]


def trial_name(sweep_id: str, method: str, configuration: int, seed: int) -> str:
    """`TrialSpec.trial_id`: the same in every process."""
    return f"{sweep_id}-{method}-{configuration:04d}-s{seed}"


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One configuration of one method with one seed.

    Attributes:
        trial_id: deterministic within the sweep, see `trial_name`.
        configuration: index of the suggestion within the method's study, from 0.
        parameters: sampled values by dotted configuration key, without `method` and `train.seed`.
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
    """A trained model's metrics on its own corpus or on another one.

    Attributes:
        trial_id, method, seed: of the model.
        trained_on, trained_digest: the corpus that the model was trained on.
        corpus, digest: the corpus that it was evaluated on.
        split: of `corpus`.
        labels: the corpus' label for each of the model's labels, in words; `SAME_LABELS` if they are equal.
        settings: what else can change the metrics, see `protocol.evaluation_settings`; empty where it is not recorded.
        protocol: hash of the protocol that the model was trained by; None where it is not recorded.
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
    settings: Mapping[str, str] = field(default_factory=dict)
    protocol: str | None = None


@dataclass(frozen=True, kw_only=True)
class JudgedModel:
    """A model whose rationales were judged.

    Attributes:
        trained_on, trained_digest: the corpus that it was trained on.
        metrics: what stands beside its trial's own metrics, by logged key.
    """

    trial_id: str
    trained_on: str
    trained_digest: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A user study with its answers.

    Attributes:
        study: its identifier.
        answers: their digest.
        simulated: whether no people gave them.
        corpus, digest: that the judged instances are of.
        metrics: by logged key; none of them is a trial's.
        models: that were judged.
    """

    study: str
    answers: str
    simulated: bool
    corpus: str
    digest: str
    metrics: Mapping[str, float]
    models: tuple[JudgedModel, ...]


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What is known of a trial.

    Attributes:
        status: `stopped` at a rung; `failed` with an error that would recur; `lost` with its process, its node or its
            disk, so that it goes on when the sweep is resumed; these with a reason; else `running` or `completed`.
        metrics: of a completed trial; empty before.
        history: losses and dev metrics by epoch.
        run_id: the store's own identifier; None before the trial is recorded.
    """

    spec: TrialSpec
    status: TrialStatus
    metrics: TrialMetrics = field(default_factory=TrialMetrics)
    history: Mapping[int, TrialMetrics] = field(default_factory=dict)
    reason: str | None = None
    run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

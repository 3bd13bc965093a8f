"""One trial: one configuration, one seed, from data to test metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.highlight import HighlightedInstance
from unirex_ray.training.runtime import Runtime


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A completed trial.

    Attributes:
        metrics: of the best checkpoint, by logged key: `dev/...`, `test/...`, and seconds as `time/train_s`,
            `time/evaluate_s`, `time/total_s`.
        epoch: the best checkpoint's, from 1.
        highlights: some test instances with their rationales.
    """

    metrics: Mapping[str, float]
    epoch: int
    highlights: tuple[HighlightedInstance, ...]


def train_trial(config: Config, corpus: Corpus, runtime: Runtime) -> TrialResult:
    """Train, keep the best checkpoint by dev task score, evaluate test once with it.

    Goes on from `runtime.checkpoints` where a checkpoint of the same configuration lies there. Reports dev metrics after
    every epoch.

    Raises:
        TrainingError: where a loss or a metric is not finite; names the metric, the epoch and the step.
    """
    raise NotImplementedError

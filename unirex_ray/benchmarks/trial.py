"""Where the time of a whole trial goes, from its configuration to its page and its run."""

from __future__ import annotations

import cProfile
import math
import pstats
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.models.rationale_model import build_stage
from unirex_ray.report.html import rationale_page
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST
from unirex_ray.training import trial
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.evaluate import score_split
from unirex_ray.training.explain import highlight_results
from unirex_ray.training.learner import Learner
from unirex_ray.training.prepare import prepare
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.setup import prepare_trial
from unirex_ray.training.stage import StageTrainer
from unirex_ray.training.state import TrialResult


@dataclass(frozen=True, kw_only=True)
class TrialCost:
    """Seconds of one trial by what they are spent on.

    Attributes:
        steps: training steps.
        dev: evaluations of dev, after epochs and with the best checkpoint.
        test: the one evaluation of test.
        scores: an earlier stage's scores of train and dev.
        loading: data from the cache, encoders, new heads.
        checkpoints: writing and reading them.
        highlights: explaining the instances of the page.
        page: writing it.
        recording: the trial's run in an MLflow database.
        other: the rest.
    """

    steps: float
    dev: float
    test: float
    scores: float
    loading: float
    checkpoints: float
    highlights: float
    page: float
    recording: float
    other: float

    @property
    def total(self) -> float:
        """Their sum."""
        return math.fsum(getattr(self, part.name) for part in fields(self))


class _Reports(LocalRuntime):
    """Keeps its reports instead of printing them."""

    def __init__(self, folder: Path, *, gpu: bool) -> None:
        super().__init__(folder, gpu=gpu)
        self.reports: list[tuple[int, TrialMetrics, str]] = []

    def report(self, metrics: TrialMetrics, *, epoch: int, stage: str = "") -> None:
        self.reports.append((epoch, metrics, stage))


def measure_trial(config: Config, corpus: Corpus) -> TrialCost:
    """Train one configuration for real, under Python's profiler, and record it in a database of its own.

    The corpus is tokenised and the encoder tried before: trials find both in the cache.
    """
    prepare(config, corpus)
    with tempfile.TemporaryDirectory() as folder:
        runtime, profile = _Reports(Path(folder) / "trial", gpu=bool(config.train.gpu)), cProfile.Profile()
        result = profile.runcall(trial.train_trial, config, corpus, runtime)
        store = MlflowStore(f"sqlite:///{folder}/mlflow.db")
        record = _seconds(lambda: _record(store, config, corpus, runtime, result))
        page = _seconds(lambda: rationale_page(result.highlights, title=config.method))
    spent = _by_function(profile)
    test = spent(StageTrainer.evaluate, by=trial.final_result)
    parts = {
        "steps": spent(Learner.run_epoch),
        "dev": spent(StageTrainer.evaluate) + spent(Learner.dev_loss) - test,
        "test": test,
        "scores": spent(score_split),
        "loading": spent(prepare_trial) + spent(build_stage),
        "checkpoints": sum(spent(call) for call in (CheckpointStore.save, CheckpointStore.load, CheckpointStore.write)),
        "highlights": spent(highlight_results),
    }
    other = spent(trial.train_trial) - sum(parts.values())
    return TrialCost(**parts, page=page, recording=record, other=max(0.0, other))


def _by_function(profile: cProfile.Profile) -> Callable[..., float]:
    """Seconds within a function and what it calls; `by`: within the calls from that function alone."""
    stats: Mapping[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]

    def key(function: Any) -> tuple[str, int, str]:
        code = getattr(function, "__wrapped__", function).__code__
        return code.co_filename, code.co_firstlineno, code.co_name

    def spent(function: Any, by: Any = None) -> float:
        if key(function) not in stats:
            return 0.0
        *_, cumulative, callers = stats[key(function)]
        return float(cumulative if by is None else callers[key(by)][-1])

    return spent


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _record(store: MlflowStore, config: Config, corpus: Corpus, runtime: _Reports, result: TrialResult) -> None:
    tags = {DATA_DIGEST: corpus.digest()}
    sweep = store.open_sweep(experiment=corpus.name, sweep_id="benchmark", seeds=(0,), params={}, tags=tags)
    spec = TrialSpec(trial_id="benchmark-0", method=config.method, configuration=0, seed=0, parameters={})
    sweep.open_trial(spec, params=config.flat(), tags=tags)
    for epoch, metrics, stage in runtime.reports:
        sweep.log_epoch(spec.trial_id, epoch, metrics, stage=stage)
    sweep.finish_trial(spec.trial_id, "completed", metrics=result.metrics)

"""Recorded methods whose results by instance are simulated."""

from collections.abc import Callable, Mapping

import numpy as np

from unirex_ray.benchmarks.certainty import simulate
from unirex_ray.metrics.bootstrap import Results
from unirex_ray.metrics.instance_file import INSTANCES, to_parquet
from unirex_ray.metrics.instances import split_metrics
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.records import TrialRecord, TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST, RunStore


def numbers(comp: float, suff: float, auprc: float, token_f1: float, task: float) -> dict[str, float]:
    keys = ("comprehensiveness", "sufficiency", "auprc", "token_f1", "task_score")
    return dict(zip(keys, (comp, suff, auprc, token_f1, task), strict=True))


TRUE = {
    "unirex-slm-fp": numbers(0.30, 0.05, 70.0, 60.0, 85.0),
    "unirex-dlm-fp": numbers(0.30, 0.05, 70.0, 60.0, 85.0),
    "aa-ig": numbers(0.20, 0.12, 55.0, 50.0, 80.0),
    "aa-grad": numbers(0.05, 0.30, 45.0, 40.0, 75.0),
}
"""Two that are equal, and two that are behind."""


def record_simulated(
    store: RunStore,
    true: Mapping[str, Mapping[str, float]] = TRUE,
    *,
    seeds: int = 3,
    instances: int = 150,
    corpus: str = "reviews",
    sweep: str = "s1",
) -> Results:
    """Record a sweep of these methods, one configuration each, with their files; returns what is in them."""
    tags = {DATA_DIGEST: "abc1"}
    results = simulate(true, random=np.random.default_rng(1), instances=instances, seeds=seeds, seed_spread=0.5)
    opened = store.open_sweep(experiment=corpus, sweep_id=sweep, seeds=tuple(range(seeds)), params={}, tags=tags)
    for method, runs in results.items():
        for seed, run in enumerate(runs):
            trial_id = f"{sweep}-{method}-0000-s{seed}"
            spec = TrialSpec(trial_id=trial_id, method=method, configuration=0, seed=seed, parameters={})
            run_id = opened.open_trial(spec, params={}, tags=tags)
            store.log_files(run_id, {INSTANCES: to_parquet({"test": run}, ("no", "yes"), {})})
            found = split_metrics(run)
            opened.finish_trial(trial_id, "completed", metrics=TrialMetrics(dev=found, test=found))
    opened.finish()
    return results


def reader(store: RunStore) -> Callable[[TrialRecord], bytes | None]:
    """Reads a trial's results by instance from its run."""
    return lambda trial: store.artifact(str(trial.run_id), INSTANCES)

"""Configurations with results by instance, simulated."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from helpers.simulated import numbers

from unirex_ray.analysis.selection import Configuration
from unirex_ray.benchmarks.certainty import simulate
from unirex_ray.metrics.instance_file import to_parquet
from unirex_ray.metrics.instances import COMP, SUFF, InstanceResults, split_metrics
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.records import TrialRecord, TrialSpec

SEEDS = 3


def models(seed: int) -> list[InstanceResults]:
    true = {"aa-ig": numbers(0.3, 0.05, 60.0, 50.0, 80.0)}
    drawn = simulate(true, random=np.random.default_rng(seed), instances=80, seeds=SEEDS, seed_spread=0.5)
    return list(drawn["aa-ig"])


def moved(run: InstanceResults, comp: float, suff: float) -> InstanceResults:
    """The same predictions, with rationales whose Comp and Suff are higher by so much on every instance."""
    # Both are sums over five thresholds, divided by six (paper, section 4.1).
    by = dict.fromkeys(COMP, comp * 6 / 5) | dict.fromkeys(SUFF, suff * 6 / 5)
    return replace(run, measured={name: values + by.get(name, 0.0) for name, values in run.measured.items()})


class WithResults:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.variants: dict[str, list[Configuration]] = {}

    def add(self, method: str, runs: list[InstanceResults], index: int = 0, **parameters: Any) -> None:
        records = []
        for seed, run in enumerate(runs):
            name = f"s-{method}-{index}-{seed}"
            spec = TrialSpec(trial_id=name, method=method, configuration=index, seed=seed, parameters=parameters)
            found = split_metrics(run)
            records.append(TrialRecord(spec=spec, status="completed", metrics=TrialMetrics(dev=found, test=found)))
            self.files[name] = to_parquet({"test": run}, ("no", "yes"), {})
        configuration = Configuration(
            method=method, index=index, parameters=parameters, records=tuple(records), complete=True
        )
        self.variants.setdefault(method, []).append(configuration)

    def selected(self, indices: Mapping[str, int]) -> dict[str, Configuration]:
        """Each method's configuration; the first one where none is named."""
        return {method: found[indices.get(method, 0)] for method, found in self.variants.items()}

    def read(self, trial: TrialRecord) -> bytes | None:
        return self.files.get(trial.spec.trial_id)

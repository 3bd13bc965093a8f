"""From trials to configurations, and from configurations to the selected one: pure, and only ever by raw metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unirex_ray.data.schema import Split
from unirex_ray.methods import METHODS
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Population, Weights, mean_over_seeds, score_population, std_over_seeds
from unirex_ray.metrics.table import Group
from unirex_ray.tracking.records import TrialRecord


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """All seeds of one suggestion of one method's study.

    Attributes:
        parameters: what was sampled, by dotted configuration key.
        records: one per seed, by increasing seed; only of the sweep's seeds.
        complete: whether all of the sweep's seeds completed; only then it can be scored.
        sweep: tells configurations of several sweeps apart; empty within one.
    """

    method: str
    index: int
    parameters: Mapping[str, Any]
    records: tuple[TrialRecord, ...]
    complete: bool
    sweep: str = ""

    @property
    def key(self) -> str:
        """Unique within the method: `index`, or `sweep:index`."""
        return f"{self.sweep}:{self.index}" if self.sweep else str(self.index)

    def mean(self, group: Group) -> dict[str, float]:
        """Mean over the completed seeds, by metric key."""
        return mean_over_seeds(self._rows(group))

    def std(self, group: Group) -> dict[str, float]:
        """Standard deviation over the completed seeds (n - 1; nan for one seed), by metric key."""
        return std_over_seeds(self._rows(group))

    def _rows(self, group: Group) -> list[Mapping[str, float]]:
        return [record.metrics.of(group) for record in self.records if record.status == "completed"]


def configurations(
    records: Iterable[TrialRecord], *, seeds: Sequence[int], sweep: str = ""
) -> dict[str, list[Configuration]]:
    """Group one sweep's trials by method and configuration.

    Args:
        seeds: the seeds that every configuration of the sweep has to complete; trials of other seeds are ignored.
        sweep: put into every configuration's `sweep`.

    Returns:
        Configurations by increasing index, by method in the order of the first trial seen.
    """
    groups: dict[str, dict[int, list[TrialRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.spec.seed in seeds:
            groups[record.spec.method][record.spec.configuration].append(record)

    def build(method: str, index: int, group: list[TrialRecord]) -> Configuration:
        return Configuration(
            method=method,
            index=index,
            parameters=group[0].spec.parameters,
            records=tuple(sorted(group, key=lambda record: record.spec.seed)),
            complete={r.spec.seed for r in group if r.status == "completed"} == set(seeds),
            sweep=sweep,
        )

    return {
        method: [build(method, index, by_index[index]) for index in sorted(by_index)]
        for method, by_index in groups.items()
    }


def score_variants(configs: Iterable[Configuration], weights: Weights = EQUAL_WEIGHTS) -> Population:
    """Variant scope: the complete configurations of one method against each other, on dev, by `Configuration.key`."""
    return score_population({config.key: config.mean("dev") for config in configs if config.complete}, weights)


def select_variants(
    configs: Mapping[str, Sequence[Configuration]], weights: Weights = EQUAL_WEIGHTS
) -> dict[str, Configuration]:
    """Each method's configuration with the best dev CNRG in variant scope; the earlier one wins a tie.

    A method without a complete configuration is left out.
    """
    selected = {}
    for method, of_method in configs.items():
        scores = score_variants(of_method, weights).scores
        if scores:
            complete = [config for config in of_method if config.complete]
            selected[method] = max(complete, key=lambda config: scores[config.key].cnrg)
    return selected


def in_global_scope(method: str) -> bool:
    """Whether Z of the global scope holds this method by default (the paper's sixteen and SLM-P)."""
    return method in METHODS and METHODS[method].in_global_nrg


def score_methods(selected: Mapping[str, Configuration], split: Split, weights: Weights = EQUAL_WEIGHTS) -> Population:
    """Global scope: the selected configurations of the methods in scope against each other, by method."""
    raw = {method: config.mean(split) for method, config in selected.items() if in_global_scope(method)}
    return score_population(raw, weights)


def select_best(selected: Mapping[str, Configuration], weights: Weights = EQUAL_WEIGHTS) -> Configuration | None:
    """The one best configuration of a sweep: best dev CNRG in global scope; the earlier method wins a tie.

    Where no method is in the global scope (a sweep over ablations alone), they are compared with each other.
    """
    raw = {method: config.mean("dev") for method, config in selected.items()}
    scope = {method: metrics for method, metrics in raw.items() if in_global_scope(method)} or raw
    scores = score_population(scope, weights).scores
    return selected[max(scores, key=lambda method: scores[method].cnrg)] if scores else None


def why_incomplete(configuration: Configuration) -> str:
    """What keeps a configuration out of Z, in words: its stopped, failed and running seeds, or those never started."""
    open_seeds = [record for record in configuration.records if record.status != "completed"]
    told = [
        f"seed {record.spec.seed} {record.status}" + (f": {record.reason}" if record.reason else "")
        for record in open_seeds
    ]
    return "; ".join(told) or "not all seeds have run"

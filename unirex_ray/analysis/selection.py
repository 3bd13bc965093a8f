"""From trials to configurations, and from configurations to the selected one: pure, and only ever by raw metrics."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unirex_ray.data.schema import Split
from unirex_ray.methods import METHODS, known_method
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Population, Weights, mean_over_seeds, score_population, std_over_seeds
from unirex_ray.metrics.table import NRG_METRICS, Group, nrg_metrics
from unirex_ray.metrics.verdict import all_better_than_majority
from unirex_ray.tracking.records import TrialRecord

TRAIN_LIMIT = "data.train_limit"


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

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the records, increasing."""
        return tuple(record.spec.seed for record in self.records)

    def mean(self, group: Group) -> dict[str, float]:
        """Mean over the completed seeds, by metric key."""
        return mean_over_seeds(self._rows(group))

    def std(self, group: Group) -> dict[str, float]:
        """Standard deviation over the completed seeds (n - 1; nan for one seed), by metric key."""
        return std_over_seeds(self._rows(group))

    def better_than_majority(self, split: Split) -> bool | None:
        """Whether the models of all seeds are better than the majority class; None where that was not recorded."""
        return all_better_than_majority(self._rows(split))

    def not_finite(self, split: Split) -> str | None:
        """The first mean of NRG's metrics that is not finite, in words; None where all are."""
        mean = self.mean(split)
        keys = [metric.key for metric in NRG_METRICS if not math.isfinite(mean.get(metric.key, 0.0))]
        return f"{split}/{keys[0]} is {mean[keys[0]]}" if keys else None

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


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Configurations against each other, see `rank`.

    Attributes:
        order: best first.
        population: their scores, by the name that `rank` was given for each.
        split: that they were scored on.
        tied: those with the best CNRG, where they are several and better than the majority class.
    """

    order: tuple[Configuration, ...]
    population: Population
    split: Split
    tied: tuple[Configuration, ...]

    @property
    def best(self) -> Configuration | None:
        """The first one; None without any, and where its models are not better than the majority class."""
        first = self.order[0] if self.order else None
        return None if first is None or first.better_than_majority(self.split) is False else first


def rank(named: Mapping[str, Configuration], split: Split, weights: Weights = EQUAL_WEIGHTS) -> Ranking:
    """Score configurations over each other and put them in order: the one place that decides which is better.

    Configurations with a model that is not better than the majority class on this split come last. The others stand by
    falling CNRG. Equal CNRG: by CNRG without the floor for noise, then methods in the order of the paper's tables, and
    configurations in the order in which they are given: the earlier sweep, the lower number.

    Args:
        named: complete configurations by unique names; their metrics on `split` are finite.
    """
    raw = {name: configuration.mean(split) for name, configuration in named.items()}
    population = score_population(raw, weights)
    unfloored = score_population({name: nrg_metrics(metrics) for name, metrics in raw.items()}, weights)
    known = list(METHODS)

    def digits(score: float) -> float:
        # Scores that are equal in exact arithmetic may differ in their last bits.
        return round(score, 9)

    def precedence(name: str) -> tuple[bool, float, float, int, str]:
        configuration = named[name]
        return (
            configuration.better_than_majority(split) is False,
            -digits(population.scores[name].cnrg),
            -digits(unfloored.scores[name].cnrg),
            known.index(configuration.method) if configuration.method in known else len(known),
            configuration.method,
        )

    order = sorted(named, key=precedence)
    first = [name for name in order if precedence(name)[:2] == (False, precedence(order[0])[1])]
    return Ranking(
        order=tuple(named[name] for name in order),
        population=population,
        split=split,
        tied=tuple(named[name] for name in first) if len(first) > 1 else (),
    )


def rank_variants(configs: Iterable[Configuration], weights: Weights = EQUAL_WEIGHTS) -> Ranking:
    """Variant scope: the complete configurations of one method on dev, named by `Configuration.key`."""
    return rank({config.key: config for config in configs if config.complete}, "dev", weights)


def select_variants(
    configs: Mapping[str, Sequence[Configuration]], weights: Weights = EQUAL_WEIGHTS
) -> dict[str, Configuration]:
    """Each method's best configuration in variant scope, all on as many train instances (see `with_most_data`).

    A method without a complete one is left out.
    """
    compared, _ = with_most_data(configs)
    rankings = {method: rank_variants(of_method, weights) for method, of_method in compared.items()}
    return {method: ranking.order[0] for method, ranking in rankings.items() if ranking.order}


def train_size(configuration: Configuration) -> float:
    """The searched `data.train_limit`, infinite for all; nan where it was not searched."""
    limit = configuration.parameters.get(TRAIN_LIMIT, math.nan)
    return math.inf if limit is None else float(limit)


def with_most_data(
    configs: Mapping[str, Sequence[Configuration]],
) -> tuple[dict[str, list[Configuration]], tuple[float, ...]]:
    """Configurations that learned from as many train instances, as methods on unlike sizes do not compare.

    Returns:
        Those of the largest `data.train_limit` with a complete one, and those that never searched it; and all sizes,
        increasing: none where it was not searched.
    """
    sizes = {train_size(c) for of_method in configs.values() for c in of_method if c.complete}
    known = tuple(sorted(size for size in sizes if not math.isnan(size)))
    kept = {
        method: [c for c in of_method if not known or math.isnan(train_size(c)) or train_size(c) == known[-1]]
        for method, of_method in configs.items()
    }
    return kept, known


def in_global_scope(method: str) -> bool:
    """Whether Z of the global scope holds this method by default (of the package's: the paper's sixteen and SLM-P)."""
    known = known_method(method)
    return known is not None and known.in_global_nrg


def rank_methods(selected: Mapping[str, Configuration], split: Split, weights: Weights = EQUAL_WEIGHTS) -> Ranking:
    """Global scope: the selected configurations of the methods in scope against each other, named by method.

    A configuration with a metric that is not finite on this split is left out: it cannot be scored.
    """
    in_scope = {
        method: configuration
        for method, configuration in selected.items()
        if in_global_scope(method) and configuration.not_finite(split) is None
    }
    return rank(in_scope, split, weights)


def rank_on_dev(selected: Mapping[str, Configuration], weights: Weights = EQUAL_WEIGHTS) -> Ranking:
    """What a sweep's one best configuration is chosen by: global scope on dev.

    Where no method is in the global scope (a sweep over ablations alone), they are compared with each other.
    """
    return (
        rank_methods(selected, "dev", weights)
        if any(map(in_global_scope, selected))
        else rank(selected, "dev", weights)
    )


_ROUNDING = 1e-6
"""Of a raw metric: by less `rank` may see no difference."""


def selectable(configs: Iterable[Configuration]) -> list[Configuration]:
    """The complete configurations of one method that variant scope may select, by some weights of NRG, 0 included.

    That is their Pareto front over the raw dev metrics, and what ties may select, among those on most train instances.
    Configurations that come later bring back none that is not among them.

    Args:
        configs: in the order that decides between equal ones, see `rank`.
    """
    compared, _ = with_most_data({"": [config for config in configs if config.complete]})
    complete = compared[""]
    dev = [nrg_metrics(config.mean("dev")) for config in complete]
    metrics = [metric for metric in NRG_METRICS if dev and metric.key in dev[0]]
    gains = np.array([[of[m.key] * (1 if m.higher_is_better else -1) for m in metrics] for of in dev])
    groups = [[m.desideratum == wanted for m in metrics] for wanted in {m.desideratum for m in metrics}]
    learned = np.array([config.better_than_majority("dev") is not False for config in complete])
    kept: list[int] = []

    def beaten(number: int) -> bool:
        """Whether `rank` puts one of those kept first, by all weights and among any others."""
        ahead = gains[kept] > gains[number] + _ROUNDING
        in_each = np.all([ahead[:, group].any(1) for group in groups], axis=0)
        # By weights that leave out what differs, the earlier one comes first.
        first = (gains[kept] >= gains[number]).all(1) & (in_each | (np.array(kept) < number))
        return bool((first & (learned[kept] | ~learned[number])).any())

    # Nothing is beaten by what comes behind it in this order.
    for number in sorted(range(len(complete)), key=lambda n: (not learned[n], -gains[n].sum(), n)):
        if not kept or not beaten(number):
            kept.append(number)
    return [complete[number] for number in sorted(kept)]


def why_unscored(configuration: Configuration) -> str:
    """What keeps a configuration out of Z, in words: its stopped, failed and running seeds, those never started, or,
    where it is complete, fewer train instances than others had."""
    if configuration.complete:
        return f"{TRAIN_LIMIT} = {configuration.parameters[TRAIN_LIMIT]}, and others have more"
    open_seeds = [record for record in configuration.records if record.status != "completed"]
    told = [
        f"seed {record.spec.seed} {record.status}" + (f": {record.reason}" if record.reason else "")
        for record in open_seeds
    ]
    return "; ".join(told) or "not all seeds have run"

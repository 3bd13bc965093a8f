"""Compare methods on one corpus: each method's best configuration by dev CNRG, then global NRG on test."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from unirex_ray.analysis.certainty import Certainty, certainty, read_results
from unirex_ray.analysis.selection import (
    Configuration,
    configurations,
    in_global_scope,
    rank_methods,
    rank_variants,
    why_unscored,
    with_most_data,
)
from unirex_ray.errors import UserError
from unirex_ray.methods import METHODS
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Population, Scores, Weights
from unirex_ray.tracking.choose import data_digest, differences, unfinished_in_words
from unirex_ray.tracking.protocol import protocol_hash, protocol_line, protocol_of
from unirex_ray.tracking.records import TrialRecord
from unirex_ray.tracking.store import (
    SweepRecord,
)


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """One method.

    Attributes:
        configuration: the selected one; its `mean("test")` and `std("test")` are the raw columns.
        candidates: how many complete configurations it was selected from.
        dev_cnrg: why it was selected: CNRG in variant scope, in [0, 1].
        scores: in global scope, on test; None for methods outside it.
        learned: whether the models of all seeds are better than the majority class, on test and where they were
            selected; None where that was not recorded.
    """

    method: str
    configuration: Configuration
    candidates: int
    dev_cnrg: float
    scores: Scores | None
    learned: bool | None

    @property
    def not_finite(self) -> str | None:
        """The test metric that keeps it from being scored, in words; None where all are finite."""
        return self.configuration.not_finite("test")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All methods of one corpus.

    Attributes:
        rows: by falling test CNRG; then methods that are not better than the majority class, then those that are
            outside the global scope.
        population: the global scope, on test.
        tied: methods that share the best CNRG.
        protocols: of the sweeps, in one line each, by hash; several only where they were named.
        protocol_differences: the settings in which these differ, in words; empty for one.
        unscored: what is left out, with the reason.
        unfinished: the sweeps that lack trials, in words.
        variants: every complete configuration by method.
        certainty: intervals and the like; None where there are no results by instance, or nobody asked.
        no_certainty: why there is none, in words.
    """

    experiment: str
    digest: str
    sweeps: tuple[str, ...]
    rows: tuple[MethodRow, ...]
    population: Population
    tied: tuple[str, ...]
    protocols: Mapping[str, str]
    protocol_differences: str
    unscored: tuple[tuple[str, str], ...]
    unfinished: tuple[str, ...]
    variants: Mapping[str, tuple[Configuration, ...]]
    certainty: Certainty | None = None
    no_certainty: str = ""

    @property
    def selected(self) -> dict[str, Configuration]:
        """The configurations that are scored against each other, by method."""
        return {row.method: row.configuration for row in self.rows if row.scores is not None}

    @property
    def alone(self) -> bool:
        """Whether one method alone is scored, so that there is nothing that its NRG compares."""
        return len(self.selected) == 1

    @property
    def train_sizes(self) -> tuple[float, ...]:
        """That `data.train_limit` was searched over, increasing; methods are compared at the last one."""
        return with_most_data(self.variants)[1]

    @property
    def raw(self) -> dict[str, dict[str, float]]:
        """Mean test metrics over seeds, by method in the order of the rows and metric key without split."""
        return {row.method: row.configuration.mean("test") for row in self.rows}

    @property
    def unranked(self) -> tuple[str, ...]:
        """Methods that are not better than the majority class, or have a metric that is not finite."""
        return tuple(row.method for row in self.rows if row.learned is False or row.not_finite)


def compare(experiment: str, sweeps: Sequence[SweepRecord], weights: Weights = EQUAL_WEIGHTS) -> Comparison:
    """Select each method's configuration on dev, then score the methods on test.

    Args:
        sweeps: of one data digest, and of one protocol or named (see `choose_sweeps`); configurations of one method are
            pooled over them.

    Raises:
        UserError: if no configuration has completed all of its seeds.
    """
    every = variants_of(sweeps)
    grouped, _ = with_most_data(every)
    variants = {method: rank_variants(of_method, weights) for method, of_method in grouped.items()}
    selected = {method: ranking.order[0] for method, ranking in variants.items() if ranking.order}
    if not selected:
        raise UserError(
            f"nothing to compare on {experiment!r}: no configuration has completed all seeds of its sweep; "
            "finish a sweep with --resume"
        )
    methods = rank_methods(selected, "test", weights)
    protocols = {sweep.sweep_id: protocol_of(sweep.settings) for sweep in sweeps}
    hashes = {name: protocol_hash(protocol) for name, protocol in protocols.items()}

    def row(method: str) -> MethodRow:
        configuration, verdicts = selected[method], [selected[method].better_than_majority(s) for s in ("dev", "test")]
        return MethodRow(
            method=method,
            configuration=configuration,
            candidates=len(variants[method].order),
            dev_cnrg=variants[method].population.scores[configuration.key].cnrg,
            scores=methods.population.scores.get(method),
            learned=False if False in verdicts else None if None in verdicts else True,
        )

    ranked = [configuration.method for configuration in methods.order]
    rows = [row(method) for method in (*ranked, *(method for method in selected if method not in ranked))]
    return Comparison(
        experiment=experiment,
        digest=data_digest(sweeps[0]),
        sweeps=tuple(sweep.sweep_id for sweep in sweeps),
        rows=tuple(sorted(rows, key=lambda row: (row.scores is None, row.learned is False))),
        population=methods.population,
        tied=tuple(configuration.method for configuration in methods.tied),
        protocols={hashes[sweep.sweep_id]: protocol_line(sweep.settings) for sweep in sweeps},
        protocol_differences=differences({hashes[name]: protocol for name, protocol in protocols.items()}),
        unscored=(*_unscored(every), *_of_less_data(every, grouped), *_outside(selected), *_not_finite(rows)),
        unfinished=unfinished_in_words(sweeps),
        variants={m: tuple(c for c in of_method if c.complete) for m, of_method in every.items()},
    )


def variants_of(sweeps: Sequence[SweepRecord]) -> dict[str, list[Configuration]]:
    """Each method's configurations, pooled over sweeps."""
    several = len(sweeps) > 1
    grouped: dict[str, list[Configuration]] = defaultdict(list)
    for sweep in sweeps:
        name = sweep.sweep_id if several else ""
        for method, of_method in configurations(sweep.trials, seeds=sweep.seeds, sweep=name).items():
            grouped[method] += of_method
    return dict(grouped)


def with_certainty(
    comparison: Comparison, read: Callable[[TrialRecord], bytes | None], weights: Weights = EQUAL_WEIGHTS
) -> Comparison:
    """The same comparison, with how sure it is where its runs have results by instance.

    Args:
        read: see `read_results`.
    """
    if not comparison.selected:
        return replace(comparison, no_certainty="no method is scored")
    results, why_none = read_results(read, comparison.selected)
    if why_none:
        return replace(comparison, no_certainty=why_none)
    eligible = {*comparison.selected} - {*comparison.unranked}
    found = certainty(
        comparison.selected,
        comparison.population,
        results,
        weights,
        may_be_first=eligible,
        seed=zlib.crc32(comparison.experiment.encode()),
    )
    return replace(comparison, certainty=found)


def in_table_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of the paper's tables; those that this version does not know come last, as given."""
    given = list(methods)
    return [*(method for method in METHODS if method in given), *(m for m in given if m not in METHODS)]


def write_back(log_scores: Callable[[str, Mapping[str, float]], None], comparison: Comparison) -> None:
    """Write global NRG to the runs of the selected configurations.

    Runs that an earlier comparison selected and this one does not get nan: their scores belong to another Z.

    Args:
        log_scores: of the store, see `RunStore`.
    """
    current = {
        record.run_id: row.scores.by_key()
        for row in comparison.rows
        if row.scores is not None
        for record in row.configuration.records
    }
    every = [c for of_method in comparison.variants.values() for c in of_method]
    for record in (record for configuration in every for record in configuration.records):
        assert record.run_id is not None, record.spec.trial_id
        outdated = dict.fromkeys(record.metrics.nrg, math.nan)
        if scores := {**outdated, **current.get(record.run_id, {})}:
            log_scores(record.run_id, scores)


def _unscored(grouped: Mapping[str, Iterable[Configuration]]) -> Iterable[tuple[str, str]]:
    for method, of_method in grouped.items():
        for configuration in of_method:
            if not configuration.complete:
                yield f"{method} {configuration.key}", why_unscored(configuration)


def _of_less_data(
    every: Mapping[str, Sequence[Configuration]], compared: Mapping[str, Sequence[Configuration]]
) -> Iterable[tuple[str, str]]:
    for method, of_method in every.items():
        if any(c.complete for c in of_method) and not any(c.complete for c in compared[method]):
            yield method, "no complete configuration with as many train instances as the others"


def _outside(selected: Iterable[str]) -> Iterable[tuple[str, str]]:
    for method in selected:
        if not in_global_scope(method):
            yield method, "outside the global scope, the paper's sixteen and SLM-P; --baseline compares raw metrics"


def _not_finite(rows: Iterable[MethodRow]) -> Iterable[tuple[str, str]]:
    for row in rows:
        if row.not_finite:
            yield row.method, row.not_finite

"""Compare methods on one corpus: each method's best configuration by dev CNRG, then global NRG on test."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from unirex_ray.analysis.selection import (
    Configuration,
    configurations,
    in_global_scope,
    score_methods,
    score_variants,
    select_variants,
    why_incomplete,
)
from unirex_ray.errors import UserError
from unirex_ray.methods import METHODS
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Population, Scores, Weights
from unirex_ray.tracking.choose import data_digest
from unirex_ray.tracking.store import (
    RunStore,
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
    """

    method: str
    configuration: Configuration
    candidates: int
    dev_cnrg: float
    scores: Scores | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All methods of one corpus.

    Attributes:
        rows: by falling test CNRG; methods outside the global scope last.
        population: the global scope, on test.
        unscored: what is left out, with the reason.
        variants: every complete configuration by method.
    """

    experiment: str
    digest: str
    sweeps: tuple[str, ...]
    rows: tuple[MethodRow, ...]
    population: Population
    unscored: tuple[tuple[str, str], ...]
    variants: Mapping[str, tuple[Configuration, ...]]

    @property
    def raw(self) -> dict[str, dict[str, float]]:
        """Mean test metrics over seeds, by method in the order of the rows and metric key without split."""
        return {row.method: row.configuration.mean("test") for row in self.rows}


def compare(experiment: str, sweeps: Sequence[SweepRecord], weights: Weights = EQUAL_WEIGHTS) -> Comparison:
    """Select each method's configuration on dev, then score the methods on test.

    Args:
        sweeps: of one data digest (see `choose_sweeps`); configurations of one method are pooled over them.

    Raises:
        UserError: if no configuration has completed all of its seeds.
    """
    several = len(sweeps) > 1
    grouped: dict[str, list[Configuration]] = defaultdict(list)
    for sweep in sweeps:
        name = sweep.sweep_id if several else ""
        for method, of_method in configurations(sweep.trials, seeds=sweep.seeds, sweep=name).items():
            grouped[method] += of_method
    selected = select_variants(grouped, weights)
    if not selected:
        raise UserError(
            f"nothing to compare on {experiment!r}: no configuration has completed all seeds of its sweep; "
            "finish a sweep with --resume"
        )
    population = score_methods(selected, "test", weights)
    complete = {m: tuple(c for c in of_method if c.complete) for m, of_method in grouped.items()}

    def row(method: str, configuration: Configuration) -> MethodRow:
        variant = score_variants(grouped[method], weights)
        return MethodRow(
            method=method,
            configuration=configuration,
            candidates=len(complete[method]),
            dev_cnrg=variant.scores[configuration.key].cnrg,
            scores=population.scores.get(method),
        )

    rows = [row(method, configuration) for method, configuration in selected.items()]
    return Comparison(
        experiment=experiment,
        digest=data_digest(sweeps[0]),
        sweeps=tuple(sweep.sweep_id for sweep in sweeps),
        rows=tuple(sorted(rows, key=lambda row: (row.scores is None, -row.scores.cnrg if row.scores else 0.0))),
        population=population,
        unscored=(*_unscored(grouped), *_outside(selected)),
        variants=complete,
    )


def in_table_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of the paper's tables; those that this version does not know come last, as given."""
    given = list(methods)
    return [*(method for method in METHODS if method in given), *(m for m in given if m not in METHODS)]


def score_metrics(scores: Scores) -> dict[str, float]:
    """NRG by key: `cnrg`, `fnrg`, `pnrg` where there is one, `tnrg`, and one per raw metric."""
    named = {"cnrg": scores.cnrg, "fnrg": scores.fnrg, "pnrg": scores.pnrg, "tnrg": scores.tnrg, **scores.relative}
    return {key: value for key, value in named.items() if value is not None}


def write_back(store: RunStore, comparison: Comparison) -> None:
    """Write global NRG to the runs of the selected configurations.

    Runs that an earlier comparison selected and this one does not get nan: their scores belong to another Z.
    """
    current = {
        record.run_id: score_metrics(row.scores)
        for row in comparison.rows
        if row.scores is not None
        for record in row.configuration.records
    }
    every = [c for of_method in comparison.variants.values() for c in of_method]
    for record in (record for configuration in every for record in configuration.records):
        assert record.run_id is not None, record.spec.trial_id
        outdated = dict.fromkeys(record.metrics.nrg, math.nan)
        if scores := {**outdated, **current.get(record.run_id, {})}:
            store.log_scores(record.run_id, scores)


def _unscored(grouped: Mapping[str, Iterable[Configuration]]) -> Iterable[tuple[str, str]]:
    for method, of_method in grouped.items():
        for configuration in of_method:
            if not configuration.complete:
                yield f"{method} {configuration.key}", why_incomplete(configuration)


def _outside(selected: Iterable[str]) -> Iterable[tuple[str, str]]:
    for method in selected:
        if not in_global_scope(method):
            yield method, "outside the global scope (an ablation, or a method that this version does not know)"

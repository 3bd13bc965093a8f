"""Compare methods on one corpus: each method's best configuration by dev CNRG, then global NRG on test."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unirex_ray.config import Config
from unirex_ray.data.load import check_name
from unirex_ray.errors import UserError
from unirex_ray.methods import get_method
from unirex_ray.nrg import EQUAL_WEIGHTS, Population, Scores, Weights
from unirex_ray.selection import (
    Configuration,
    configurations,
    in_global_scope,
    score_methods,
    score_variants,
    select_variants,
    why_incomplete,
)
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.store import DATA_DIGEST, RunStore, SweepRecord, resolve_tracking_uri

NRG_PREFIX = "nrg/"


@dataclass(frozen=True, kw_only=True)
class Row:
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
    rows: tuple[Row, ...]
    population: Population
    unscored: tuple[tuple[str, str], ...]
    variants: Mapping[str, tuple[Configuration, ...]]


def choose_sweeps(
    found: Sequence[SweepRecord], *, sweeps: Sequence[str] = (), digest: str | None = None
) -> list[SweepRecord]:
    """The sweeps to compare: those named, of one data digest.

    Args:
        sweeps: identifiers; empty: all that have a completed trial.
        digest: of the data, or its first digits.

    Raises:
        UserError: if a named one is unknown, none is left, or several digests are.
    """
    known = [sweep.sweep_id for sweep in found]
    for name in sweeps:
        if name not in known:
            raise UserError(f"unknown sweep {name!r}; choose from {', '.join(known) or 'none: there are no sweeps'}")
    chosen = [sweep for sweep in found if sweep.sweep_id in sweeps or (not sweeps and _has_completed(sweep))]
    by_digest: dict[str, list[str]] = defaultdict(list)
    for sweep in chosen:
        by_digest[_digest(sweep)].append(sweep.sweep_id)
    matching = [each for each in by_digest if each.startswith(digest or "")]
    if len(matching) > 1:
        listed = "; ".join(f"{each}: {', '.join(by_digest[each])}" for each in matching)
        raise UserError(f"runs on different data must not be mixed: choose with --digest or --sweep-id among {listed}")
    if chosen and not matching:
        raise UserError(f"no sweep has --digest {digest!r}; there are {', '.join(sorted(by_digest))}")
    return [sweep for sweep in chosen if _digest(sweep) in matching]


def open_sweeps(
    config: Config, *, sweeps: Sequence[str] = (), digest: str | None = None
) -> tuple[MlflowStore, list[SweepRecord]]:
    """Connect to the store of a configuration, and choose among its sweeps on `data.name` (see `choose_sweeps`).

    Raises:
        UserError: also for an unknown corpus or method, and where nothing was recorded.
    """
    check_name(config.data.name)
    get_method(config.method)
    uri = resolve_tracking_uri(config)
    nothing = UserError(
        f"no finished trials on {config.data.name!r} at {uri}: "
        f"run python jobs/sweep.py --data.name={config.data.name} first, or give its --output"
    )
    # To connect to a database that does not exist would create it.
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).expanduser().exists():
        raise nothing
    store = MlflowStore(uri)
    chosen = choose_sweeps(store.sweeps(config.data.name), sweeps=sweeps, digest=digest)
    if not chosen:
        raise nothing
    return store, chosen


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
        for method, found in configurations(sweep.trials, seeds=sweep.seeds, sweep=name).items():
            grouped[method] += found
    selected = select_variants(grouped, weights)
    if not selected:
        raise UserError(
            f"nothing to compare on {experiment!r}: no configuration has completed all seeds of its sweep; "
            "finish a sweep with python jobs/sweep.py --resume"
        )
    population = score_methods(selected, "test", weights)
    complete = {m: tuple(c for c in of_method if c.complete) for m, of_method in grouped.items()}

    def row(method: str, configuration: Configuration) -> Row:
        variant = score_variants(grouped[method], weights)
        return Row(
            method=method,
            configuration=configuration,
            candidates=len(complete[method]),
            dev_cnrg=variant.scores[configuration.key].cnrg,
            scores=population.scores.get(method),
        )

    rows = [row(method, configuration) for method, configuration in selected.items()]
    return Comparison(
        experiment=experiment,
        digest=_digest(sweeps[0]),
        sweeps=tuple(sweep.sweep_id for sweep in sweeps),
        rows=tuple(sorted(rows, key=lambda row: (row.scores is None, -row.scores.cnrg if row.scores else 0.0))),
        population=population,
        unscored=(*_unscored(grouped), *_outside(selected)),
        variants=complete,
    )


def score_metrics(scores: Scores) -> dict[str, float]:
    """NRG as logged metrics: `nrg/cnrg`, `nrg/fnrg`, `nrg/pnrg` where there is one, `nrg/tnrg`, one per raw metric."""
    named = {"cnrg": scores.cnrg, "fnrg": scores.fnrg, "pnrg": scores.pnrg, "tnrg": scores.tnrg, **scores.relative}
    return {NRG_PREFIX + key: value for key, value in named.items() if value is not None}


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
        old = {key: math.nan for key in record.metrics if key.startswith(NRG_PREFIX)}
        if scores := {**old, **current.get(record.run_id, {})}:
            store.log_scores(record.run_id, scores)


def _has_completed(sweep: SweepRecord) -> bool:
    return any(trial.status == "completed" for trial in sweep.trials)


def _digest(sweep: SweepRecord) -> str:
    digests = {tags[DATA_DIGEST] for tags in (sweep.tags, *(t.tags for t in sweep.trials)) if DATA_DIGEST in tags}
    if len(digests) > 1:
        raise UserError(f"sweep {sweep.sweep_id!r} holds trials on different data: {', '.join(sorted(digests))}")
    return digests.pop() if digests else ""


def _unscored(grouped: Mapping[str, Iterable[Configuration]]) -> Iterable[tuple[str, str]]:
    for method, of_method in grouped.items():
        for configuration in of_method:
            if not configuration.complete:
                yield f"{method} {configuration.key}", why_incomplete(configuration)


def _outside(selected: Iterable[str]) -> Iterable[tuple[str, str]]:
    for method in selected:
        if not in_global_scope(method):
            yield method, "outside the global scope (an ablation, or a method that this version does not know)"

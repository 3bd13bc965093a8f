"""Compare methods on one corpus: each method's best configuration by dev CNRG, then global NRG on test."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import spearmanr

from unirex_ray.analysis.selection import (
    Configuration,
    configurations,
    in_global_scope,
    score_methods,
    score_variants,
    select_variants,
    why_incomplete,
)
from unirex_ray.config import Config, Tree
from unirex_ray.data.load import check_name
from unirex_ray.errors import UserError
from unirex_ray.methods import METHODS, get_method
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Population, Scores, Weights, score_population
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.store import (
    DATA_DIGEST,
    NRG_WEIGHTS,
    RunStore,
    SweepRecord,
    database_file,
    resolve_tracking_uri,
)

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

    @property
    def raw(self) -> dict[str, dict[str, float]]:
        """Mean test metrics over seeds, by method in the order of the rows and metric key without split."""
        return {row.method: row.configuration.mean("test") for row in self.rows}


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One method that the paper has as well.

    Attributes:
        ours: raw metrics by metric key without split.
        paper: the paper's raw metrics, likewise.
        cnrg: over the common methods, in [0, 1].
        paper_cnrg: the same of the paper's raw metrics; not the CNRG that the paper prints, whose Z is larger.
        rank: by CNRG among the common methods, from 1; equal scores share the better rank.
        paper_rank: the same by `paper_cnrg`.
    """

    method: str
    ours: Mapping[str, float]
    paper: Mapping[str, float]
    cnrg: float
    paper_cnrg: float
    rank: int
    paper_rank: int

    @property
    def moved(self) -> int:
        """How many ranks higher than in the paper; negative: lower."""
        return self.paper_rank - self.rank


@dataclass(frozen=True, kw_only=True)
class PaperComparison:
    """Our methods beside the paper's published ones.

    Attributes:
        rows: the methods that both have, by our rank.
        only_ours: methods that the paper's table lacks.
        only_paper: methods that ours lacks.
        ours: our scores over the common methods.
        paper: the paper's, likewise.
        spearman: rank correlation of the two rankings, in [-1, 1]; None for fewer than 3 methods, or where one side
            ranks all of them equal.
    """

    rows: tuple[PaperRow, ...]
    only_ours: tuple[str, ...]
    only_paper: tuple[str, ...]
    ours: Population
    paper: Population
    spearman: float | None


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
    file = database_file(uri)
    if file is not None and not file.exists():
        raise nothing
    store = MlflowStore(uri)
    chosen = choose_sweeps(store.sweeps(config.data.name), sweeps=sweeps, digest=digest)
    if not chosen:
        raise nothing
    return store, chosen


def in_table_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of the paper's tables; those that this version does not know come last, as given."""
    given = list(methods)
    return [*(method for method in METHODS if method in given), *(m for m in given if m not in METHODS)]


def given_weights(config: Config, tree: Tree) -> Weights | None:
    """`sweep.nrg_weights` where `tree`, which `config` was built from, has it; None: `weights_of` asks the sweeps."""
    return config.sweep.nrg_weights if "nrg_weights" in tree.get("sweep", {}) else None


def weights_of(sweeps: Sequence[SweepRecord], given: Weights | None) -> Weights:
    """The weights of FNRG, PNRG and TNRG that the sweeps selected by, unless others are given.

    Raises:
        UserError: if the sweeps differ in them and none are given.
    """
    if given is not None:
        return given
    found = {sweep.tags[NRG_WEIGHTS]: sweep.sweep_id for sweep in sweeps if NRG_WEIGHTS in sweep.tags}
    if len(found) > 1:
        listed = "; ".join(f"{name}: {weights}" for weights, name in found.items())
        raise UserError(f"these sweeps selected by different weights ({listed}): give --sweep.nrg_weights")
    if not found:
        return EQUAL_WEIGHTS
    fnrg, pnrg, tnrg = json.loads(next(iter(found)))
    return fnrg, pnrg, tnrg


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


def compare_with_paper(
    ours: Mapping[str, Mapping[str, float]],
    paper: Mapping[str, Mapping[str, float]],
    weights: Weights = EQUAL_WEIGHTS,
) -> PaperComparison:
    """Score and rank the methods that both tables have, each table by itself: CNRG compares over equal Z alone.

    Args:
        ours: raw metrics by method and metric key without split.
        paper: likewise; metrics that ours lacks (plausibility, without gold rationales) are left out of its CNRG.
        weights: of FNRG, PNRG and TNRG in CNRG, for both.
    """
    common = [method for method in ours if method in paper]
    measured = {key for method in common for key in ours[method]}
    scored = score_population({method: ours[method] for method in common}, weights)
    published = score_population(
        {m: {key: value for key, value in paper[m].items() if key in measured} for m in common}, weights
    )
    rank, paper_rank = _ranks(scored), _ranks(published)
    rows = [
        PaperRow(
            method=method,
            ours=ours[method],
            paper=paper[method],
            cnrg=scored.scores[method].cnrg,
            paper_cnrg=published.scores[method].cnrg,
            rank=rank[method],
            paper_rank=paper_rank[method],
        )
        for method in common
    ]
    return PaperComparison(
        rows=tuple(sorted(rows, key=lambda row: (row.rank, row.paper_rank))),
        only_ours=tuple(method for method in ours if method not in paper),
        only_paper=tuple(method for method in paper if method not in ours),
        ours=scored,
        paper=published,
        spearman=_spearman([rank[method] for method in common], [paper_rank[method] for method in common]),
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


def _ranks(population: Population) -> dict[str, int]:
    # Scores that are equal in exact arithmetic may differ in their last bits; that is no difference in rank.
    cnrg = {method: round(scores.cnrg, 9) for method, scores in population.scores.items()}
    return {method: 1 + sum(other > value for other in cnrg.values()) for method, value in cnrg.items()}


def _spearman(ours: Sequence[int], paper: Sequence[int]) -> float | None:
    if len(ours) < 3 or len(set(ours)) == 1 or len(set(paper)) == 1:
        return None
    return float(spearmanr(ours, paper).statistic)


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

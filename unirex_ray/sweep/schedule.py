"""What a sweep does next, as a state machine over trial records.

It knows nothing of processes, clusters or stores. Its whole state is the records of its trials, so a sweep is
resumed by building the schedule again from the records in a store.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain
from operator import itemgetter
from typing import Any

from unirex_ray.analysis.selection import Configuration, Ranking, configurations, rank_variants
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Weights, score_population
from unirex_ray.metrics.table import TrialMetrics, nrg_metrics
from unirex_ray.sweep.searcher import (
    ScoredConfiguration,
    Searcher,
    StoppedConfiguration,
    StudyHistory,
    TriedConfiguration,
)
from unirex_ray.tracking.records import TrialRecord, TrialSpec, TrialStatus, trial_name

_RUNG = "rung."
"""Beginning of the tags that say what was decided at a rung."""


class Signal(Enum):
    """Why there is no next trial: `WAIT` until a running one ends, `DONE` when there are no more."""

    WAIT = "wait"
    DONE = "done"


@dataclass(frozen=True, kw_only=True)
class SweepExtent:
    """Which trials a sweep consists of.

    Attributes:
        budgets: most configurations by method, in the order in which methods take turns.
        seeds: values of `train.seed` that every configuration runs, in order.
        rungs: epochs at which first seeds are compared; empty: nothing is stopped. A stopped trial goes on when nothing
            else is left to start, if by then it is among the best of its rung.
        reduction: at a rung, the best 1/reduction of the trials that have reached it continue.
        weights: of FNRG, PNRG and TNRG in CNRG.
        patience: a method gets no further configuration when so many complete ones have come behind its selected one;
            None: it uses up its budget.
    """

    sweep_id: str
    budgets: Mapping[str, int]
    seeds: tuple[int, ...]
    rungs: tuple[int, ...] = ()
    reduction: int = 3
    weights: Weights = EQUAL_WEIGHTS
    patience: int | None = None

    @property
    def most_trials(self) -> int:
        """How many trials there are where every budget is used up and nothing is stopped."""
        return sum(self.budgets.values()) * len(self.seeds)

    def trial_id(self, method: str, configuration: int, seed: int) -> str:
        """The same for the same trial in every process."""
        return trial_name(self.sweep_id, method, configuration, seed)


@dataclass
class _Study:
    """A method's trials, kept so that no step of a schedule looks at all of them; follows from the records alone.

    Attributes:
        trials: by configuration and seed.
        open: configurations of which a seed may still have to start.
        tried: each configuration as its searcher sees it, without its score.
        stale: configurations of which `tried` is out of date.
        reached: dev metrics at each rung of the first seeds that have reached it and have not failed, by trial.
    """

    trials: dict[int, dict[int, TrialRecord]] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    tried: dict[int, tuple[str, TriedConfiguration]] = field(default_factory=dict)
    stale: set[int] = field(default_factory=set)
    reached: dict[int, dict[str, dict[str, float]]] = field(default_factory=lambda: defaultdict(dict))


class Schedule:
    """Emits every trial of a sweep once, and a stopped one again where it is promoted.

    Methods take turns, so that all studies grow alike; a trial that would wait for another one lets the next one pass.
    Without rungs, all seeds of a configuration are emitted before the method's next configuration; with rungs, its
    first seed, and the others once that one has completed.

    Args:
        searchers: by method.
        records: of a sweep that is resumed. Trials that ended are not emitted again; those that were running are
            emitted first, with their recorded parameters, and those that were lost with them.
        warm_start: what the searchers know of another sweep, by method; no trials of this one.
    """

    def __init__(
        self,
        extent: SweepExtent,
        searchers: Mapping[str, Searcher],
        records: Iterable[TrialRecord] = (),
        warm_start: Mapping[str, Sequence[ScoredConfiguration]] | None = None,
    ) -> None:
        self._extent = extent
        self._searchers = searchers
        self._warm_start = warm_start or {}
        self._records: dict[str, TrialRecord] = {}
        self._studies = {method: _Study() for method in extent.budgets}
        self._first_seeds_running: set[str] = set()
        self._exhausted: set[str] = set()
        for record in records:
            self._remember(record)
        methods = list(extent.budgets)
        running = [record.spec for record in self._records.values() if record.status in ("running", "lost")]
        in_order = sorted(running, key=lambda spec: (spec.configuration, methods.index(spec.method), spec.seed))
        self._interrupted = {spec.trial_id: spec for spec in in_order}

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """The records of all trials so far."""
        return tuple(self._records.values())

    def verdicts(self, trial_id: str) -> dict[str, str]:
        """What was decided on a trial at rungs, in words, by tag."""
        return {key: words for key, words in self._records[trial_id].tags.items() if key.startswith(_RUNG)}

    def configuration(self, spec: TrialSpec) -> Configuration:
        """A trial's configuration as it stands."""
        trials = self._studies[spec.method].trials[spec.configuration].values()
        (configuration,) = configurations(trials, seeds=self._extent.seeds)[spec.method]
        return configuration

    def configurations(self, method: str) -> list[Configuration]:
        """All of a method's so far, by number."""
        trials = self._studies[method].trials
        return [self.configuration(next(iter(trials[index].values())).spec) for index in sorted(trials)]

    def next(self, waits: Callable[[TrialSpec], bool] = lambda spec: False) -> TrialSpec | Signal:
        """The trial to start next; it counts as running from now on.

        Args:
            waits: whether a trial would wait for another one; it starts when there is none that would not.
        """
        candidates = self._candidates()
        first = next(candidates, None)
        if first is not None:
            spec = next((spec for spec in chain([first], candidates) if not waits(spec)), first)
            self._interrupted.pop(spec.trial_id, None)
            record = self._records.get(spec.trial_id) or TrialRecord(spec=spec, status="running")
            if record.status == "lost":
                record = replace(record, status="running", reason=None)
            if record.status == "stopped":
                record = self._judge(replace(record, status="running", reason=None), self._last_rung(record))
            self._remember(record)
            return spec
        # A first seed may still entitle its other seeds to start, or a stopped trial to go on.
        rung_may_decide = self._extent.rungs and self._first_seeds_running
        return Signal.WAIT if rung_may_decide or self._may_go_on() else Signal.DONE

    def on_report(self, trial_id: str, epoch: int, metrics: TrialMetrics) -> TrialRecord:
        """A trial reported an epoch's losses and dev metrics.

        Returns:
            The trial's record: `running` where it continues, `stopped` where it lost at a rung (by its CNRG among all
            first seeds of its method that have reached the rung), `failed` where a metric is not finite.
        """
        record = self._records[trial_id]
        if record.status != "running":
            return record
        # A driver may have ended between an epoch and its verdict, which the trial then reports again.
        has_verdict = _RUNG + str(epoch) in record.tags or max(record.history, default=0) > epoch
        judged = epoch in self._extent.rungs and record.spec.seed == self._extent.seeds[0] and not has_verdict
        # What was reported first stays, as it does in the store.
        record = replace(record, history={epoch: metrics, **record.history})
        problem = _not_finite(metrics)
        if problem:
            return self._remember(replace(record, status="failed", reason=f"{problem} at epoch {epoch}"))
        self._remember(record)
        return self._remember(self._judge(record, epoch)) if judged else record

    def on_complete(self, trial_id: str, metrics: TrialMetrics) -> TrialRecord:
        """A trial reported its final metrics; one that is not finite makes it `failed`, on test excepted."""
        record = self._records[trial_id]
        if record.status != "running":
            return record
        problem = _not_finite(replace(metrics, test={}))
        if problem:
            return self._remember(replace(record, status="failed", reason=problem))
        return self._remember(replace(record, status="completed", metrics=metrics))

    def on_fail(self, trial_id: str, reason: str) -> TrialRecord:
        """A trial ended with an error that would recur."""
        return self._end(trial_id, "failed", reason)

    def on_lost(self, trial_id: str, reason: str) -> TrialRecord:
        """A trial was stopped by something outside it; a resumed sweep emits it again."""
        return self._end(trial_id, "lost", reason)

    def _end(self, trial_id: str, status: TrialStatus, reason: str) -> TrialRecord:
        record = self._records[trial_id]
        return record if record.status != "running" else self._remember(replace(record, status=status, reason=reason))

    def _remember(self, record: TrialRecord) -> TrialRecord:
        spec, first = record.spec, self._extent.seeds[0]
        self._records[spec.trial_id] = record
        study = self._studies[spec.method]
        trials = study.trials.setdefault(spec.configuration, {})
        trials[spec.seed] = record
        study.stale.add(spec.configuration)
        is_out = self._extent.rungs and first in trials and trials[first].status in ("stopped", "failed", "lost")
        if is_out or all(seed in trials for seed in self._extent.seeds):
            study.open.discard(spec.configuration)
        else:
            study.open.add(spec.configuration)
        if spec.seed == first:
            running = record.status == "running"
            (self._first_seeds_running.add if running else self._first_seeds_running.discard)(spec.trial_id)
            for epoch in self._extent.rungs:
                if record.status == "failed":
                    study.reached[epoch].pop(spec.trial_id, None)
                elif epoch in record.history:
                    study.reached[epoch][spec.trial_id] = nrg_metrics(record.history[epoch].dev)
        return record

    def _missing_seeds(self, method: str) -> Iterator[TrialSpec]:
        study, first = self._studies[method], self._extent.seeds[0]
        for index in sorted(study.open):
            trials = study.trials[index]
            survived = first in trials and trials[first].status == "completed"
            for seed in self._extent.seeds if survived or not self._extent.rungs else (first,):
                if seed not in trials:
                    yield self._spec(method, index, seed, next(iter(trials.values())).spec.parameters)

    def _candidates(self) -> Iterator[TrialSpec]:
        """What could start, in the order of precedence.

        Interrupted trials alone; or due seeds, then suggestions, then stopped trials that are promoted.
        """
        if self._interrupted:
            yield from list(self._interrupted.values())
            return
        yield from chain.from_iterable(map(self._missing_seeds, self._extent.budgets))
        for method in sorted(self._extent.budgets, key=lambda m: len(self._studies[m].trials)):
            suggested = self._studies[method].trials
            if not self._has_budget(method) or self.has_settled(method):
                continue
            if next(self._missing_seeds(method), None) is not None:
                continue
            # After a kill, a number in between may be missing: it comes first.
            index = next(number for number in range(len(suggested) + 1) if number not in suggested)
            parameters = self._searchers[method].suggest(index, self._history(method))
            if parameters is None:
                self._exhausted.add(method)
                continue
            yield self._spec(method, index, self._extent.seeds[0], parameters)
        yield from chain.from_iterable(map(self._promoted, self._extent.budgets))

    def _has_budget(self, method: str) -> bool:
        tried = len(self._studies[method].trials)
        return method not in self._exhausted and tried < self._extent.budgets[method]

    def has_settled(self, method: str) -> bool:
        """Whether the configurations that came last have left a method's selected one where it was."""
        patience = self._extent.patience
        if patience is None:
            return False
        return has_settled(rank_variants(self.configurations(method), self._extent.weights), patience)

    def _may_go_on(self) -> bool:
        """Whether a running trial may be selected, so that its method's search goes on."""
        settled = {method for method in self._studies if self._has_budget(method) and self.has_settled(method)}
        return any(record.status == "running" and record.spec.method in settled for record in self._records.values())

    def _promoted(self, method: str) -> Iterator[TrialSpec]:
        """Stopped trials that are by now among the best that reached their last rung; late rungs and best first."""
        for epoch in sorted(self._extent.rungs, reverse=True):
            scores = self._rung_scores(method, epoch)
            best = sorted(scores, key=lambda trial_id: -scores[trial_id])
            kept = self._kept(len(scores))
            for trial_id in best:
                if scores[trial_id] < scores[best[kept - 1]]:
                    break
                record = self._records[trial_id]
                if record.status == "stopped" and self._last_rung(record) == epoch:
                    yield record.spec

    def _last_rung(self, record: TrialRecord) -> int:
        return max(epoch for epoch in self._extent.rungs if epoch in record.history)

    def _kept(self, reached: int) -> int:
        return math.ceil(reached / self._extent.reduction)

    def _spec(self, method: str, index: int, seed: int, parameters: Mapping[str, Any]) -> TrialSpec:
        trial_id = self._extent.trial_id(method, index, seed)
        return TrialSpec(trial_id=trial_id, method=method, configuration=index, seed=seed, parameters=parameters)

    def _history(self, method: str) -> StudyHistory:
        study = self._studies[method]
        for index in study.stale:
            study.tried[index] = self._tried(method, index)
        study.stale.clear()
        rungs = {epoch: self._rung_scores(method, epoch) for epoch in self._extent.rungs}
        by_kind: dict[str, list[Any]] = defaultdict(list, population=list(self._warm_start.get(method, ())))
        for _, (kind, tried) in sorted(study.tried.items(), key=itemgetter(0)):
            by_kind[kind].append(tried)
        return StudyHistory(
            population=by_kind["population"],
            running=by_kind["running"],
            stopped=[(stopped, rungs[stopped.epoch][stopped.trial_id]) for stopped in by_kind["stopped"]],
            failed=by_kind["failed"],
        )

    def _tried(self, method: str, index: int) -> tuple[str, TriedConfiguration]:
        """A configuration, and the part of a `StudyHistory` that it belongs to."""
        configuration = self.configuration(next(iter(self._studies[method].trials[index].values())).spec)
        if configuration.complete:
            # Without standard errors: a search follows differences within noise as well.
            metrics = nrg_metrics(configuration.mean("dev"))
            return "population", ScoredConfiguration(parameters=configuration.parameters, metrics=metrics)
        statuses = {record.status for record in configuration.records}
        if "stopped" in statuses and "failed" not in statuses:
            trial_id = self._extent.trial_id(method, index, self._extent.seeds[0])
            epoch = self._last_rung(self._records[trial_id])
            stopped = StoppedConfiguration(parameters=configuration.parameters, epoch=epoch, trial_id=trial_id)
            return "stopped", stopped
        kind = "failed" if "failed" in statuses else "running"
        return kind, TriedConfiguration(parameters=configuration.parameters)

    def _rung_scores(self, method: str, epoch: int) -> dict[str, float]:
        """CNRG at a rung of all first seeds of a method that have reached it, by trial."""
        population = score_population(self._studies[method].reached[epoch], self._extent.weights)
        return dict(zip(population.members, population.cnrg.tolist(), strict=True))

    def _judge(self, record: TrialRecord, epoch: int) -> TrialRecord:
        scores = self._rung_scores(record.spec.method, epoch)
        own_score = scores[record.spec.trial_id]
        rank = 1 + sum(score > own_score for score in scores.values())
        kept = self._kept(len(scores))
        verdict = f"CNRG {own_score:.4f} at epoch {epoch}: rank {rank} of {len(scores)}, the best {kept} go on"
        record = replace(record, tags={**record.tags, f"{_RUNG}{epoch}": verdict})
        return record if rank <= kept else replace(record, status="stopped", reason=verdict)


def has_settled(variants: Ranking, patience: int | None) -> bool:
    """Whether so many complete configurations of a method have come behind its selected one."""
    best = variants.best
    if best is None or patience is None:
        return False
    return sum(configuration.index > best.index for configuration in variants.order) >= patience


def _not_finite(metrics: TrialMetrics) -> str | None:
    return next((f"{key} is {value}" for key, value in metrics.flat().items() if not math.isfinite(value)), None)

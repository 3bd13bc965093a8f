"""What a sweep does next, as a state machine over trial records.

It knows nothing of processes, clusters or stores. Its whole state is the records of its trials, so a sweep is
resumed by building the schedule again from the records in a store.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from unirex_ray.analysis.selection import configurations
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Weights, score_population
from unirex_ray.metrics.table import TrialMetrics, nrg_metrics
from unirex_ray.sweep.searcher import ScoredConfiguration, Searcher, StoppedConfiguration, StudyHistory
from unirex_ray.tracking.records import TrialRecord, TrialSpec, trial_name


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
        rungs: epochs at which first seeds are compared; empty: nothing is stopped.
        reduction: at a rung, the best 1/reduction of the trials that have reached it continue.
        weights: of FNRG, PNRG and TNRG in CNRG.
    """

    sweep_id: str
    budgets: Mapping[str, int]
    seeds: tuple[int, ...]
    rungs: tuple[int, ...] = ()
    reduction: int = 3
    weights: Weights = EQUAL_WEIGHTS

    @property
    def most_trials(self) -> int:
        """How many trials there are where every budget is used up and nothing is stopped."""
        return sum(self.budgets.values()) * len(self.seeds)

    def trial_id(self, method: str, configuration: int, seed: int) -> str:
        """The same for the same trial in every process."""
        return trial_name(self.sweep_id, method, configuration, seed)


class Schedule:
    """Emits every trial of a sweep once.

    Methods take turns, so that all studies grow alike. Without rungs, all seeds of a configuration are emitted before
    the method's next configuration; with rungs, its first seed, and the others once that one has completed.

    Args:
        searchers: by method.
        records: of a sweep that is resumed. Trials that ended are not emitted again; those that were running are
            emitted first, with their recorded parameters.
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
        self._parameters: dict[str, dict[int, Mapping[str, Any]]] = {method: {} for method in extent.budgets}
        self._exhausted: set[str] = set()
        for record in records:
            self._remember(record)
        methods = list(extent.budgets)
        running = [record.spec for record in self._records.values() if record.status == "running"]
        self._interrupted = deque(sorted(running, key=lambda s: (s.configuration, methods.index(s.method), s.seed)))

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """The records of all trials so far."""
        return tuple(self._records.values())

    def next(self) -> TrialSpec | Signal:
        """The trial to start next; it counts as running from now on."""
        if self._interrupted:
            return self._interrupted.popleft()
        spec = next(filter(None, map(self._missing_seed, self._extent.budgets)), None) or self._suggestion()
        if spec is not None:
            self._remember(TrialRecord(spec=spec, status="running"))
            return spec
        more_seeds = self._extent.rungs and len(self._extent.seeds) > 1
        first = self._extent.seeds[0]
        if more_seeds and any(r.status == "running" and r.spec.seed == first for r in self._records.values()):
            return Signal.WAIT
        return Signal.DONE

    def on_report(self, trial_id: str, epoch: int, metrics: TrialMetrics) -> TrialRecord:
        """A trial reported an epoch's losses and dev metrics.

        Returns:
            The trial's record: `running` where it continues, `stopped` where it lost at a rung (by its CNRG among all
            first seeds of its method that have reached the rung), `failed` where a metric is not finite.
        """
        record = self._records[trial_id]
        if record.status != "running":
            return record
        judged = (
            epoch in self._extent.rungs and record.spec.seed == self._extent.seeds[0] and epoch not in record.history
        )
        record = replace(record, history={**record.history, epoch: metrics})
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
        """A trial ended without a result."""
        record = self._records[trial_id]
        return record if record.status != "running" else self._remember(replace(record, status="failed", reason=reason))

    def _remember(self, record: TrialRecord) -> TrialRecord:
        self._records[record.spec.trial_id] = record
        self._parameters[record.spec.method][record.spec.configuration] = record.spec.parameters
        return record

    def _missing_seed(self, method: str) -> TrialSpec | None:
        first = self._extent.seeds[0]
        for index, parameters in sorted(self._parameters[method].items()):
            opener = self._records.get(self._extent.trial_id(method, index, first))
            survived = opener is not None and opener.status == "completed"
            for seed in self._extent.seeds if survived or not self._extent.rungs else (first,):
                if self._extent.trial_id(method, index, seed) not in self._records:
                    return self._spec(method, index, seed, parameters)
        return None

    def _suggestion(self) -> TrialSpec | None:
        for method in sorted(self._extent.budgets, key=lambda m: len(self._parameters[m])):
            suggested = self._parameters[method]
            if method in self._exhausted or len(suggested) >= self._extent.budgets[method]:
                continue
            # After a kill, a number in between may be missing: it comes first.
            index = next(number for number in range(len(suggested) + 1) if number not in suggested)
            parameters = self._searchers[method].suggest(index, self._history(method))
            if parameters is None:
                self._exhausted.add(method)
                continue
            return self._spec(method, index, self._extent.seeds[0], parameters)
        return None

    def _spec(self, method: str, index: int, seed: int, parameters: Mapping[str, Any]) -> TrialSpec:
        trial_id = self._extent.trial_id(method, index, seed)
        return TrialSpec(trial_id=trial_id, method=method, configuration=index, seed=seed, parameters=parameters)

    def _history(self, method: str) -> StudyHistory:
        population = list(self._warm_start.get(method, ()))
        running: list[Mapping[str, Any]] = []
        stopped: list[StoppedConfiguration] = []
        failed: list[Mapping[str, Any]] = []
        rungs = {epoch: self._rung_scores(method, epoch) for epoch in self._extent.rungs}
        of_method = [record for record in self._records.values() if record.spec.method == method]
        for configuration in configurations(of_method, seeds=self._extent.seeds).get(method, ()):
            statuses = {record.status for record in configuration.records}
            if configuration.complete:
                # Without standard errors: a search follows differences within noise as well.
                metrics = nrg_metrics(configuration.mean("dev"))
                population.append(ScoredConfiguration(parameters=configuration.parameters, metrics=metrics))
            elif "failed" in statuses:
                failed.append(configuration.parameters)
            elif "stopped" in statuses:
                first = self._extent.trial_id(method, configuration.index, self._extent.seeds[0])
                epoch = max(epoch for epoch, scores in rungs.items() if first in scores)
                cnrg = rungs[epoch][first]
                stopped.append(StoppedConfiguration(parameters=configuration.parameters, epoch=epoch, cnrg=cnrg))
            else:
                running.append(configuration.parameters)
        return StudyHistory(population=population, running=running, stopped=stopped, failed=failed)

    def _rung_scores(self, method: str, epoch: int) -> dict[str, float]:
        """CNRG at a rung of all first seeds of a method that have reached it, by trial."""
        reached = {
            record.spec.trial_id: nrg_metrics(record.history[epoch].dev)
            for record in self._records.values()
            if record.spec.method == method
            and record.spec.seed == self._extent.seeds[0]
            and epoch in record.history
            and record.status != "failed"
        }
        return {name: s.cnrg for name, s in score_population(reached, self._extent.weights).scores.items()}

    def _judge(self, record: TrialRecord, epoch: int) -> TrialRecord:
        scores = self._rung_scores(record.spec.method, epoch)
        own_score = scores[record.spec.trial_id]
        rank = 1 + sum(score > own_score for score in scores.values())
        kept = math.ceil(len(scores) / self._extent.reduction)
        verdict = f"CNRG {own_score:.4f} at epoch {epoch}: rank {rank} of {len(scores)}, the best {kept} go on"
        record = replace(record, tags={**record.tags, f"rung.{epoch}": verdict})
        return record if rank <= kept else replace(record, status="stopped", reason=verdict)


def _not_finite(metrics: TrialMetrics) -> str | None:
    return next((f"{key} is {value}" for key, value in metrics.flat().items() if not math.isfinite(value)), None)

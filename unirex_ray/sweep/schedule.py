"""What a sweep does next, as a state machine over trial records.

It knows nothing of processes, clusters or stores. Its whole state is the records of its trials, so a sweep is
resumed by building the schedule again from the records that a store remembers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from unirex_ray.analysis.selection import configurations
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Weights, score_population
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.sweep.searcher import ScoredConfiguration, Searcher, StudyHistory
from unirex_ray.tracking.records import TrialRecord, TrialSpec, trial_name


class Signal(Enum):
    """Why there is no next trial: `WAIT` for one that runs, or `DONE` because none will come."""

    WAIT = "wait"
    DONE = "done"


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """A sweep's extent.

    Attributes:
        budgets: most configurations by method, in the order in which methods take turns.
        seeds: values of `train.seed` that every configuration runs, in order.
        rungs: epochs at which first seeds are compared; empty: nothing is stopped.
        reduction: at a rung, the best 1/reduction of what reached it so far goes on.
        weights: of FNRG, PNRG and TNRG in CNRG.
    """

    sweep_id: str
    budgets: Mapping[str, int]
    seeds: tuple[int, ...]
    rungs: tuple[int, ...] = ()
    reduction: int = 3
    weights: Weights = EQUAL_WEIGHTS

    def trial_id(self, method: str, configuration: int, seed: int) -> str:
        """The same for the same trial, whenever it is planned."""
        return trial_name(self.sweep_id, method, configuration, seed)


class Schedule:
    """Emits every trial of a plan once.

    Methods take turns, so that all studies grow alike. Without rungs, all seeds of a configuration are emitted before
    the method's next configuration; with rungs, its first seed, and the others once that one has completed.

    Args:
        searchers: one per method of the plan.
        records: what is known from before. Trials that ended are not emitted again; those that were running are, first
            of all, with the parameters that they had.
    """

    def __init__(self, plan: SweepPlan, searchers: Mapping[str, Searcher], records: Iterable[TrialRecord] = ()) -> None:
        self._plan = plan
        self._searchers = searchers
        self._records: dict[str, TrialRecord] = {}
        self._parameters: dict[str, dict[int, Mapping[str, Any]]] = {method: {} for method in plan.budgets}
        self._exhausted: set[str] = set()
        for record in records:
            self._remember(record)
        methods = list(plan.budgets)
        again = [record.spec for record in self._records.values() if record.status == "running"]
        self._again = deque(sorted(again, key=lambda s: (s.configuration, methods.index(s.method), s.seed)))

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """Everything that is known of the sweep's trials."""
        return tuple(self._records.values())

    def next(self) -> TrialSpec | Signal:
        """The trial to start next; it counts as running from now on."""
        if self._again:
            return self._again.popleft()
        spec = next(filter(None, map(self._missing_seed, self._plan.budgets)), None) or self._suggestion()
        if spec is not None:
            self._remember(TrialRecord(spec=spec, status="running"))
            return spec
        more_seeds = self._plan.rungs and len(self._plan.seeds) > 1
        first = self._plan.seeds[0]
        if more_seeds and any(r.status == "running" and r.spec.seed == first for r in self._records.values()):
            return Signal.WAIT
        return Signal.DONE

    def on_report(self, trial_id: str, epoch: int, metrics: TrialMetrics) -> TrialRecord:
        """Take in an epoch's losses and dev metrics.

        Returns:
            The trial's record: `running` where it goes on, `stopped` where it lost at a rung (re-scored by CNRG among
            all first seeds of its method that reached the rung), `failed` where a metric is not finite.
        """
        record = self._records[trial_id]
        if record.status != "running":
            return record
        judged = epoch in self._plan.rungs and record.spec.seed == self._plan.seeds[0] and epoch not in record.history
        record = replace(record, history={**record.history, epoch: metrics})
        problem = _not_finite(metrics)
        if problem:
            return self._remember(replace(record, status="failed", reason=f"{problem} at epoch {epoch}"))
        self._remember(record)
        return self._remember(self._judge(record, epoch)) if judged else record

    def on_complete(self, trial_id: str, metrics: TrialMetrics) -> TrialRecord:
        """Take in a trial's final metrics; one that is not finite makes it `failed`."""
        record = self._records[trial_id]
        if record.status != "running":
            return record
        problem = _not_finite(metrics)
        if problem:
            return self._remember(replace(record, status="failed", reason=problem))
        return self._remember(replace(record, status="completed", metrics=metrics))

    def on_fail(self, trial_id: str, reason: str) -> TrialRecord:
        """Take in that a trial ended without a result."""
        record = self._records[trial_id]
        return record if record.status != "running" else self._remember(replace(record, status="failed", reason=reason))

    def _remember(self, record: TrialRecord) -> TrialRecord:
        self._records[record.spec.trial_id] = record
        self._parameters[record.spec.method][record.spec.configuration] = record.spec.parameters
        return record

    def _missing_seed(self, method: str) -> TrialSpec | None:
        first = self._plan.seeds[0]
        for index, parameters in sorted(self._parameters[method].items()):
            opener = self._records.get(self._plan.trial_id(method, index, first))
            survived = opener is not None and opener.status == "completed"
            for seed in self._plan.seeds if survived or not self._plan.rungs else (first,):
                if self._plan.trial_id(method, index, seed) not in self._records:
                    return self._spec(method, index, seed, parameters)
        return None

    def _suggestion(self) -> TrialSpec | None:
        for method in sorted(self._plan.budgets, key=lambda m: len(self._parameters[m])):
            suggested = self._parameters[method]
            if method in self._exhausted or len(suggested) >= self._plan.budgets[method]:
                continue
            # After a kill, a number may be missing in between: it is the one to fill.
            index = next(number for number in range(len(suggested) + 1) if number not in suggested)
            parameters = self._searchers[method].suggest(index, self._known(method))
            if parameters is None:
                self._exhausted.add(method)
                continue
            return self._spec(method, index, self._plan.seeds[0], parameters)
        return None

    def _spec(self, method: str, index: int, seed: int, parameters: Mapping[str, Any]) -> TrialSpec:
        trial_id = self._plan.trial_id(method, index, seed)
        return TrialSpec(trial_id=trial_id, method=method, configuration=index, seed=seed, parameters=parameters)

    def _known(self, method: str) -> StudyHistory:
        population, running, stopped, failed = [], [], [], []
        of_method = [record for record in self._records.values() if record.spec.method == method]
        for configuration in configurations(of_method, seeds=self._plan.seeds).get(method, ()):
            statuses = {record.status for record in configuration.records}
            if configuration.complete:
                metrics = configuration.mean("dev")
                population.append(ScoredConfiguration(parameters=configuration.parameters, metrics=metrics))
            elif "failed" in statuses:
                failed.append(configuration.parameters)
            elif "stopped" in statuses:
                stopped.append(configuration.parameters)
            else:
                running.append(configuration.parameters)
        return StudyHistory(population=population, running=running, stopped=stopped, failed=failed)

    def _judge(self, record: TrialRecord, epoch: int) -> TrialRecord:
        reached = {
            other.spec.trial_id: _raw(other.history[epoch].dev)
            for other in self._records.values()
            if other.spec.method == record.spec.method
            and other.spec.seed == self._plan.seeds[0]
            and epoch in other.history
            and other.status != "failed"
        }
        scores = {name: s.cnrg for name, s in score_population(reached, self._plan.weights).scores.items()}
        mine = scores[record.spec.trial_id]
        rank = 1 + sum(score > mine for score in scores.values())
        kept = math.ceil(len(scores) / self._plan.reduction)
        verdict = f"CNRG {mine:.4f} at epoch {epoch}: rank {rank} of {len(scores)}, the best {kept} go on"
        record = replace(record, tags={**record.tags, f"rung.{epoch}": verdict})
        return record if rank <= kept else replace(record, status="stopped", reason=verdict)


def _raw(dev: Mapping[str, float]) -> dict[str, float]:
    return {metric.key: dev[metric.key] for metric in NRG_METRICS if metric.key in dev}


def _not_finite(metrics: TrialMetrics) -> str | None:
    return next((f"{key} is {value}" for key, value in metrics.flat().items() if not math.isfinite(value)), None)

"""One sweep in MLflow: a parent run, and a child run per trial.

Metrics of an epoch are logged as `epoch/dev/...` with step = epoch, final ones as `dev/...` and `test/...`: MLflow
shows the value of the last step, which need not be the best checkpoint's. The `status` tag is what counts; MLflow's own
run status follows it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlflow.entities import Run

from unirex_ray.errors import UserError
from unirex_ray.metrics.table import TASK_SCORE, TrialMetrics
from unirex_ray.tracking import mlflow_view, trial_table
from unirex_ray.tracking.mlflow_connect import Experiment
from unirex_ray.tracking.mlflow_runs import MlflowRuns
from unirex_ray.tracking.records import TrialRecord, TrialSpec, TrialStatus
from unirex_ray.tracking.store import (
    CONFIGURATION,
    METHOD,
    PARAMETERS,
    REASON,
    SEED,
    SELECTED,
    STATUS,
    SWEEP_ID,
    TRIAL_ID,
    sort_key,
    verdict_tags,
)

PARENT = "mlflow.parentRunId"
TABLE_DIGEST = "trials.digest"
"""Of the `trial_table` that a finished sweep keeps; empty while it runs."""

_EPOCH, _STAGE = "epoch/", "stage/"
_TERMINAL: dict[TrialStatus, str] = {
    "completed": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
    "lost": "KILLED",
}


class MlflowSweep:
    """An `OpenSweep` whose parent run exists and is running.

    Args:
        protocol: tags of the sweep that its trials have as well; the sweep may have grown since theirs were written.
    """

    def __init__(
        self,
        runs: MlflowRuns,
        experiment: Experiment,
        sweep_id: str,
        run_id: str,
        protocol: Mapping[str, str],
        table: str = "",
    ) -> None:
        """Continue a sweep.

        Args:
            table: digest of the table of trials that it had when it was opened; empty where it had none, or where its
                trials have changed since.
        """
        self._table = table
        self._clock: Callable[[], float] = time.time
        self._runs, self._experiment = runs.at(lambda: self._clock()), experiment
        self._sweep_id, self._run_id, self._protocol = sweep_id, run_id, protocol
        self._epochs: dict[str, set[tuple[str, int]]] = {}
        self._trial_runs: dict[str, str] = {}
        for child in self._running():
            status = child.data.tags[STATUS]
            # Its driver was killed between the two.
            if status in _TERMINAL:
                self._runs.end(child.info.run_id, _TERMINAL[status])

    @property
    def run_id(self) -> str:
        """See `OpenSweep`."""
        return self._run_id

    @property
    def page(self) -> str:
        """See `OpenSweep`."""
        return mlflow_view.link(self._experiment.id, self._sweep_id)

    def as_of(self, at: float) -> None:
        """See `OpenSweep`."""
        self._clock = lambda: at

    def open_trial(self, spec: TrialSpec, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """See `OpenSweep`."""
        tags = {
            **tags,
            **self._protocol,
            SWEEP_ID: self._sweep_id,
            TRIAL_ID: spec.trial_id,
            METHOD: spec.method,
            CONFIGURATION: str(spec.configuration),
            SEED: str(spec.seed),
            PARAMETERS: json.dumps(dict(spec.parameters)),
            STATUS: "running",
            PARENT: self._run_id,
        }
        known = self._found(spec.trial_id)
        if known:
            run = self._runs.reopen(self._experiment, known, params, tags)
            self._epochs.pop(spec.trial_id, None)
        else:
            name = spec.trial_id.removeprefix(f"{self._sweep_id}-")
            run = self._runs.create(self._experiment, name, params, tags)
            self._epochs[spec.trial_id] = set()
        self._trial_runs[spec.trial_id] = run.info.run_id
        return str(run.info.run_id)

    def log_epoch(
        self,
        trial_id: str,
        epoch: int,
        metrics: TrialMetrics,
        *,
        stage: str = "",
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """See `OpenSweep`."""
        prefix = f"{_STAGE}{stage}/" if stage else _EPOCH
        if trial_id not in self._epochs:
            self._epochs[trial_id] = self._logged_epochs(self._runs.client.get_run(self._run_of(trial_id)))
        if (prefix, epoch) not in self._epochs[trial_id]:
            logged = {prefix + key: value for key, value in metrics.flat().items()}
            self._runs.log(self._run_of(trial_id), tags=tags)
            self._runs.log(self._run_of(trial_id), metrics=logged, step=epoch)
            self._epochs[trial_id].add((prefix, epoch))

    def finish_trial(
        self, trial_id: str, status: TrialStatus, *, metrics: TrialMetrics, reason: str | None = None
    ) -> None:
        """See `OpenSweep`."""
        run_id = self._run_of(trial_id)
        # They are there where a process was killed before the status was, and its journal is lost.
        known = self._runs.client.get_run(run_id).data.metrics
        new = {key: value for key, value in metrics.flat().items() if known.get(key) != value}
        self._runs.log(run_id, metrics=new, tags=verdict_tags(metrics))
        self._runs.log(run_id, tags={STATUS: status, **({REASON: reason} if reason else {})})
        self._runs.end(run_id, _TERMINAL[status])

    def log_text(self, trial_id: str | None, path: str, text: str) -> None:
        """See `OpenSweep`."""
        self._runs.log_bytes(self._run_of(trial_id), path, text.encode())

    def log_file(self, trial_id: str | None, file: Path) -> None:
        """See `OpenSweep`."""
        self._runs.log_file(self._run_of(trial_id), file)

    def log_selection(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        """See `OpenSweep`."""
        for trial_id, of_trial in scores.items():
            found = self._found(trial_id)
            if found is not None:
                self._runs.log(found.info.run_id, metrics={f"{SELECTED}/{key}": s for key, s in of_trial.items()})

    def trials(self, *, history: bool = False) -> list[TrialRecord]:
        """See `OpenSweep`."""
        records = [trial_record(run, self._history(run) if history else {}) for run in self._children()]
        return sorted(records, key=sort_key)

    def has_trials(self, count: int) -> bool:
        """See `OpenSweep`."""
        return self._runs.count_reaches(count, _children_of(self._run_id), experiment=self._experiment.id)

    def finish(self) -> None:
        """See `OpenSweep`."""
        if trials := self._trials_by_table() or self.trials():
            table = trial_table.to_parquet([_unscored(trial) for trial in trials])
            self._runs.log_bytes(self._run_id, trial_table.TRIALS, table)
            self._runs.log(self._run_id, tags={TABLE_DIGEST: _digest(table)})
        self._runs.log(self._run_id, tags={STATUS: "completed"})
        self._runs.end(self._run_id, "FINISHED")

    def _trials_by_table(self) -> list[TrialRecord] | None:
        """The trials as MLflow has them, of which it is asked only for those that came or changed since the table."""
        before = _read_table(self._runs, self._run_id, self._table)
        if before is None:
            return None
        trials = [trial for trial in before if trial.spec.trial_id not in self._trial_runs]
        trials += [trial_record(self._runs.client.get_run(run_id), {}) for run_id in self._trial_runs.values()]
        if not self._runs.count_is(len(trials), _children_of(self._run_id), experiment=self._experiment.id):
            return None
        return sorted(trials, key=sort_key)

    def fail(self, reason: str) -> None:
        """See `OpenSweep`."""
        for child in self._running():
            self._runs.end(child.info.run_id, "KILLED")
        self._runs.log(self._run_id, tags={STATUS: "failed", REASON: reason})
        self._runs.end(self._run_id, "FAILED")

    def _run_of(self, trial_id: str | None) -> str:
        if trial_id is None:
            return self._run_id
        if trial_id not in self._trial_runs:
            found = self._found(trial_id)
            if found is None:
                raise UserError(f"the run of trial {trial_id} is gone from MLflow; the job `sync` brings it again")
            self._trial_runs[trial_id] = found.info.run_id
        return self._trial_runs[trial_id]

    def _found(self, trial_id: str) -> Run | None:
        """A trial's run; None where there is none yet. There may be thousands: each is asked for by itself."""
        if trial_id in self._trial_runs:
            return self._runs.client.get_run(self._trial_runs[trial_id])
        query = f"{_children_of(self._run_id)} AND tags.{TRIAL_ID} = '{trial_id}'"
        return next(iter(self._runs.search(query, experiments=[self._experiment.id])), None)

    def _running(self) -> list[Run]:
        query = f"{_children_of(self._run_id)} AND attributes.status = 'RUNNING'"
        return self._runs.search(query, experiments=[self._experiment.id])

    def _children(self) -> list[Run]:
        return self._runs.search(_children_of(self._run_id), experiments=[self._experiment.id])

    def _history(self, run: Run) -> dict[int, TrialMetrics]:
        logged: dict[int, dict[str, float]] = {}
        for key in sorted(run.data.metrics):
            if key.startswith(_EPOCH):
                for metric in self._runs.client.get_metric_history(run.info.run_id, key):
                    logged.setdefault(metric.step, {})[key.removeprefix(_EPOCH)] = metric.value
        return {epoch: TrialMetrics.from_flat(metrics) for epoch, metrics in sorted(logged.items())}

    def _logged_epochs(self, run: Run) -> set[tuple[str, int]]:
        """Prefix and number of every epoch of every stage."""
        keys: dict[str, list[str]] = {}
        for key in run.data.metrics:
            if found := re.match(rf"{_EPOCH}|{_STAGE}[^/]+/", key):
                keys.setdefault(found[0], []).append(key)
        return {
            (prefix, metric.step)
            for prefix, logged in keys.items()
            # What explains is not measured in every epoch.
            for key in [key for key in logged if key == f"{prefix}dev/{TASK_SCORE.key}"] or logged
            for metric in self._runs.client.get_metric_history(run.info.run_id, key)
        }


def recorded_trials(runs: MlflowRuns, sweep: Run) -> list[TrialRecord]:
    """The trials of a sweep without history: from its table where that agrees with the runs, as MLflow reads a
    hundred runs in the time of ten thousand rows."""
    trials = _from_table(runs, sweep)
    if trials is None:
        every = runs.each(_children_of(sweep.info.run_id), [sweep.info.experiment_id])
        trials = [trial_record(run, {}) for run in every]
    return sorted(trials, key=sort_key)


def _from_table(runs: MlflowRuns, sweep: Run) -> list[TrialRecord] | None:
    """The trials of a sweep's table, with the scores that comparisons wrote to its runs since; None where it has no
    table, runs came or went, or those that have scores differ from it."""
    experiment = sweep.info.experiment_id
    table = _read_table(runs, sweep.info.run_id, sweep.data.tags.get(TABLE_DIGEST, ""))
    if table is None:
        return None
    trials = {trial.run_id: trial for trial in table}
    children = _children_of(sweep.info.run_id)
    if not runs.count_is(len(trials), children, experiment=experiment):
        return None
    for run in runs.each(f"{children} AND metrics.`nrg/cnrg` > -1e300", [experiment]):
        scored = trial_record(run, {})
        kept = trials.get(run.info.run_id)
        if kept is None or _comparable(kept) != _comparable(_unscored(scored)):
            return None
        trials[run.info.run_id] = scored
    return list(trials.values())


def _read_table(runs: MlflowRuns, sweep_run: str, digest: str) -> list[TrialRecord] | None:
    """A sweep's table; None where there is none of this digest."""
    if not digest:
        return None
    try:
        table = runs.artifact(sweep_run, trial_table.TRIALS)
        return trial_table.from_parquet(table) if table is not None and _digest(table) == digest else None
    except UserError:
        return None  # its artifacts are out of reach, or another version wrote it


def _unscored(trial: TrialRecord) -> TrialRecord:
    return replace(trial, metrics=replace(trial.metrics, nrg={}))


def _comparable(trial: TrialRecord) -> tuple[TrialRecord, str]:
    """Equal for equal records, in which nan counts as like nan, and the order of metrics for nothing."""
    return replace(trial, metrics=TrialMetrics()), repr(sorted(trial.metrics.flat().items()))


def _children_of(run_id: str) -> str:
    return f"tags.`{PARENT}` = '{run_id}'"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def trial_record(run: Run, history: Mapping[int, TrialMetrics]) -> TrialRecord:
    """A trial's run as a record; its history takes requests of its own."""
    tags = own_tags(run)
    status: TrialStatus = tags[STATUS]  # type: ignore[assignment]
    spec = TrialSpec(
        trial_id=tags[TRIAL_ID],
        method=tags[METHOD],
        configuration=int(tags[CONFIGURATION]),
        seed=int(tags[SEED]),
        parameters=json.loads(tags[PARAMETERS]),
    )
    final = {key: value for key, value in run.data.metrics.items() if not key.startswith((_EPOCH, _STAGE))}
    return TrialRecord(
        spec=spec,
        status=status,
        metrics=TrialMetrics.from_flat(final if status == "completed" else {}),
        history=history,
        reason=tags.get(REASON) if status in ("failed", "stopped", "lost") else None,
        run_id=run.info.run_id,
        tags=tags,
    )


def own_tags(run: Run) -> dict[str, str]:
    """A run's tags without MLflow's."""
    return {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}

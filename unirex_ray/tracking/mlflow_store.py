"""Runs in MLflow: experiment = corpus, parent run = sweep, child run = trial. The only module that imports mlflow.

Metrics of an epoch are logged as `epoch/dev/...` with step = epoch, final ones as `dev/...` and `test/...`: MLflow
shows the value of the last step, which need not be the best checkpoint's. The `status` tag is what counts; MLflow's own
run status follows it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

# MLflow sends usage statistics unless told not to; it is told here, before it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# With a server, MLflow prints two lines of addresses at the end of every run.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from unirex_ray.config import without_credentials
from unirex_ray.data.schema import Split
from unirex_ray.errors import UserError, first_line
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.records import Evaluation, TrialRecord, TrialSpec, TrialStatus
from unirex_ray.tracking.store import (
    CONFIGURATION,
    CORPUS,
    DATA_DIGEST,
    EVALUATED_TRIAL,
    EVALUATION,
    LABELS,
    METHOD,
    PARAMETERS,
    REASON,
    SEED,
    SEEDS,
    SPLIT,
    STATUS,
    SWEEP_ID,
    TRAINED_DIGEST,
    TRAINED_ON,
    TRIAL_ID,
    SweepRecord,
    database_file,
    database_uri,
    sort_key,
)

logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)

PARENT = "mlflow.parentRunId"
EPOCH, STAGE = "epoch/", "stage/"
_TERMINAL: dict[TrialStatus, str] = {"completed": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_BATCH_METRICS, _BATCH_ENTRIES = 900, 90
_LONGEST_PARAM, _LONGEST_TAG = 6000, 5000
_PROBE_SECONDS = 5
_PAGE = 1000


class MlflowStore:
    """A `RunStore` on an MLflow server or an SQLite file."""

    def __init__(self, uri: str) -> None:
        """Connect.

        Args:
            uri: `sqlite:///FILE`, or `http(s)://` of an MLflow server.

        Raises:
            UserError: if the URI is none of these, or nothing usable answers there; within about 10 s.
        """
        self.uri, self._folder = _checked(uri)
        self._client = _connect(self.uri, self._folder)
        self._sweep = ""
        self._sweep_id = ""
        self._experiment = ""
        self._corpus = ""
        self._runs: dict[str, str] = {}
        self._epochs: dict[str, set[tuple[str, int]]] = {}

    def open_sweep(
        self,
        *,
        experiment: str,
        sweep_id: str,
        seeds: Sequence[int],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> str:
        """See `RunStore`."""
        if not re.fullmatch(r"[\w.-]+", sweep_id):
            raise UserError(f"a sweep's name may hold letters, digits, '_', '-' and '.', but got {sweep_id!r}")
        self._experiment, self._corpus = self._experiment_id(experiment), experiment
        self._sweep_id = sweep_id
        same = self._search([self._experiment], f"tags.{SWEEP_ID} = '{sweep_id}'")
        found = [run for run in same if TRIAL_ID not in run.data.tags]
        tags = {**tags, SWEEP_ID: sweep_id, SEEDS: json.dumps(list(seeds)), STATUS: "running"}
        run = self._reopen(found[0], params, tags) if found else self._create(sweep_id, params, tags)
        self._sweep = run.info.run_id
        children = self._children()
        self._runs = {child.data.tags[TRIAL_ID]: child.info.run_id for child in children}
        self._epochs = {}
        for child in children:
            status = child.data.tags[STATUS]
            if status in _TERMINAL and child.info.status == "RUNNING":
                self._client.set_terminated(child.info.run_id, _TERMINAL[status])
        return self._sweep

    def open_trial(self, spec: TrialSpec, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """See `RunStore`."""
        tags = {
            **tags,
            SWEEP_ID: self._sweep_id,
            TRIAL_ID: spec.trial_id,
            METHOD: spec.method,
            CONFIGURATION: str(spec.configuration),
            SEED: str(spec.seed),
            PARAMETERS: json.dumps(dict(spec.parameters)),
            STATUS: "running",
            PARENT: self._sweep,
        }
        known = self._runs.get(spec.trial_id)
        if known:
            run = self._reopen(self._client.get_run(known), params, tags)
            self._epochs[spec.trial_id] = self._logged_epochs(run)
        else:
            run = self._create(spec.trial_id.removeprefix(f"{self._sweep_id}-"), params, tags)
            self._epochs[spec.trial_id] = set()
        self._runs[spec.trial_id] = run.info.run_id
        return str(run.info.run_id)

    def log_epoch(self, trial_id: str, epoch: int, metrics: TrialMetrics, *, stage: str = "") -> None:
        """See `RunStore`."""
        prefix = f"{STAGE}{stage}/" if stage else EPOCH
        if (prefix, epoch) not in self._epochs[trial_id]:
            self._log(
                self._runs[trial_id], metrics={prefix + key: value for key, value in metrics.flat().items()}, step=epoch
            )
            self._epochs[trial_id].add((prefix, epoch))

    def finish_trial(
        self, trial_id: str, status: TrialStatus, *, metrics: TrialMetrics, reason: str | None = None
    ) -> None:
        """See `RunStore`."""
        run_id = self._runs[trial_id]
        self._log(run_id, metrics=metrics.flat())
        self._log(run_id, tags={STATUS: status, **({REASON: reason} if reason else {})})
        self._client.set_terminated(run_id, _TERMINAL[status])

    def log_text(self, trial_id: str | None, path: str, text: str) -> None:
        """See `RunStore`."""
        self._client.log_text(self._run_id(trial_id), text, path)

    def log_file(self, trial_id: str | None, file: Path, folder: str | None = None) -> None:
        """See `RunStore`."""
        self._client.log_artifact(self._run_id(trial_id), str(file), folder)

    def finish_sweep(self) -> None:
        """See `RunStore`."""
        self._log(self._sweep, tags={STATUS: "completed"})
        self._client.set_terminated(self._sweep, "FINISHED")

    def fail_sweep(self, reason: str) -> None:
        """See `RunStore`."""
        for child in self._children():
            if child.info.status == "RUNNING":
                self._client.set_terminated(child.info.run_id, "KILLED")
        self._log(self._sweep, tags={STATUS: "failed", REASON: reason})
        self._client.set_terminated(self._sweep, "FAILED")

    def trials(self, *, history: bool = False) -> list[TrialRecord]:
        """See `RunStore`."""
        records = [_record(run, self._history(run) if history else {}) for run in self._children()]
        return sorted(records, key=sort_key)

    def sweeps(self, experiment: str) -> list[SweepRecord]:
        """See `RunStore`."""
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            return []
        runs = self._search([found.experiment_id], f"tags.{SWEEP_ID} LIKE '%'")
        children = [run for run in runs if TRIAL_ID in run.data.tags]
        parents = [run for run in runs if TRIAL_ID not in run.data.tags]
        return [
            SweepRecord(
                sweep_id=parent.data.tags[SWEEP_ID],
                status=parent.data.tags[STATUS],  # type: ignore[arg-type]
                seeds=tuple(json.loads(parent.data.tags[SEEDS])),
                trials=tuple(
                    sorted(
                        (_record(run, {}) for run in children if run.data.tags[PARENT] == parent.info.run_id),
                        key=sort_key,
                    )
                ),
                run_id=parent.info.run_id,
                tags=_own_tags(parent),
            )
            for parent in parents
        ]

    def log_evaluation(
        self, evaluation: Evaluation, *, params: Mapping[str, Any], tags: Mapping[str, str], texts: Mapping[str, str]
    ) -> str:
        """See `RunStore`."""
        self._experiment, self._corpus = self._experiment_id(evaluation.corpus), evaluation.corpus
        name = f"{evaluation.trial_id}-on-{evaluation.corpus}-{evaluation.digest[:8]}-{evaluation.split}"
        tags = {
            **tags,
            EVALUATION: name,
            METHOD: evaluation.method,
            SEED: str(evaluation.seed),
            DATA_DIGEST: evaluation.digest,
            TRAINED_ON: evaluation.trained_on,
            TRAINED_DIGEST: evaluation.trained_digest,
            EVALUATED_TRIAL: evaluation.trial_id,
            CORPUS: evaluation.corpus,
            SPLIT: evaluation.split,
            LABELS: evaluation.labels,
        }
        # A metric that the new one has not could not be taken out of the old run.
        for old in self._search([self._experiment], f"tags.{EVALUATION} = '{name}'"):
            self._client.delete_run(old.info.run_id)
        run = self._create(f"{evaluation.method}-s{evaluation.seed} from {evaluation.trained_on}", params, tags)
        self._log(run.info.run_id, metrics=evaluation.metrics.flat())
        for file, text in texts.items():
            self._client.log_text(run.info.run_id, text, file)
        self._client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)

    def evaluations(self, trained_on: str) -> list[Evaluation]:
        """See `RunStore`."""
        experiments = [experiment.experiment_id for experiment in self._client.search_experiments(max_results=_PAGE)]
        runs = self._search(experiments, f"tags.{TRAINED_ON} = '{trained_on}' AND attributes.status = 'FINISHED'")
        return [_evaluation(run) for run in runs]

    def log_scores(self, run_id: str, scores: Mapping[str, float]) -> None:
        """See `RunStore`."""
        self._log(run_id, metrics=TrialMetrics(nrg=scores).flat())

    def _run_id(self, trial_id: str | None) -> str:
        return self._sweep if trial_id is None else self._runs[trial_id]

    def _experiment_id(self, name: str) -> str:
        # Beside the database: a job's working directory may be a copy that vanishes.
        location = (self._folder / "mlartifacts" / name).as_uri() if self._folder else None
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except MlflowException:
                # Another sweep on the same corpus may have been faster.
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UserError(
                f"the MLflow experiment {name!r} at {self.uri} is deleted: restore it with "
                f"'mlflow experiments restore --experiment-id {found.experiment_id}', or set another tracking.uri"
            )
        return str(found.experiment_id)

    def _create(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> Run:
        # Tags are part of the creation, so that a run is found again even if the process dies right here.
        short = {key: value[:_LONGEST_TAG] for key, value in tags.items()}
        run = self._client.create_run(self._experiment, tags=short, run_name=name)
        return self._complete(run, params, tags)

    def _reopen(self, run: Run, params: Mapping[str, Any], tags: Mapping[str, str]) -> Run:
        self._log(run.info.run_id, tags=tags)
        if REASON in run.data.tags:
            self._client.delete_tag(run.info.run_id, REASON)
        if run.info.status != "RUNNING":
            self._client.update_run(run.info.run_id, status="RUNNING")
        return self._complete(run, params, tags)

    def _complete(self, run: Run, params: Mapping[str, Any], tags: Mapping[str, str]) -> Run:
        """Add what a killed process may have left out. MLflow lets no parameter change."""
        missing = {key: _text(value) for key, value in params.items() if key not in run.data.params}
        self._log(run.info.run_id, params=missing)
        if DATA_DIGEST in tags and not (run.inputs and run.inputs.dataset_inputs):
            corpus = self._corpus
            dataset = Dataset(name=corpus, digest=tags[DATA_DIGEST], source_type="unirex_ray", source=corpus)
            context = [InputTag("mlflow.data.context", "evaluation" if EVALUATION in tags else "training")]
            self._client.log_inputs(run.info.run_id, [DatasetInput(dataset, context)])
        return run

    def _log(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        now = time.time_ns() // 1_000_000
        for part in _parts([Metric(key, value, now, step) for key, value in (metrics or {}).items()], _BATCH_METRICS):
            self._client.log_batch(run_id, metrics=part)
        for part in _parts([Param(key, value) for key, value in (params or {}).items()], _BATCH_ENTRIES):
            self._client.log_batch(run_id, params=part)
        for part in _parts([RunTag(k, v[:_LONGEST_TAG]) for k, v in (tags or {}).items()], _BATCH_ENTRIES):
            self._client.log_batch(run_id, tags=part)

    def _search(self, experiments: Sequence[str], query: str) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                list(experiments), query, max_results=_PAGE, order_by=["attributes.start_time ASC"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _children(self) -> list[Run]:
        return self._search([self._experiment], f"tags.`{PARENT}` = '{self._sweep}'")

    def _history(self, run: Run) -> dict[int, TrialMetrics]:
        logged: dict[int, dict[str, float]] = {}
        for key in sorted(run.data.metrics):
            if key.startswith(EPOCH):
                for metric in self._client.get_metric_history(run.info.run_id, key):
                    logged.setdefault(metric.step, {})[key.removeprefix(EPOCH)] = metric.value
        return {epoch: TrialMetrics.from_flat(metrics) for epoch, metrics in sorted(logged.items())}

    def _logged_epochs(self, run: Run) -> set[tuple[str, int]]:
        """Prefix and number of every epoch of every stage."""
        first_keys = {re.match(rf"{EPOCH}|{STAGE}[^/]+/|", key)[0]: key for key in run.data.metrics}  # type: ignore[index]
        return {
            (prefix, metric.step)
            for prefix, key in first_keys.items()
            if prefix
            for metric in self._client.get_metric_history(run.info.run_id, key)
        }


def _record(run: Run, history: Mapping[int, TrialMetrics]) -> TrialRecord:
    tags = _own_tags(run)
    status: TrialStatus = tags[STATUS]  # type: ignore[assignment]
    spec = TrialSpec(
        trial_id=tags[TRIAL_ID],
        method=tags[METHOD],
        configuration=int(tags[CONFIGURATION]),
        seed=int(tags[SEED]),
        parameters=json.loads(tags[PARAMETERS]),
    )
    final = {key: value for key, value in run.data.metrics.items() if not key.startswith((EPOCH, STAGE))}
    return TrialRecord(
        spec=spec,
        status=status,
        metrics=TrialMetrics.from_flat(final if status == "completed" else {}),
        history=history,
        reason=tags.get(REASON) if status in ("failed", "stopped") else None,
        run_id=run.info.run_id,
        tags=tags,
    )


def _evaluation(run: Run) -> Evaluation:
    tags = run.data.tags
    split: Split = tags[SPLIT]  # type: ignore[assignment]
    return Evaluation(
        trial_id=tags[EVALUATED_TRIAL],
        method=tags[METHOD],
        seed=int(tags[SEED]),
        trained_on=tags[TRAINED_ON],
        trained_digest=tags[TRAINED_DIGEST],
        corpus=tags[CORPUS],
        digest=tags[DATA_DIGEST],
        split=split,
        labels=tags[LABELS],
        metrics=TrialMetrics.from_flat(run.data.metrics),
    )


def _own_tags(run: Run) -> dict[str, str]:
    return {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}


def _text(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, default=str)
    return shown if len(shown) <= _LONGEST_PARAM else shown[: _LONGEST_PARAM - 1] + "…"


def _parts(entries: list[Any], size: int) -> Iterable[list[Any]]:
    return (entries[i : i + size] for i in range(0, len(entries), size))


def _checked(uri: str) -> tuple[str, Path | None]:
    """The URI with an absolute path, and the database's folder (None for a server)."""
    if re.match(r"https?://[^/]", uri):
        try:
            return without_credentials(uri), None
        except ValueError as error:
            raise UserError(str(error)) from None
    path = database_file(uri)
    if path is None or "?" in uri or path.name == ":memory:":
        raise UserError(
            f"tracking.uri must be sqlite:///FILE, or http:// or https:// of an MLflow server, but got {uri!r}"
            + _remedy(uri)
        )
    if "%" in uri:
        raise UserError(f"MLflow misreads a database path with a percent sign: {uri!r}; choose another --output")
    return database_uri(path), path.parent


def _remedy(uri: str) -> str:
    path = uri.removeprefix("file://")
    if "://" not in path and not path.startswith("sqlite:") and path:
        return f"; MLflow keeps no runs in plain folders: use sqlite:///{Path(path).absolute() / 'mlflow.db'}"
    return ""


def _connect(uri: str, folder: Path | None) -> MlflowClient:
    try:
        if folder is None:
            with _short_timeouts():
                client = MlflowClient(uri)
                client.search_experiments(max_results=1)
            return client
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(database_file(uri) or "")) as database:
            database.execute("PRAGMA schema_version")  # MLflow itself tries for minutes
        # Several processes that meet a fresh database would all create its tables, and fail.
        with open(folder / ".mlflow.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
        return client
    except Exception as error:  # MLflow lets errors of SQLAlchemy, requests and the operating system through
        what = "is an MLflow server running there?" if folder is None else "is it a writable MLflow database?"
        raise UserError(f"cannot use tracking.uri = {uri!r}: {what} ({first_line(error)[:300]})") from error


@contextmanager
def _short_timeouts() -> Iterator[None]:
    """Fail in seconds: MLflow's own retries take minutes."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_PROBE_SECONDS)}
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value

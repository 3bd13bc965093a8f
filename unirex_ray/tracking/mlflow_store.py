"""Runs in MLflow: experiment = corpus, parent run = sweep, child run = trial; an evaluation is a run of its own."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from unirex_ray.data.schema import Split
from unirex_ray.errors import UserError
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking import mlflow_view
from unirex_ray.tracking.mlflow_connect import checked_uri, connect, find_or_create_experiment, leave_retries_to_us
from unirex_ray.tracking.mlflow_runs import MlflowRuns
from unirex_ray.tracking.mlflow_sweep import TABLE_DIGEST, MlflowSweep, own_tags, recorded_trials
from unirex_ray.tracking.protocol import SPACE
from unirex_ray.tracking.records import Evaluation, JudgedModel, StudyRecord, TrialRecord
from unirex_ray.tracking.store import (
    CORPUS,
    DATA_DIGEST,
    EVALUATED_TRIAL,
    EVALUATION,
    EVALUATION_SETTINGS,
    LABELS,
    METHOD,
    PROTOCOL,
    PROTOCOL_LINE,
    SEED,
    SEEDS,
    SPLIT,
    STATUS,
    STUDY,
    STUDY_ANSWERS,
    STUDY_METRICS,
    STUDY_SIMULATED,
    STUDY_TRIALS,
    SWEEP_ID,
    TRAINED_DIGEST,
    TRAINED_ON,
    TRIAL_ID,
    SweepRecord,
    sweep_settings,
    verdict_tags,
)

_DESCRIPTION = "mlflow.note.content"


class MlflowStore:
    """A `RunStore` on an MLflow server or an SQLite file."""

    def __init__(self, uri: str) -> None:
        """Connect.

        Args:
            uri: `sqlite:///FILE`, or `http(s)://` of an MLflow server.

        Raises:
            UserError: if the URI is none of these, or nothing usable answers there; within about 10 s.
        """
        self.uri = checked_uri(uri)
        self._runs = MlflowRuns(connect(self.uri))

    def open_sweep(
        self,
        *,
        experiment: str,
        sweep_id: str,
        seeds: Sequence[int],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        at: float | None = None,
    ) -> MlflowSweep:
        """See `RunStore`."""
        if not re.fullmatch(r"[\w.-]+", sweep_id):
            raise UserError(f"a sweep's name may hold letters, digits, '_', '-' and '.', but got {sweep_id!r}")
        leave_retries_to_us()
        corpus = find_or_create_experiment(self._runs.client, self.uri, experiment)
        of_sweep = f"tags.{SWEEP_ID} = '{sweep_id}'"
        parents = self._runs.search(f"{of_sweep} AND tags.{SEEDS} LIKE '%'", experiments=[corpus.id])
        told = mlflow_view.described(tags.get(PROTOCOL_LINE, ""), corpus.id, sweep_id)
        tags = {
            **tags,
            _DESCRIPTION: told,
            SWEEP_ID: sweep_id,
            SEEDS: json.dumps(list(seeds)),
            STATUS: "running",
            TABLE_DIGEST: "",
        }
        searched = [key.removeprefix(SPACE) for key in params if key.startswith(SPACE)]
        with suppress(MlflowException):  # a convenience
            tag = mlflow_view.TAG + sweep_id
            self._runs.client.set_experiment_tag(corpus.id, tag, mlflow_view.view(sweep_id, searched))
        protocol = {key: tags[key] for key in (PROTOCOL, PROTOCOL_LINE) if key in tags}
        if not parents:
            run = self._runs.at(lambda: at or time.time()).create(corpus, sweep_id, params, tags)
            return MlflowSweep(self._runs, corpus, sweep_id, run.info.run_id, protocol)
        table = parents[0].data.tags.get(TABLE_DIGEST, "")
        if protocol.items() - parents[0].data.tags.items():  # it has grown since; its own run's tags come last
            table = ""
            for child in self._runs.search(of_sweep, experiments=[corpus.id]):
                if TRIAL_ID in child.data.tags:
                    self._runs.log(child.info.run_id, tags=protocol)
        run = self._runs.reopen(corpus, parents[0], params, tags)
        return MlflowSweep(self._runs, corpus, sweep_id, run.info.run_id, protocol, table)

    def sweeps(self, experiment: str) -> list[SweepRecord]:
        """See `RunStore`."""
        known = self._runs.client.get_experiment_by_name(experiment)
        if known is None:
            return []
        parents = self._runs.search(
            f"tags.{SWEEP_ID} LIKE '%' AND tags.{SEEDS} LIKE '%'", experiments=[known.experiment_id]
        )
        return [_sweep_record(parent, recorded_trials(self._runs, parent)) for parent in parents]

    def log_evaluation(
        self, evaluation: Evaluation, *, params: Mapping[str, Any], tags: Mapping[str, str], files: Mapping[str, bytes]
    ) -> str:
        """See `RunStore`."""
        corpus = find_or_create_experiment(self._runs.client, self.uri, evaluation.corpus)
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
            EVALUATION_SETTINGS: json.dumps(evaluation.settings),
            **verdict_tags(evaluation.metrics),
            **({PROTOCOL: evaluation.protocol} if evaluation.protocol else {}),
        }
        # MLflow deletes no metric of a run, and the new evaluation may lack one that the old one has.
        for old in self._runs.search(f"tags.{EVALUATION} = '{name}'", experiments=[corpus.id]):
            if _evaluation(old).settings == evaluation.settings:
                self._runs.client.delete_run(old.info.run_id)
        run = self._runs.create(
            corpus, f"{evaluation.method}-s{evaluation.seed} from {evaluation.trained_on}", params, tags
        )
        self._runs.log(run.info.run_id, metrics=evaluation.metrics.flat())
        self.log_files(run.info.run_id, files)
        self._runs.client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)

    def log_study(
        self, study: StudyRecord, *, params: Mapping[str, Any], tags: Mapping[str, str], files: Mapping[str, bytes]
    ) -> str:
        """See `RunStore`."""
        corpus = find_or_create_experiment(self._runs.client, self.uri, study.corpus)
        same = f"tags.{STUDY} = '{study.study}' AND tags.`{STUDY_ANSWERS}` = '{study.answers}'"
        # MLflow deletes no metric of a run, and the new analysis may lack one that the old one has.
        for old in self._runs.search(same, experiments=[corpus.id]):
            self._runs.client.delete_run(old.info.run_id)
        tags = {
            **tags,
            STUDY: study.study,
            STUDY_ANSWERS: study.answers,
            STUDY_SIMULATED: json.dumps(study.simulated),
            STUDY_TRIALS: json.dumps([model.trial_id for model in study.models]),
            CORPUS: study.corpus,
            DATA_DIGEST: study.digest,
        }
        name = f"{'simulated ' if study.simulated else ''}study {study.study[:8]}"
        run = self._runs.create(corpus, name, params, tags)
        self._runs.log(run.info.run_id, metrics=study.metrics)
        for model in study.models:
            # What an earlier study measured and this one did not stays: the tag says which numbers are whose.
            told = f"study {study.study}, answers {study.answers}: {', '.join(model.metrics)}"
            for trial in self._trial_runs(model) if model.metrics else []:
                self._runs.log(trial.info.run_id, metrics=model.metrics, tags={STUDY_METRICS: told})
        self.log_files(run.info.run_id, files)
        self._runs.client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)

    def _trial_runs(self, model: JudgedModel) -> list[Run]:
        """The runs of a trial that trained on the same data."""
        known = self._runs.client.get_experiment_by_name(model.trained_on)
        # What is no trial's name here, as of somebody else's model, would be no query either.
        if known is None or not re.fullmatch(r"[\w.-]+", model.trial_id):
            return []
        found = self._runs.search(f"tags.{TRIAL_ID} = '{model.trial_id}'", experiments=[known.experiment_id])
        return [run for run in found if run.data.tags.get(DATA_DIGEST) == model.trained_digest]

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """See `RunStore`."""
        return self._runs.artifact(run_id, name)

    def evaluations(self, trained_on: str) -> list[Evaluation]:
        """See `RunStore`."""
        runs = self._runs.search(f"tags.{TRAINED_ON} = '{trained_on}' AND attributes.status = 'FINISHED'")
        return [_evaluation(run) for run in runs]

    def describe(self, run_id: str, text: str) -> None:
        """See `RunStore`; a sweep's run keeps its link to its trials."""
        run = self._runs.client.get_run(run_id)
        if SEEDS in run.data.tags:
            text = mlflow_view.described(text, run.info.experiment_id, run.data.tags[SWEEP_ID])
        self._runs.log(run_id, tags={_DESCRIPTION: text})

    def log_files(self, run_id: str, files: Mapping[str, bytes], folder: str | None = None) -> None:
        """See `RunStore`."""
        for name, data in files.items():
            self._runs.log_bytes(run_id, name, data, folder)

    def log_scores(self, run_id: str, scores: Mapping[str, float]) -> None:
        """See `RunStore`."""
        self._runs.log(run_id, metrics=TrialMetrics(nrg=scores).flat())


def _sweep_record(parent: Run, trials: Sequence[TrialRecord]) -> SweepRecord:
    return SweepRecord(
        sweep_id=parent.data.tags[SWEEP_ID],
        status=parent.data.tags[STATUS],  # type: ignore[arg-type]
        seeds=tuple(json.loads(parent.data.tags[SEEDS])),
        trials=tuple(trials),
        run_id=parent.info.run_id,
        tags=own_tags(parent),
        settings=sweep_settings(parent.data.params, parent.data.tags),
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
        settings=json.loads(tags.get(EVALUATION_SETTINGS, "{}")),
        protocol=tags.get(PROTOCOL),
    )

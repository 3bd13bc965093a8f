"""What a run store does, the names of tags that every store uses, and the URI of the one that is configured."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

from unirex_ray.config import Config
from unirex_ray.data.schema import SPLITS
from unirex_ray.errors import UserError
from unirex_ray.metrics.table import MAJORITY_P, TrialMetrics
from unirex_ray.metrics.verdict import better_than_majority
from unirex_ray.tracking.records import Evaluation, StudyRecord, TrialRecord, TrialSpec, TrialStatus

SQLITE = "sqlite:///"
BEST_CONFIG = "best_config.yaml"
DATABASE = "mlflow.db"
"""File in an output with the runs, unless they are recorded elsewhere."""
LOCK = ".sweep.lock"
"""File in an output that whoever works there holds."""
SWEEP = "sweep.json"
"""File in a sweep's output that says what it is, and where it was recorded."""

SWEEP_ID = "sweep_id"
TRIAL_ID = "trial_id"
METHOD = "method"
CONFIGURATION = "configuration"
SEED = "seed"
SEEDS = "seeds"
STATUS = "status"
REASON = "reason"
PARAMETERS = "parameters"
DATA_DIGEST = "data.digest"
GIT_VERSION = "git.version"
CONFIG_HASH = "config.hash"
NRG_WEIGHTS = "nrg.weights"
PROTOCOL = "protocol"
PROTOCOL_LINE = "protocol.line"
GROWN_SETTINGS = "settings.grown"
"""Settings that a later command enlarged, as JSON: a run store changes no parameter."""
PLANNED = "trials.planned"
"""The most trials that a sweep may run; sweeps of version 0.1.0 did not record it."""
EVALUATION = "evaluation"
EVALUATION_SETTINGS = "evaluation_settings"
EVALUATED_TRIAL = "evaluated_trial"
STUDY = "study"
STUDY_ANSWERS = "study.answers"
STUDY_SIMULATED = "study.simulated"
STUDY_TRIALS = "study.trials"
STUDY_METRICS = "study.metrics"
"""On a trial: which study its `study/*` metrics are of."""
CORPUS = "corpus"
TRAINED_ON = "trained_on"
TRAINED_DIGEST = "trained_on.digest"
SPLIT = "split"
LABELS = "labels"

VERDICT = "verdict"
"""With a split behind it: whether the model is better than the majority class there."""

SELECTED = "select"
"""With a score behind it: the metric of a trial that says by what its configuration was selected, or was not."""
SELECTED_SCORES = ("cnrg", "fnrg", "pnrg", "tnrg")

SweepStatus = Literal["running", "completed", "failed"]


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """What is known of a sweep.

    Attributes:
        seeds: that every configuration has to complete.
        trials: ordered by method, configuration and seed; without history.
        settings: everything that decides its numbers, flat, as text (see `tracking.protocol`).
        run_id: the store's own identifier.
    """

    sweep_id: str
    status: SweepStatus
    seeds: tuple[int, ...]
    trials: tuple[TrialRecord, ...]
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


def verdict_tags(metrics: TrialMetrics) -> dict[str, str]:
    """What a run list shows of whether a model learned anything, for the splits on which that is known."""
    tags = {}
    for split in SPLITS:
        better = better_than_majority(metrics.of(split))
        if better is not None:
            words = "better" if better else "not better"
            tags[f"{VERDICT}.{split}"] = (
                f"{words} than the majority class (p = {metrics.of(split)[MAJORITY_P.key]:.2g})"
            )
    return tags


class SweepLog(Protocol):
    """What is written of one sweep while it runs; metrics are raw values by logged key.

    Trials are found by their identifiers before they are created, so a retry, a restore and a resumed sweep continue
    what is there. Non-finite metrics are the caller's to refuse.
    """

    def open_trial(self, spec: TrialSpec, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Find or create a trial and set it running; returns its identifier here."""

    def log_epoch(
        self,
        trial_id: str,
        epoch: int,
        metrics: TrialMetrics,
        *,
        stage: str = "",
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Add an epoch to the trial's history; an epoch that is already there stays as it is.

        Args:
            stage: of an earlier stage's epoch, which is kept apart: the history is the last stage's.
            tags: of the trial from now on; recorded with the epoch, or not at all.
        """

    def finish_trial(
        self, trial_id: str, status: TrialStatus, *, metrics: TrialMetrics, reason: str | None = None
    ) -> None:
        """Record the final metrics, and then the status: a trial that is killed in between is still running."""

    def log_text(self, trial_id: str | None, path: str, text: str) -> None:
        """Keep a text as an artifact of a trial, or of the sweep (None)."""

    def log_file(self, trial_id: str | None, file: Path) -> None:
        """Keep a file as an artifact of a trial, or of the sweep (None)."""

    def log_selection(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Record by what configurations were selected; what an earlier selection said of other trials stays.

        Args:
            scores: by trial, `SELECTED_SCORES` of its configuration on dev, in [0, 1] against the others of its method;
                nan where it is no longer scored.
        """

    def trials(self, *, history: bool = False) -> list[TrialRecord]:
        """The sweep's trials, by method, configuration and seed.

        Args:
            history: with the metrics of every epoch (of a store, some requests per trial).
        """

    def finish(self) -> None:
        """Record the sweep as completed."""

    def fail(self, reason: str) -> None:
        """Record the sweep as failed; trials that were running can be continued later."""


class OpenSweep(SweepLog, Protocol):
    """The runs of one sweep in a store; whatever else the store records leaves them alone."""

    @property
    def run_id(self) -> str:
        """The store's own identifier of the sweep."""

    @property
    def page(self) -> str:
        """Where a browser finds the sweep's trials, behind the address of the store's server."""

    def as_of(self, at: float) -> None:
        """What is recorded from now on happened at this time, in seconds since 1970."""

    def has_trials(self, count: int) -> bool:
        """Whether the sweep has so many trials, or more; quick, also for thousands."""


class RunStore(Protocol):
    """Records sweeps, and evaluations and user studies of their models. One process writes a sweep; any number read.

    It keeps no state about an open sweep: `OpenSweep` does.
    """

    def open_sweep(
        self,
        *,
        experiment: str,
        sweep_id: str,
        seeds: Sequence[int],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        at: float | None = None,
    ) -> OpenSweep:
        """Find or create a sweep and set it running.

        Args:
            experiment: the corpus' name.
            seeds: that every configuration has to complete.
            params: the settings, flat; values other than text are written as JSON. Those that a run has already stay.
            tags: `DATA_DIGEST` at least; existing tags are overwritten, and the protocol's in the trials as well.
            at: when a sweep that is created began, in seconds since 1970; None: now.
        """

    def sweeps(self, experiment: str) -> list[SweepRecord]:
        """All sweeps of an experiment with their trials, oldest first; empty where there is no such experiment."""

    def log_evaluation(
        self, evaluation: Evaluation, *, params: Mapping[str, Any], tags: Mapping[str, str], files: Mapping[str, bytes]
    ) -> str:
        """Record an evaluation as a run of the corpus it was made on; the same evaluation again, with the same
        settings, replaces it.

        Args:
            params: flat, as for `open_sweep`.
            files: kept as artifacts, by name.

        Returns:
            The store's own identifier.
        """

    def log_study(
        self, study: StudyRecord, *, params: Mapping[str, Any], tags: Mapping[str, str], files: Mapping[str, bytes]
    ) -> str:
        """Record a user study as a run of its corpus; the same answers to it again replace it.

        The metrics of each judged model are written to its trial as well, where the store knows it.

        Args:
            params: flat, as for `open_sweep`.
            files: kept as artifacts, by name.

        Returns:
            The store's own identifier.
        """

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """The content of an artifact; None where the run has none of this name."""

    def evaluations(self, trained_on: str) -> list[Evaluation]:
        """Evaluations, on any corpus, of models that were trained on this one; oldest first."""

    def describe(self, run_id: str, text: str) -> None:
        """Put Markdown where people look at a run, or a sweep, in place of what stood there."""

    def log_files(self, run_id: str, files: Mapping[str, bytes], folder: str | None = None) -> None:
        """Keep files as artifacts of a run, by name; earlier ones of these names are replaced.

        Raises:
            UserError: where the run's artifacts cannot be written, as in an output that has moved.
        """

    def log_scores(self, run_id: str, scores: Mapping[str, float]) -> None:
        """Write NRG scores, which depend on other runs, by key, e.g. `cnrg`; the latest value counts."""


def sweep_settings(params: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, str]:
    """A sweep's settings as text, from its parameters and tags."""
    settings = {**params, **json.loads(tags.get(GROWN_SETTINGS, "{}"))}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}


def sort_key(record: TrialRecord) -> tuple[str, int, int]:
    """The order of trials in every store; independent of timings."""
    return record.spec.method, record.spec.configuration, record.spec.seed


def resolve_tracking_uri(config: Config) -> str:
    """`tracking.uri`, else MLFLOW_TRACKING_URI, else an SQLite database in the output folder (absolute path).

    Raises:
        UserError: if MLflow would misread the output folder's path.
    """
    given = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    path = str(Path(config.output).absolute())
    if "?" in path or "%" in path:
        raise UserError(
            f"output {path!r}: MLflow misreads a database path with ? or %; choose another --output or tracking.uri"
        )
    return own_database(config)


def own_database(config: Config) -> str:
    """The SQLite database in the output folder, which holds one sweep."""
    return database_uri(Path(config.output).absolute() / DATABASE)


def database_uri(file: Path) -> str:
    """The URI of an SQLite file."""
    return f"{SQLITE}{file}"


def database_file(uri: str) -> Path | None:
    """The absolute path of a URI's SQLite file; None for other URIs."""
    path = uri.removeprefix(SQLITE)
    return Path(path).expanduser().absolute() if uri.startswith(SQLITE) and path else None


def recorded_uri(uri: str | None, output: Path) -> str | None:
    """Where a sweep was recorded; None where that is gone.

    Args:
        output: of the sweep; a database in it comes first, as it may have moved, or be a copy.
    """
    beside = output.absolute() / DATABASE
    file = database_file(uri) if uri else None
    known = uri is not None and (file is None or file.exists())
    if beside.exists() and (not known or (output / SWEEP).is_file()):
        return database_uri(beside)
    return uri if known else None

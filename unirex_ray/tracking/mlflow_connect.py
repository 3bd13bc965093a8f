"""Connecting to MLflow: which URIs are usable, how long an answer may take, and the experiment of a corpus."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from unirex_ray.config.values import without_credentials
from unirex_ray.errors import StoreAwayError, UserError, first_line
from unirex_ray.files import is_locked_elsewhere
from unirex_ray.tracking.relocation import artifact_location, follow_artifacts
from unirex_ray.tracking.store import LOCK, database_file, database_uri

# It prints the traceback of every error that it raises, such as of a locked database, which whoever catches it tells.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

_PROBE_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An MLflow experiment; `corpus` is its name."""

    id: str
    corpus: str


def checked_uri(uri: str) -> str:
    """The URI of an MLflow server as it is, or of an SQLite file with its absolute path.

    Raises:
        UserError: if it is neither, holds credentials, or is a path that MLflow misreads.
    """
    if re.match(r"https?://[^/]", uri):
        try:
            return without_credentials(uri)
        except ValueError as error:
            raise UserError(str(error)) from None
    file = database_file(uri)
    if file is None or "?" in uri or file.name == ":memory:":
        shown = re.sub(r"(//).*@|[?].*", r"\1...", uri)
        raise UserError(
            f"tracking.uri must be sqlite:///FILE, or http:// or https:// of an MLflow server, but got {shown!r}"
            + _remedy(shown)
        )
    if "%" in uri:
        raise UserError(f"MLflow misreads a database path with a percent sign: {uri!r}; choose another tracking.uri")
    return database_uri(file)


def _remedy(uri: str) -> str:
    path = uri.removeprefix("file://")
    if "://" not in path and not path.startswith("sqlite:") and path:
        return f"; MLflow keeps no runs in plain folders: use sqlite:///{Path(path).absolute() / 'mlflow.db'}"
    return ""


def connect(uri: str) -> MlflowClient:
    """A client of a checked URI; creates a database that does not exist.

    Raises:
        StoreAwayError: if nothing usable answers there; within about 10 s.
    """
    file = database_file(uri)
    try:
        return _connect_server(uri) if file is None else _connect_database(uri, file)
    except Exception as error:  # MLflow lets errors of SQLAlchemy, requests and the operating system through
        question = "is an MLflow server running there?" if file is None else "is it a writable MLflow database?"
        raise StoreAwayError(f"cannot use tracking.uri = {uri!r}: {question} ({first_line(error)[:300]})") from error


def _connect_server(uri: str) -> MlflowClient:
    with _short_timeouts():
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def _connect_database(uri: str, file: Path) -> MlflowClient:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not (os.access(file.parent, os.W_OK) and os.access(file if file.exists() else file.parent, os.W_OK)):
        raise PermissionError("it cannot be written: copy its folder to a place where it can")
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA schema_version")  # MLflow itself tries for minutes
    # Several processes that meet a fresh database would all create its tables, and fail.
    with open(file.parent / ".mlflow.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever works there may know it by another path, as containers do, and goes on writing to that one.
        if not is_locked_elsewhere(file.parent / LOCK):
            follow_artifacts(file)
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def leave_retries_to_us() -> None:
    """Who writes a sweep tries again by itself, and tells the user; MLflow would try for minutes without a word."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


@contextmanager
def _short_timeouts() -> Iterator[None]:
    """Fail in seconds: MLflow's own retries take minutes."""
    short = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_PROBE_SECONDS)}
    before = {key: os.environ.get(key) for key in short}
    os.environ.update(short)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def find_or_create_experiment(client: MlflowClient, uri: str, corpus: str) -> Experiment:
    """The experiment of a corpus; artifacts of a new one lie next to its database.

    Raises:
        UserError: if it was deleted.
    """
    file = database_file(uri)
    # Not in the working directory, which of a cluster job is a copy that vanishes.
    location = artifact_location(file, corpus) if file else None
    experiment = client.get_experiment_by_name(corpus)
    if experiment is None:
        try:
            return Experiment(id=str(client.create_experiment(corpus, artifact_location=location)), corpus=corpus)
        except MlflowException:
            # Another sweep on the same corpus may have been faster.
            experiment = client.get_experiment_by_name(corpus)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment {corpus!r} at {uri} is deleted: restore experiment {experiment.experiment_id} "
            "in MLflow, or set another tracking.uri"
        )
    return Experiment(id=str(experiment.experiment_id), corpus=corpus)

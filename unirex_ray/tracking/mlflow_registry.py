"""MLflow's model registry: a folder that MLflow loads, kept with the run that trained it, as a version of a name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from unirex_ray.errors import UserError, first_line
from unirex_ray.tracking.mlflow_connect import connect

_LOGGED = "rationale-model"
_LONGEST_NAME, _LONGEST_DESCRIPTION = 256, 5000


def check_registered_name(name: str) -> str:
    """A name for the registry as it is.

    Raises:
        UserError: where an address `models:/NAME/1` could not hold it.
    """
    if not re.fullmatch(r"\w[\w.-]*", name) or len(name) > _LONGEST_NAME:
        raise UserError(
            f"a registered model's name must hold up to {_LONGEST_NAME} letters, digits, '_', '-' and '.', and not "
            f"begin with '-' or '.', but got --register={name[:300]!r}"
        )
    return name


def register_version(
    uri: str, run_id: str, folder: Path, *, name: str, description: str, tags: Mapping[str, str]
) -> int:
    """Keep a folder as a model that a run made, and make it the next version of a registered name, or its first.

    Args:
        uri: of the store, checked.
        folder: with MLflow's `MLmodel` in it.
        description: Markdown; cut to 5000 characters.

    Returns:
        The version's number, from 1.

    Raises:
        UserError: where the store does not answer, or takes no model; files that it took by then are marked as failed.
    """
    client = connect(uri)
    try:
        _create_name(client, name)  # first, as it is the quickest to fail
        model = _logged(client, run_id, folder)
        # MLflow looks an address of the form models:/ID up in its global store, which need not be this one.
        version = client.create_model_version(
            name,
            model.artifact_location,
            run_id,
            tags=dict(tags),
            description=description[:_LONGEST_DESCRIPTION],
            model_id=model.model_id,
        )
    except Exception as error:  # MLflow lets errors of SQLAlchemy, requests and the operating system through
        raise UserError(f"{uri} takes no model ({first_line(error)[:300]})") from error
    with suppress(Exception):  # a link on the page of the run, in a form that MLflow does not promise
        link = json.dumps([{"name": name, "version": version.version}])
        client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: link})
    return int(version.version)


def _logged(client: MlflowClient, run_id: str, folder: Path) -> LoggedModel:
    """A folder as a model of a run: another one each time, so that no version changes afterwards."""
    run = client.get_run(run_id)
    model = client.create_logged_model(run.info.experiment_id, _LOGGED, source_run_id=run_id)
    try:
        files: Any = get_artifact_repository(model.artifact_location, tracking_uri=client.tracking_uri)
        files.log_artifacts(str(folder))
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    except BaseException:
        with suppress(Exception):
            client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
        raise
    return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _create_name(client: MlflowClient, name: str) -> None:
    """Create a registered name that there is not yet."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        # A prompt may have the name as well, to which MLflow adds a model without a word.
        there_already = error.error_code == ErrorCode.Name(RESOURCE_ALREADY_EXISTS)
        if not there_already or not client.search_registered_models(f"name = '{name}'"):
            raise

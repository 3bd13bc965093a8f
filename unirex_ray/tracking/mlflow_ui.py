"""MLflow's pages of a database, for this machine alone."""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn

from unirex_ray.errors import UserError
from unirex_ray.tracking import mlflow_view
from unirex_ray.tracking.mlflow_connect import connect
from unirex_ray.tracking.relocation import ARTIFACTS
from unirex_ray.tracking.store import database_file

_HOST = "127.0.0.1"


def address(port: int) -> str:
    """Where the pages are.

    Raises:
        UserError: if something else is there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise UserError(f"--port {port} is not to be had ({error}): choose another one") from None
    return f"http://{_HOST}:{port}"


def pages(uri: str) -> dict[str, str]:
    """The first page of a database's server, and those of its sweeps by name, behind its address.

    Opens the database: where it has moved, it points to its artifacts from now on.

    Args:
        uri: `sqlite:///FILE`.
    """
    sweeps = {
        key.removeprefix(mlflow_view.TAG): mlflow_view.link(experiment.experiment_id, key.removeprefix(mlflow_view.TAG))
        for experiment in connect(uri).search_experiments()
        for key in experiment.tags
        if key.startswith(mlflow_view.TAG)
    }
    return {"all runs": mlflow_view.HOME, **{f"sweep {name}": page for name, page in sweeps.items()}}


def serve(uri: str, port: int) -> NoReturn:
    """Become the MLflow server of a database, `sqlite:///FILE`."""
    file = database_file(uri)
    assert file is not None
    command = [sys.executable, "-m", "mlflow", "ui", f"--host={_HOST}", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri={uri}", f"--artifacts-destination={file.parent / ARTIFACTS}"]
    sys.stdout.flush()
    # Of its processes for jobs, eight in number, nobody submits any.
    os.execve(command[0], command, {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})

"""MLflow's pages of a database, for this machine alone."""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn

from unirex_ray.errors import UserError
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


def serve(uri: str, port: int) -> NoReturn:
    """Become the MLflow server of a database.

    Args:
        uri: `sqlite:///FILE`.
    """
    connect(uri)  # so that a database that has moved points to its artifacts
    file = database_file(uri)
    assert file is not None
    command = [sys.executable, "-m", "mlflow", "ui", f"--host={_HOST}", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri={uri}", f"--artifacts-destination={file.parent / ARTIFACTS}"]
    sys.stdout.flush()
    # Of its processes for jobs, eight in number, nobody submits any.
    os.execve(command[0], command, {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})

"""An MLflow server that can be stopped and started."""

import signal
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from helpers.processes import Run, free_ports, kill, processes


class Server:
    """`mlflow server` on an SQLite file, reachable from this machine alone."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        (port,) = free_ports(1)
        folder.mkdir()
        self.uri, self.database = f"http://127.0.0.1:{port}", folder / "mlflow.db"
        # Its eight processes for jobs that nobody submits would take the time of the sweeps.
        self._environment = {**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._log = folder / "server"
        self._command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
        self._command += [
            f"--backend-store-uri=sqlite:///{self.database}",
            f"--artifacts-destination={folder / 'mlartifacts'}",
        ]
        self._run: Run | None = None

    def start(self) -> None:
        """Wait until it answers."""
        if self._run is not None and self._run.poll() is None:
            return
        self._run, deadline = Run(self._command, self._environment, self._log), time.monotonic() + 120
        while time.monotonic() < deadline and self._run.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            time.sleep(0.2)
        raise RuntimeError(f"no MLflow server: {self._run.errors()[-500:]}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        if self._run is not None:
            kill(processes(self._run.session), number)

    def stop(self) -> None:
        """Kill it."""
        self.signal(signal.SIGKILL)
        if self._run is not None:
            self._run.wait(10)

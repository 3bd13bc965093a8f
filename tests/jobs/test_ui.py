"""`ui` shows an output in MLflow, wherever the output lies."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError

import pytest
from helpers.job_module import JOBS
from helpers.processes import free_ports

from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialSpec

SPEC = TrialSpec(trial_id="s1-aa-ig-0000-s0", method="aa-ig", configuration=0, seed=0, parameters={})


def run_ui(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(JOBS / "ui.py"), *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def recorded(output: Path) -> str:
    """Records a trial with an artifact; returns its run."""
    store = MlflowStore(f"sqlite:///{output}/mlflow.db")
    sweep = store.open_sweep(experiment="reviews", sweep_id="s1", seeds=(0,), params={}, tags={})
    run_id = sweep.open_trial(SPEC, params={}, tags={})
    sweep.log_text(SPEC.trial_id, "note.txt", "as it was written")
    return run_id


@pytest.mark.slow
def test_a_moved_output_is_shown_with_its_artifacts(tmp_path: Path) -> None:
    run_id = recorded(tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "my output")
    (port,) = free_ports(1)
    ui = run_ui("my output", f"--port={port}", folder=tmp_path)
    try:
        assert ui.stdout is not None
        assert ui.stdout.readline().startswith(f"all runs: http://127.0.0.1:{port}/#/experiments?")
        assert ui.stdout.readline().startswith(f"sweep s1: http://127.0.0.1:{port}/#/experiments/1/runs?")
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and ui.poll() is None:
            with suppress(URLError, ConnectionError):
                get(f"http://127.0.0.1:{port}/health")
                break
            time.sleep(0.2)
        found = json.loads(get(f"http://127.0.0.1:{port}/api/2.0/mlflow/artifacts/list?run_id={run_id}"))
        assert [file["path"] for file in found["files"]] == ["note.txt"]
        assert get(f"http://127.0.0.1:{port}/get-artifact?path=note.txt&run_uuid={run_id}") == "as it was written"
    finally:
        ui.terminate()
        ui.wait(30)
    assert {file.name for file in tmp_path.iterdir()} == {"my output"}


@pytest.mark.slow
def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    recorded(tmp_path / "output")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        _, errors = run_ui(f"--port={port}", folder=tmp_path).communicate(timeout=120)
    assert errors.startswith(f"error: --port {port} is not to be had")

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sweep.json").write_text(json.dumps({"tracking_uri": "http://127.0.0.1:1"}))
    printed, _ = run_ui("other", folder=tmp_path).communicate(timeout=120)
    assert printed == "recorded at an MLflow server: open http://127.0.0.1:1\n"

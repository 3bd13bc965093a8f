"""Two sweeps at the same time, each on a cluster of its own, recorded in one place."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from helpers.python_path import TESTS, with_helpers

from unirex_ray.tracking.journal import JOURNAL, Journal
from unirex_ray.tracking.mlflow_store import MlflowStore

SPACE = {
    "config": {
        "data": {"limit": 20},
        "train": {"epochs": 3},
        "sweep": {"methods": ["aa-ig"], "searcher": "grid", "seeds": [0, 1]},
    },
    "parameters": {"train.learning_rate": {"choice": [1.0e-5, 2.0e-5, 3.0e-5]}},
}


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri=sqlite:///{folder}/server.db", f"--artifacts-destination={folder}/artifacts"]
    with (folder / "server.txt").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert server.poll() is None, (folder / "server.txt").read_text()
            assert time.monotonic() < deadline, (folder / "server.txt").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.long
@pytest.mark.ray
def test_two_sweeps_are_recorded_by_one_server_in_one_database(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE))
    environment = {**os.environ, "PYTHONPATH": with_helpers(), "FAKE_EPOCH_SECONDS": "1.0"}
    outputs = [tmp_path / "one", tmp_path / "two"]
    with mlflow_server(tmp_path) as uri:
        command = [
            sys.executable,
            str(TESTS / "helpers" / "fake_sweep.py"),
            f"--space={space}",
            f"--tracking.uri={uri}",
        ]
        command += ["--sweep.concurrency=1"]
        sweeps = []
        for output in outputs:
            with (tmp_path / f"{output.name}.txt").open("w") as log:
                started = subprocess.Popen([*command, f"--output={output}"], env=environment, stdout=log, stderr=log)
            sweeps.append(started)
        try:
            codes = [started.wait(300) for started in sweeps]
        finally:
            for started in sweeps:
                started.kill()
        assert codes == [0, 0], [(tmp_path / f"{output.name}.txt").read_text() for output in outputs]
        recorded = MlflowStore(uri).sweeps("reviews")
    assert [sweep.status for sweep in recorded] == ["completed"] * 2
    assert [Counter(trial.status for trial in sweep.trials) for sweep in recorded] == [{"completed": 6}] * 2
    assert len({trial.run_id for sweep in recorded for trial in sweep.trials}) == 12
    journals = [Journal(output / JOURNAL).events for output in outputs]
    assert max(events[0]["at"] for events in journals) < min(
        events[-1]["at"] for events in journals
    )  # at the same time
    boards = [(output / "leaderboard.csv").read_text() for output in outputs]
    assert boards[0] == boards[1]

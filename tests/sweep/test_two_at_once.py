"""Two sweeps at the same time, each on a cluster of its own, recorded in one place."""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from helpers.mlflow_server import Server
from helpers.processes import Run, kill, processes
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


@pytest.mark.long
@pytest.mark.ray
def test_two_sweeps_are_recorded_by_one_server_in_one_database(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE))
    environment = {**os.environ, "PYTHONPATH": with_helpers(), "FAKE_EPOCH_SECONDS": "1.0"}
    outputs = [tmp_path / "one", tmp_path / "two"]
    server = Server(tmp_path / "server", os.environ)
    server.start()
    command = [sys.executable, str(TESTS / "helpers" / "fake_sweep.py"), f"--space={space}", "--sweep.concurrency=1"]
    command.append(f"--tracking.uri={server.uri}")
    sweeps = [Run([*command, f"--output={output}"], environment, tmp_path / f"{output.name}-log") for output in outputs]
    try:
        assert [sweep.wait() for sweep in sweeps] == [0, 0], [sweep.errors() for sweep in sweeps]
        recorded = MlflowStore(server.uri).sweeps("reviews")
    finally:
        for sweep in sweeps:
            kill(processes(sweep.session))
        server.stop()
    assert [sweep.status for sweep in recorded] == ["completed"] * 2
    assert [Counter(trial.status for trial in sweep.trials) for sweep in recorded] == [{"completed": 6}] * 2
    assert len({trial.run_id for sweep in recorded for trial in sweep.trials}) == 12
    journals = [Journal(output / JOURNAL).events for output in outputs]
    begun, ended = (max(events[0]["at"] for events in journals), min(events[-1]["at"] for events in journals))
    assert begun < ended  # at the same time
    boards = [(output / "leaderboard.csv").read_text() for output in outputs]
    assert boards[0] == boards[1]

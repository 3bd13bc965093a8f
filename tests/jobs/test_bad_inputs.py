"""What users get wrong (`helpers/bad_inputs.py`) ends every job in one line and exit code 2, before any work."""

import json
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from helpers.bad_corpora import Files
from helpers.bad_inputs import ROWS
from helpers.bad_outputs import SWEPT
from helpers.exports import make
from helpers.job_module import job_module
from helpers.recorded_trials import TRIALS, raw, record

from unirex_ray.config import Config, to_yaml
from unirex_ray.distributed.cluster import connect
from unirex_ray.errors import exit_on_user_error
from unirex_ray.inference.export import PROVENANCE, SETTINGS
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.models.store import save_model
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.tracking.relocation import follow_artifacts
from unirex_ray.tracking.store import DATA_DIGEST

Refused = Callable[[str, Files], str]


@pytest.fixture(scope="module")
def prepared(encoders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `model` and `swept` lie; in the latter, a sweep on movies that has not finished is recorded as well."""
    folder = tmp_path_factory.mktemp("prepared")
    made = make(encoders["bert"])
    save_model(folder / "model", made.model, made.tokenizer, made.config, replace(made.card, segments=1))
    (folder / "model" / SETTINGS).write_text(to_yaml(Config()))
    (folder / "model" / PROVENANCE).write_text(json.dumps({"trial_id": "t", "data_digest": "abc1"}))
    (folder / "swept").mkdir()
    store = MlflowStore(f"sqlite:///{folder}/swept/mlflow.db")
    record(store, TRIALS)
    opened = store.open_sweep(experiment="movies", sweep_id="s2", seeds=(0,), params={}, tags={DATA_DIGEST: "abc1"})
    for number, rate in enumerate((1e-5, 2e-5)):
        searched = {"train.learning_rate": rate}
        spec = TrialSpec(trial_id=f"t{number}", method="sgt", configuration=number, seed=0, parameters=searched)
        opened.open_trial(spec, params={}, tags={DATA_DIGEST: "abc1"})
        opened.finish_trial(spec.trial_id, "completed", metrics=TrialMetrics.from_flat(raw(0.1, 0.1 * number)))
    (folder / "swept" / "sweep.json").write_text(json.dumps({**SWEPT, "status": "running", "tracking_uri": store.uri}))
    return folder


@pytest.fixture
def local_ray() -> Iterator[None]:
    """A cluster for one test: another file's workers need another PYTHONPATH."""
    connect()
    yield
    ray.shutdown()


@pytest.fixture
def refused(
    prepared: Path,
    encoders: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Refused:
    """Runs a row, without a network and a GPU, where to begin work is an error; returns the line."""

    def no_network(*arguments: object, **options: object) -> None:
        raise socket.gaierror("no network")

    def work(*arguments: object, **options: object) -> None:
        raise AssertionError("work has begun")

    monkeypatch.chdir(tmp_path)
    for variable in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between a library's tries to reach the hub
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(ray, "init", work)
    monkeypatch.setattr("unirex_ray.training.trial.stages_from", work)

    def run(command: str, files: Files) -> str:
        for name in ("model", "swept"):
            if f"={name}" in command:
                shutil.copytree(prepared / name, tmp_path / name)
                if (tmp_path / name / "mlflow.db").exists():
                    follow_artifacts(tmp_path / name / "mlflow.db")  # else whatever opens the copy does
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                (tmp_path / name).unlink()
            else:
                (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        before = contents(tmp_path)
        job, *arguments = shlex.split(command.replace("$BERT", encoders["bert"]))
        monkeypatch.setattr(sys, "argv", [f"{job}.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            exit_on_user_error(job_module(job).main)
        line = capsys.readouterr().err
        assert ended.value.code == 2
        assert line.startswith("error: ")
        assert line.count("\n") == 1
        assert "secret" not in line
        assert contents(tmp_path) == before
        return line

    return run


def contents(folder: Path) -> dict[Path, bytes]:
    """Of every file but locks, which name their holder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.suffix != ".lock"}


@pytest.mark.parametrize(("command", "says", "files"), ROWS)
def test_one_line_and_no_work(command: str, says: str, files: Files, refused: Refused) -> None:
    assert says in refused(command, files)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9", "tracking.uri must hold no user and no password"),
        ("RAY_ADDRESS", "127.0.0.1:9", "no Ray cluster at RAY_ADDRESS='127.0.0.1:9'"),
    ],
)
def test_a_wrong_environment(
    variable: str, value: str, says: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert says in refused("sweep --model.encoder=$BERT", {})


@pytest.mark.ray
@pytest.mark.parametrize("job", ["sweep", "train"])
def test_hardware_that_a_cluster_lacks(local_ray: None, refused: Refused, job: str) -> None:
    line = refused(f"{job} --data.limit=16 --train.workers=99 --model.encoder=$BERT", {})
    assert "99 workers x 1 CPU = 99 CPUs per trial, but the cluster has" in line

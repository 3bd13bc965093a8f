"""What only MLflow shows: its own status, nesting, artifacts, and bad addresses."""

import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from unirex_ray.config import Config
from unirex_ray.errors import StoreAwayError, UserError
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.mlflow_sweep import MlflowSweep
from unirex_ray.tracking.records import SAME_LABELS, Evaluation, JudgedModel, StudyRecord, TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST, database_file, own_database, resolve_tracking_uri


def spec(index: int = 0) -> TrialSpec:
    return TrialSpec(
        trial_id=f"s1-aa-ig-{index:04d}-s0", method="aa-ig", configuration=index, seed=0, parameters={"train.epochs": 2}
    )


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('a folder')}/mlflow.db"


@pytest.fixture
def store(uri: str) -> MlflowStore:
    return MlflowStore(uri)


@pytest.fixture
def sweep(store: MlflowStore, request: pytest.FixtureRequest) -> MlflowSweep:
    return store.open_sweep(
        experiment=request.node.name,
        sweep_id="s1",
        seeds=(0,),
        params={"long": "x" * 7000, "nothing": None, "rungs": [1, 2], "gpu": False},
        tags={DATA_DIGEST: "abc"},
    )


def runs(uri: str, experiment: str) -> dict[str, Run]:
    client = MlflowClient(uri)
    known = client.get_experiment_by_name(experiment)
    assert known is not None
    return {run.info.run_name: run for run in client.search_runs([known.experiment_id])}


def test_layout(sweep: MlflowSweep, uri: str, request: pytest.FixtureRequest) -> None:
    sweep.open_trial(spec(), params={"train.epochs": 2}, tags={DATA_DIGEST: "abc", "git.version": "v1"})
    sweep.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"auprc": 60.0}))
    sweep.log_epoch(spec().trial_id, 2, TrialMetrics(dev={"auprc": 50.0}))
    sweep.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 60.0}))
    by_name = runs(uri, request.node.name)
    parent, child = by_name["s1"], by_name["aa-ig-0000-s0"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.metrics == {"epoch/dev/auprc": 50.0, "dev/auprc": 60.0}
    assert [m.step for m in MlflowClient(uri).get_metric_history(child.info.run_id, "epoch/dev/auprc")] == [1, 2]
    assert child.data.params == {"train.epochs": "2"}
    tags = {"method": "aa-ig", "configuration": "0", "seed": "0", "trial_id": spec().trial_id, "git.version": "v1"}
    assert tags.items() <= child.data.tags.items()
    assert child.inputs is not None
    assert child.inputs.dataset_inputs[0].dataset.digest == "abc"
    assert len(parent.data.params.pop("long")) == 6000
    assert parent.data.params == {"nothing": "null", "rungs": "[1, 2]", "gpu": "false"}


@pytest.mark.parametrize(("status", "own"), [("completed", "FINISHED"), ("stopped", "KILLED"), ("failed", "FAILED")])
def test_run_status(sweep: MlflowSweep, uri: str, request: pytest.FixtureRequest, status: str, own: str) -> None:
    sweep.open_trial(spec(), params={}, tags={})
    assert runs(uri, request.node.name)["aa-ig-0000-s0"].info.status == "RUNNING"
    sweep.finish_trial(spec().trial_id, status, metrics=TrialMetrics())  # type: ignore[arg-type]
    assert runs(uri, request.node.name)["aa-ig-0000-s0"].info.status == own


def test_a_run_whose_driver_died_between_tag_and_status_is_closed(
    sweep: MlflowSweep, uri: str, request: pytest.FixtureRequest
) -> None:
    run_id = sweep.open_trial(spec(), params={}, tags={})
    sweep.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 1.0}))
    MlflowClient(uri).update_run(run_id, status="RUNNING")
    MlflowStore(uri).open_sweep(experiment=request.node.name, sweep_id="s1", seeds=(0,), params={}, tags={})
    assert runs(uri, request.node.name)["aa-ig-0000-s0"].info.status == "FINISHED"


def test_a_failed_sweep_leaves_nothing_running_and_can_go_on(
    sweep: MlflowSweep, uri: str, request: pytest.FixtureRequest
) -> None:
    sweep.open_trial(spec(), params={}, tags={})
    sweep.fail("interrupted")
    assert {run.info.status for run in runs(uri, request.node.name).values()} == {"KILLED", "FAILED"}
    again = MlflowStore(uri).open_sweep(experiment=request.node.name, sweep_id="s1", seeds=(0,), params={}, tags={})
    assert [record.status for record in again.trials()] == ["running"]
    again.open_trial(spec(), params={}, tags={})
    again.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics())
    again.finish()
    by_name = runs(uri, request.node.name)
    assert {run.info.status for run in by_name.values()} == {"FINISHED"}
    assert len(by_name) == 2


def test_what_is_recorded_later_has_the_time_at_which_it_happened(
    store: MlflowStore, uri: str, request: pytest.FixtureRequest
) -> None:
    begun, ended = 1_600_000_000.0, 1_600_003_600.0
    opened = store.open_sweep(experiment=request.node.name, sweep_id="s9", seeds=(0,), params={}, tags={}, at=begun)
    opened.as_of(begun + 1)
    opened.open_trial(spec(), params={}, tags={})
    opened.as_of(ended)
    opened.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"auprc": 0.5}))
    opened.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics())
    opened.finish()
    times = {(run.info.start_time, run.info.end_time) for run in runs(uri, request.node.name).values()}
    assert times == {(1_600_000_000_000, 1_600_003_600_000), (1_600_000_001_000, 1_600_003_600_000)}


def test_whoever_opens_a_sweep_again_goes_on_with_its_trials_without_opening_them(
    store: MlflowStore, uri: str, request: pytest.FixtureRequest
) -> None:
    """As a delivery does after each failure of the store."""

    def opened() -> MlflowSweep:
        options = {"experiment": request.node.name, "sweep_id": "s9", "seeds": (0,), "params": {}}
        return store.open_sweep(**options, tags={"protocol": "p2"})  # type: ignore[arg-type]

    first = opened()
    first.open_trial(spec(), params={}, tags={"protocol": "p1"})
    first.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"auprc": 0.5}))
    second = opened()
    second.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"auprc": 0.9}))  # it is there already
    second.log_epoch(spec().trial_id, 2, TrialMetrics(dev={"auprc": 0.7}), tags={"rung.2": "goes on"})
    assert [opened().has_trials(count) for count in (0, 1, 2)] == [True, True, False]
    opened().log_text(spec().trial_id, "a.txt", "a")
    opened().finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 0.8}))
    (record,) = opened().trials(history=True)
    assert {epoch: metrics.dev["auprc"] for epoch, metrics in record.history.items()} == {1: 0.5, 2: 0.7}
    assert (record.status, record.metrics.dev, record.tags["rung.2"]) == ("completed", {"auprc": 0.8}, "goes on")
    assert record.tags["protocol"] == "p2"  # the sweep's
    assert len(runs(uri, request.node.name)) == 2
    with pytest.raises(UserError, match="the run of trial s9-gone is gone from MLflow"):
        opened().finish_trial("s9-gone", "completed", metrics=TrialMetrics())


@pytest.mark.parametrize("always", ["task_score", "loss"])
def test_an_epoch_that_measured_less_than_others_is_logged_once_as_well(
    store: MlflowStore, sweep: MlflowSweep, uri: str, request: pytest.FixtureRequest, always: str
) -> None:
    run_id = sweep.open_trial(spec(), params={}, tags={})
    epochs = [{always: 50.0}, {always: 60.0, "auprc": 1.0, "token_f1": 2.0, "accuracy": 3.0, "macro_f1": 4.0}]
    for number, dev in enumerate(epochs, start=1):
        sweep.log_epoch(spec().trial_id, number, TrialMetrics(dev=dev))
    again = store.open_sweep(experiment=request.node.name, sweep_id="s1", seeds=(0,), params={}, tags={})
    again.as_of(time.time() + 60)  # else MLflow itself would drop what is equal
    for number, dev in enumerate(epochs, start=1):
        again.log_epoch(spec().trial_id, number, TrialMetrics(dev=dev))
    assert [m.step for m in MlflowClient(uri).get_metric_history(run_id, f"epoch/dev/{always}")] == [1, 2]


def test_final_metrics_that_are_there_are_not_logged_again(
    store: MlflowStore, sweep: MlflowSweep, uri: str, request: pytest.FixtureRequest
) -> None:
    run_id = sweep.open_trial(spec(), params={}, tags={})
    sweep.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 1.0, "loss": 0.1}))
    again = store.open_sweep(experiment=request.node.name, sweep_id="s1", seeds=(0,), params={}, tags={})
    again.as_of(time.time() + 60)  # as from another journal: MLflow itself drops what has the same time
    again.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 1.0, "loss": 0.2}))
    history = MlflowClient(uri).get_metric_history
    assert [m.value for m in history(run_id, "dev/auprc")] == [1.0]
    assert [m.value for m in history(run_id, "dev/loss")] == [0.1, 0.2]


def test_artifacts_lie_next_to_the_database(
    sweep: MlflowSweep, uri: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_id = sweep.open_trial(spec(), params={}, tags={})
    sweep.log_text(spec().trial_id, "config.yaml", "a: 1\n")
    (tmp_path / "cnrg.png").write_bytes(b"png")
    sweep.log_file(None, tmp_path / "cnrg.png")
    root = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts" / request.node.name
    assert (root / run_id / "artifacts" / "config.yaml").read_text() == "a: 1\n"
    assert len(list(root.glob("*/artifacts/cnrg.png"))) == 1
    assert not (tmp_path / "mlruns").exists()


def test_many_trials_come_back_page_by_page(
    store: MlflowStore, sweep: MlflowSweep, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr("unirex_ray.tracking.mlflow_runs._PAGE", 2)
    for index in range(5):
        sweep.open_trial(spec(index), params={}, tags={})
    assert [record.spec.configuration for record in sweep.trials()] == [0, 1, 2, 3, 4]
    assert len(store.sweeps(request.node.name)[0].trials) == 5


def test_evaluations_come_back_from_more_experiments_than_a_page_holds(
    store: MlflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unirex_ray.tracking.mlflow_runs._PAGE", 2)
    corpora = [f"corpus {number}" for number in range(5)]
    for corpus in corpora:
        store.log_evaluation(
            Evaluation(
                trial_id="s1-aa-ig-0000-s0",
                method="aa-ig",
                seed=0,
                trained_on="paged",
                trained_digest="abc",
                corpus=corpus,
                digest="def",
                split="test",
                labels=SAME_LABELS,
                metrics=TrialMetrics(),
            ),
            params={},
            tags={},
            files={},
        )
    assert [evaluation.corpus for evaluation in store.evaluations("paged")] == corpora


@pytest.mark.slow
def test_several_processes_meet_a_fresh_database(tmp_path: Path) -> None:
    script = f"""
import os
from unirex_ray.tracking.mlflow_store import MlflowStore
children = []
for _ in range(2):
    children.append(os.fork())
    if not children[-1]:
        MlflowStore("sqlite:///{tmp_path}/mlflow.db")
        os._exit(0)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("bad", ["runs", "./runs", "/tmp/runs", "file:///tmp/runs"])
def test_file_stores_are_refused_with_the_remedy(bad: str) -> None:
    with pytest.raises(UserError, match=r"use sqlite:////.*/runs/mlflow\.db") as caught:
        MlflowStore(bad)
    assert repr(bad) in str(caught.value)


@pytest.mark.parametrize(
    "given", ["postgresql://me:secret@host/db", "HTTP://me:secret@host", "HTTPS://h/?token=secret", "file://secret@h/x"]
)
def test_a_secret_in_an_address_is_refused_and_not_shown(given: str) -> None:
    with pytest.raises(UserError, match=r"tracking\.uri must be sqlite:///FILE") as caught:
        MlflowStore(given)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("bad", ["", "sqlite://", "sqlite:///:memory:", "ftp://host", "postgresql://u@h/db", "http://"])
def test_other_addresses_are_refused(bad: str) -> None:
    with pytest.raises(UserError, match=r"tracking\.uri must be sqlite:///FILE"):
        MlflowStore(bad)


def test_an_unreachable_server_is_one_line_in_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"'http://127.0.0.1:{port}'.*is an MLflow server running there\?") as caught:
        MlflowStore(f"http://127.0.0.1:{port}")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 20


@pytest.mark.slow
def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unirex_ray.tracking.mlflow_connect._PROBE_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(UserError, match="is an MLflow server running there"):
            MlflowStore(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - start < 20


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database" * 100)
    with pytest.raises(UserError, match="writable MLflow database"):
        MlflowStore(f"sqlite:///{tmp_path}/notes.txt")
    with pytest.raises(UserError, match="writable MLflow database"):
        MlflowStore(f"sqlite:///{tmp_path}/notes.txt/mlflow.db")


def test_a_database_that_fails_prints_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As on a full disk: whoever delivers says it in a line."""
    file = tmp_path / "mlflow.db"
    sweep = MlflowStore(f"sqlite:///{file}").open_sweep(experiment="e", sweep_id="s", seeds=(0,), params={}, tags={})
    with closing(sqlite3.connect(file)) as database:
        database.execute("drop table runs")
    with pytest.raises(MlflowException, match="no such table"):
        sweep.open_trial(spec(), params={}, tags={})
    assert "Traceback" not in capsys.readouterr().err


def test_a_deleted_experiment_names_the_remedy(store: MlflowStore, uri: str, request: pytest.FixtureRequest) -> None:
    client = MlflowClient(uri)
    deleted = client.create_experiment(request.node.name)
    client.delete_experiment(deleted)
    with pytest.raises(UserError, match=rf"is deleted: restore experiment {deleted} in MLflow"):
        store.open_sweep(experiment=request.node.name, sweep_id="s1", seeds=(0,), params={}, tags={})


def test_tracking_uri_comes_from_the_config_then_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_tracking_uri(Config(output="out")) == f"sqlite:///{tmp_path}/out/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert resolve_tracking_uri(Config()) == "http://server"
    assert resolve_tracking_uri(Config.model_validate({"tracking": {"uri": "sqlite:////x.db"}})) == "sqlite:////x.db"


def test_an_epoch_of_a_stage_is_logged_once_whoever_asks_again(
    sweep: MlflowSweep, uri: str, request: pytest.FixtureRequest
) -> None:
    run_id = sweep.open_trial(spec(), params={}, tags={})
    sweep.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"loss": 1.0}), stage="task-model")
    again = MlflowStore(uri).open_sweep(
        experiment=request.node.name, sweep_id="s1", seeds=(0,), params={}, tags={DATA_DIGEST: "abc"}
    )
    assert again.open_trial(spec(), params={}, tags={}) == run_id
    again.log_epoch(spec().trial_id, 1, TrialMetrics(dev={"loss": 2.0}), stage="task-model")
    again.log_epoch(
        spec().trial_id, 1, TrialMetrics(dev={"loss": 3.0})
    )  # the last stage counts its epochs from 1 as well
    client = MlflowClient(uri)
    assert [m.value for m in client.get_metric_history(run_id, "stage/task-model/dev/loss")] == [1.0]
    assert [m.value for m in client.get_metric_history(run_id, "epoch/dev/loss")] == [3.0]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["sp ace", "é#1"])
def test_a_database_lies_in_the_folder_that_is_named(tmp_path: Path, folder: str) -> None:
    config = Config().changed({"output": str(tmp_path / folder)})
    store = MlflowStore(own_database(config))
    sweep = store.open_sweep(experiment="odd", sweep_id="s1", seeds=(0,), params={}, tags={DATA_DIGEST: "abc"})
    sweep.log_text(None, "note.txt", "text")
    assert database_file(own_database(config)) == tmp_path / folder / "mlflow.db"
    assert (tmp_path / folder / "mlflow.db").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {folder}


@pytest.mark.parametrize("folder", ["50% off", "a%20b"])
def test_a_path_that_mlflow_would_misread_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(UserError, match="MLflow misreads a database path with a percent sign"):
        MlflowStore(own_database(Config().changed({"output": str(tmp_path / folder)})))
    assert not list(tmp_path.iterdir())


def test_a_folder_instead_of_a_database_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    began = time.monotonic()
    with pytest.raises(UserError, match="is it a writable MLflow database"):
        MlflowStore(f"sqlite:///{tmp_path}/mlflow.db")
    assert time.monotonic() - began < 30  # MLflow itself tries for minutes


def test_a_database_that_cannot_be_written_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    MlflowStore(uri)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "mlflow.db")
    with pytest.raises(StoreAwayError, match="it cannot be written: copy its folder to a place where it can"):
        MlflowStore(uri)


def judged(experiment: str, answers: str = "1" * 16, *, digest: str = "abc", simulated: bool = False) -> StudyRecord:
    return StudyRecord(
        study="0123456789abcdef",
        answers=answers,
        simulated=simulated,
        corpus=experiment,
        digest="def",
        metrics={"study/accuracy/aa-ig": 80.0, "study/kappa/label": 0.25},
        models=(
            JudgedModel(
                trial_id=spec().trial_id,
                trained_on=experiment,
                trained_digest=digest,
                metrics={"study/accuracy": 80.0},
            ),
        ),
    )


def test_a_study_is_one_run_beside_its_models(
    store: MlflowStore, sweep: MlflowSweep, uri: str, request: pytest.FixtureRequest
) -> None:
    sweep.open_trial(spec(), params={}, tags={DATA_DIGEST: "abc"})
    sweep.finish_trial(spec().trial_id, "completed", metrics=TrialMetrics(dev={"auprc": 60.0}))
    name = request.node.name
    first = store.log_study(judged(name), params={"raters": 2}, tags={"git.version": "v1"}, files={"a.md": b"a"})
    again = store.log_study(judged(name), params={"raters": 2}, tags={}, files={})
    other = store.log_study(judged(name, "2" * 16, simulated=True), params={}, tags={}, files={})
    assert len({first, again, other}) == 3
    by_name = runs(uri, name)
    assert set(by_name) == {"s1", "aa-ig-0000-s0", "study 01234567", "simulated study 01234567"}
    run, trial = by_name["study 01234567"], by_name["aa-ig-0000-s0"]
    assert (run.info.run_id, run.info.status) == (again, "FINISHED")
    assert run.data.metrics == {"study/accuracy/aa-ig": 80.0, "study/kappa/label": 0.25}
    assert run.data.params == {"raters": "2"}
    tags = {"study": "0123456789abcdef", "study.simulated": "false", "study.trials": f'["{spec().trial_id}"]'}
    assert tags.items() <= run.data.tags.items()
    assert by_name["simulated study 01234567"].data.tags["study.simulated"] == "true"
    assert run.inputs is not None
    assert (run.inputs.dataset_inputs[0].dataset.digest, run.inputs.dataset_inputs[0].tags[0].value) == (
        "def",
        "evaluation",
    )
    assert trial.data.metrics == {"dev/auprc": 60.0, "study/accuracy": 80.0}
    assert trial.data.tags["study.metrics"].startswith("study 0123456789abcdef, answers ")
    assert trial.info.status == "FINISHED"


def test_a_trial_of_the_same_name_on_other_data_is_left_alone(
    store: MlflowStore, sweep: MlflowSweep, uri: str, request: pytest.FixtureRequest
) -> None:
    sweep.open_trial(spec(), params={}, tags={DATA_DIGEST: "abc"})
    store.log_study(judged(request.node.name, digest="other"), params={}, tags={}, files={})
    assert runs(uri, request.node.name)["aa-ig-0000-s0"].data.metrics == {}

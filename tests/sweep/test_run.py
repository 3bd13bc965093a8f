"""Sweeps on a real local cluster, with a train function that only pretends."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import yaml
from helpers import fake_trainer
from helpers.python_path import TESTS, with_helpers
from mlflow import MlflowClient

from unirex_ray.analysis.leaderboard import leaderboard
from unirex_ray.analysis.selection import configurations, selectable
from unirex_ray.config import Config, build_config
from unirex_ray.distributed.cluster import connect
from unirex_ray.errors import UserError
from unirex_ray.files import load_yaml
from unirex_ray.methods import get_method
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.report.comparison import leaderboard_table
from unirex_ray.sweep.finish import SweepOutcome
from unirex_ray.sweep.plan import plan_sweep
from unirex_ray.sweep.run import run_sweep
from unirex_ray.sweep.schedule import Schedule, Signal
from unirex_ray.sweep.space import Space, load_space, parse_space
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialRecord
from unirex_ray.tracking.store import resolve_tracking_uri
from unirex_ray.training.checkpoint import LAST

SPACE = {
    "config": {
        "data": {"limit": 20},
        "train": {"epochs": 3},
        "sweep": {"methods": ["aa-ig", "unirex-slm-fp"], "searcher": "grid", "seeds": [0, 1]},
    },
    "parameters": {
        "train.learning_rate": {"choice": [1.0e-5, 2.0e-5, 3.0e-5], "when": {"method": ["aa-ig"]}},
        "loss.comp_margin": {"choice": [1, 66, 13, 99], "when": {"method": ["unirex-slm-fp"]}},
    },
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", with_helpers())
        connect()
        yield
        ray.shutdown()


def sweep(tree: dict, output: Path, resume: bool = False, **overrides: object) -> tuple[SweepOutcome, Config]:
    space = parse_space(tree, "test")
    config = build_config(space.presets, {"output": str(output)}).changed(overrides)
    return run_sweep(config, space, resume=resume, train_function=fake_trainer.train_fake), config


def records(output: Path, corpus: str = "reviews") -> dict[tuple[str, int, int], TrialRecord]:
    (recorded,) = MlflowStore(resolve_tracking_uri(Config(output=str(output)))).sweeps(corpus)
    assert recorded.status == "completed"
    return {(r.spec.method, r.spec.configuration, r.spec.seed): r for r in recorded.trials}


@pytest.mark.ray
def test_failures_are_recorded_and_the_sweep_goes_on(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome, config = sweep(SPACE, tmp_path, **{"sweep.max_failures": 1})
    trials = records(tmp_path)
    assert len(trials) == 2 * (3 + 4)
    reasons = {(key[1], r.reason) for key, r in trials.items() if r.status == "failed"}
    assert reasons == {
        (1, "TrainingError: train/task became nan in epoch 1, step 1; lower train.learning_rate"),
        (2, "dev/auprc is nan"),
    }
    assert Counter(r.status for r in trials.values()) == {"completed": 10, "failed": 4}
    for (method, _, seed), record in trials.items():
        if record.status == "completed":
            ran = config.changed({**record.spec.parameters, "method": method, "train.seed": seed})
            ran = get_method(method).resolve(ran)
            expected = fake_trainer.fake_metrics(ran, "dev", 3) | fake_trainer.fake_metrics(ran, "test", 3)
            assert {k: v for k, v in record.metrics.flat().items() if not k.startswith("time/")} == pytest.approx(
                expected
            )

    # best_config.yaml is a configuration tree that runs the best trial again
    assert outcome.best is not None
    assert build_config(load_yaml(tmp_path / "best_config.yaml")) == outcome.best
    best = next(row.configuration for row in outcome.rows if row.best)
    assert (outcome.best.method, outcome.best.train.seed, outcome.best.train.threads) == (best.method, 0, 1)
    again = fake_trainer.fake_metrics(outcome.best, "dev", 3)
    assert best.records[0].metrics.flat()["dev/auprc"] == pytest.approx(again["dev/auprc"])

    # only the weights of the selected configurations and of the Pareto fronts stay
    kept = {path.parent.name.split(outcome.sweep_id)[1] for path in tmp_path.glob("trials/*/best.pt")}
    selected = {(row.configuration.method, row.configuration.index) for row in outcome.rows if row.rank == 1}
    fronts = [c for ranking in outcome.leaderboard.variants.values() for c in selectable(ranking.order)]
    wanted = selected | {(configuration.method, configuration.index) for configuration in fronts}
    assert kept == {f"-{method}-{index:04d}-s{seed}" for method, index in wanted for seed in (0, 1)}
    assert not list(tmp_path.glob("trials/*/last.pt"))

    # actors are reused: fewer processes than trials, though two trials killed theirs
    processes = {line.split()[2] for line in (tmp_path / "events.txt").read_text().splitlines()}
    assert len(processes) <= 2 + 2 + 2
    summary = json.loads((tmp_path / "sweep.json").read_text())
    assert summary["status"] == "completed"
    assert 0 < summary["fixed_s_median_after_first"] < 10
    printed = capsys.readouterr().out
    assert "unirex-slm-fp 0001 s0    failed    TrainingError" in printed
    assert "Trial status" not in printed

    # the folder holds one sweep; resuming a finished one changes nothing
    board = (tmp_path / "leaderboard.csv").read_bytes()
    with pytest.raises(UserError, match="already holds the sweep"):
        sweep(SPACE, tmp_path)
    with pytest.raises(UserError, match=r"train\.epochs was 3, now 4"):
        sweep(SPACE, tmp_path, resume=True, **{"train.epochs": 4})
    sweep(SPACE, tmp_path, resume=True, **{"sweep.max_failures": 1})
    assert (tmp_path / "leaderboard.csv").read_bytes() == board
    assert len(records(tmp_path)) == 14


@pytest.mark.ray
def test_a_lost_trial_is_not_final(cluster: None, tmp_path: Path) -> None:
    tree = {
        "config": SPACE["config"] | {"sweep": {"methods": ["unirex-slm-fp"], "searcher": "grid", "seeds": [0, 1]}},
        "parameters": {"loss.comp_margin": {"choice": [1, 66, 99]}},
    }
    options = {"sweep.max_failures": 0}
    outcome, _ = sweep(tree, tmp_path, **options)
    assert (outcome.status, dict(outcome.statuses)) == ("incomplete", {"completed": 2, "failed": 2, "lost": 2})
    assert outcome.shortfall == (
        "2 of 6 trials failed, and would again: their reasons stand in the leaderboard above and in sweep.json; "
        "2 of 6 trials were lost with their process, node or disk: the same command with --resume runs them again"
    )
    (recorded,) = MlflowStore(resolve_tracking_uri(Config(output=str(tmp_path)))).sweeps("reviews")
    assert (recorded.status, recorded.tags["reason"]) == ("failed", outcome.shortfall)
    assert json.loads((tmp_path / "sweep.json").read_text())["status"] == "incomplete"
    from_where = {path.parent.name[-7:] for path in tmp_path.rglob(LAST)}
    assert {"0002-s0", "0002-s1"} <= from_where

    outcome, _ = sweep(tree, tmp_path, resume=True, **options)
    assert (outcome.status, dict(outcome.statuses)) == ("completed", {"completed": 4, "failed": 2})
    assert {r.reason for r in records(tmp_path).values() if r.status == "completed"} == {None}
    events = [line.split()[:2] for line in (tmp_path / "events.txt").read_text().splitlines()]
    assert Counter(event for event, trial in events if "0002" in trial) == {"start": 4, "end": 2}
    assert Counter(event for event, trial in events if "0000" in trial) == {"start": 2, "end": 2}


@pytest.mark.ray
def test_rungs_stop_trials_and_free_their_resources(cluster: None, tmp_path: Path) -> None:
    tree = {
        "config": {
            "data": {"limit": 20},
            "train": {"epochs": 4},
            "sweep": {
                "methods": ["aa-ig"],
                "searcher": "random",
                "configurations": 6,
                "seeds": [5, 6],
                "rungs": [1, 2],
            },
        },
        "parameters": {"train.learning_rate": {"log_uniform": [1.0e-6, 1.0e-3]}},
    }
    sweep(tree, tmp_path)
    trials = records(tmp_path)
    stopped = [key for key, record in trials.items() if record.status == "stopped"]
    assert len([key for key in trials if key[2] == 5]) == 6
    assert stopped
    assert all(seed == 5 and "rank" in (trials[(m, i, seed)].reason or "") for m, i, seed in stopped)
    for (method, index, seed), record in trials.items():
        if seed == 5:
            assert ((method, index, 6) in trials) == (record.status == "completed")
    ends = [line for line in (tmp_path / "events.txt").read_text().splitlines() if line.startswith("end")]
    assert len(ends) == len(trials) - len(stopped)


@pytest.mark.ray
def test_a_stopped_trial_goes_on_once_it_is_among_the_best(cluster: None, tmp_path: Path) -> None:
    tree = {
        "config": {
            "data": {"limit": 20},
            "train": {"epochs": 2},
            "sweep": {"methods": ["aa-ig"], "searcher": "grid", "seeds": [32], "rungs": [1], "reduction": 2},
        },
        "parameters": {"train.learning_rate": {"choice": [1.0e-5, 2.0e-5, 3.0e-5, 4.0e-5, 5.0e-5]}},
    }
    sweep(tree, tmp_path, **{"sweep.concurrency": 1})  # so that the order of arrival decides who is stopped
    statuses = {index: record.status for (_, index, _), record in records(tmp_path).items()}
    assert statuses == dict.fromkeys((0, 1, 3, 4), "completed") | {2: "stopped"}
    events = (tmp_path / "events.txt").read_text().split("\n")
    assert [line.split()[0] for line in events if "0001-s32" in line] == ["start", "start", "end"]


@pytest.mark.ray
def test_two_workers_share_a_trial(cluster: None, tmp_path: Path) -> None:
    tree = {
        "config": {
            "data": {"limit": 20},
            "train": {"epochs": 2, "workers": 2},
            "sweep": {"methods": ["unirex-slm-fp"], "searcher": "grid", "seeds": [0], "max_failures": 1},
        },
        "parameters": {"loss.comp_margin": {"choice": [66, 99]}},
    }
    sweep(tree, tmp_path)
    trials = records(tmp_path)
    assert [(index, record.status) for (_, index, _), record in trials.items()] == [(0, "failed"), (1, "completed")]
    events = [line.split()[0] for line in (tmp_path / "events.txt").read_text().splitlines() if "0001-s0" in line]
    assert events == ["start", "start", "end"]


KILL_SPACE = {
    "config": {
        "data": {"limit": 20},
        "train": {"epochs": 2},
        "sweep": {"methods": ["aa-ig", "unirex-slm-fp"], "configurations": 3, "seeds": [0, 1]},
    },
    "parameters": {"train.learning_rate": {"log_uniform": [1.0e-6, 1.0e-3]}, "loss.comp_weight": {"uniform": [0, 1]}},
}


def expected_board(space: Space, config: Config) -> str:
    """The leaderboard of an undisturbed sweep, one trial after the other, without a cluster."""
    plan = plan_sweep(config, space)
    schedule = Schedule(plan.extent("x"), plan.searchers)
    while not isinstance(spec := schedule.next(), Signal):
        metrics = fake_trainer.fake_metrics(plan.trial_config(spec), "dev", config.train.epochs)
        schedule.on_complete(spec.trial_id, TrialMetrics.from_flat(metrics))
    return leaderboard_table(leaderboard(configurations(schedule.records, seeds=config.sweep.seeds))).csv()


@pytest.mark.ray
def test_kill_the_driver_and_resume(tmp_path: Path) -> None:
    """With a searcher that learns; `tests/chaos` has the others."""
    space_file, output = tmp_path / "space.yaml", tmp_path / "out"
    space_file.write_text(yaml.safe_dump(KILL_SPACE))
    space = load_space(space_file)
    options = [f"--output={output}", "--sweep.searcher=tpe", "--sweep.concurrency=1"]
    command = [sys.executable, str(TESTS / "helpers" / "fake_sweep.py"), "--space", str(space_file), *options]
    environment = {**os.environ, "PYTHONPATH": with_helpers(), "FAKE_EPOCH_SECONDS": "0.3"}
    events = output / "events.txt"

    driver = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        wanted = random.Random("tpe").randint(2, 6)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and driver.poll() is None:
            if events.exists() and events.read_text().count("end ") >= wanted:
                break
            time.sleep(0.05)
        assert driver.poll() is None, "the sweep ended before it could be killed"
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    finished = {line.split()[1] for line in events.read_text().splitlines() if line.startswith("end")}
    resumed = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, timeout=180)
    assert resumed.returncode == 0, resumed.stderr

    trials = records(output)
    assert Counter(r.status for r in trials.values()) == {"completed": 12}
    starts = Counter(line.split()[1] for line in events.read_text().splitlines() if line.startswith("start"))
    recorded_before = {r.spec.trial_id for r in trials.values() if starts[r.spec.trial_id] == 1}
    # trials that had ended but were not yet on record may run again; at most one for each that runs at once
    assert len(finished - recorded_before) <= 2
    assert sum(starts.values()) <= 12 + 2
    config = build_config(space.presets).changed({"sweep.searcher": "tpe"})
    assert (output / "leaderboard.csv").read_text() == expected_board(space, config)


@pytest.mark.ray
@pytest.mark.parametrize(("end", "code"), [("SIGTERM", 143), ("raylet", 1), ("gcs_server", 1)])
def test_a_sweep_that_is_stopped_leaves_no_run_open_and_says_how_to_go_on(end: str, code: int, tmp_path: Path) -> None:
    space_file, output = tmp_path / "space.yaml", tmp_path / "out"
    space_file.write_text(yaml.safe_dump(KILL_SPACE))
    command = [str(TESTS / "helpers" / "fake_sweep.py"), "--space", str(space_file), f"--output={output}"]
    environment = {**os.environ, "PYTHONPATH": with_helpers(), "FAKE_EPOCH_SECONDS": "0.5"}
    with (tmp_path / "errors.txt").open("w") as errors:
        driver = subprocess.Popen([sys.executable, *command], env=environment, start_new_session=True, stderr=errors)
    # A cluster may go before the first trial, when Tune has not begun to look for signals and losses.
    file, word = (output / "journal.jsonl", "sweep") if end == "gcs_server" else (output / "events.txt", "end ")
    deadline = time.monotonic() + 120
    while not (file.exists() and word in file.read_text()):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if end in ("raylet", "gcs_server"):
        subprocess.run(["pkill", "-KILL", "-P", str(driver.pid), "-x", end], check=True)
    else:
        driver.send_signal(signal.Signals[end])
    assert driver.wait(60) == code
    *_, told, go_on = (tmp_path / "errors.txt").read_text().splitlines()
    why = "stopped, as its Ray cluster does not answer any more" if code == 1 else "stopped by"
    assert told.startswith(why)
    assert told.endswith(" of 12 trials")
    assert go_on == f"go on with: python {shlex.join(command)} --resume"
    (recorded,) = MlflowStore(resolve_tracking_uri(Config(output=str(output)))).sweeps("reviews")
    assert (recorded.status, recorded.tags["reason"]) == ("failed", told)
    client = MlflowClient(f"sqlite:///{output}/mlflow.db")
    assert "RUNNING" not in {client.get_run(trial.run_id).info.status for trial in recorded.trials if trial.run_id}


@pytest.mark.ray
def test_methods_share_the_task_model_and_report_their_stages(
    cluster: None, encoders: dict[str, str], tmp_path: Path
) -> None:
    """With real training, two trials at once."""
    methods = ["aa-grad", "aa-ig", "l2e", "fresh", "unirex-dlm-p", "fresh-p"]
    tree = {
        "config": {
            "data": {"limit": 20, "cache": str(tmp_path / "cache")},
            "model": {"encoder": encoders["bert"]},
            "train": {"epochs": 2, "learning_rate": 1e-3},
            "sweep": {"methods": methods, "searcher": "grid", "seeds": [0]},
        }
    }
    space = parse_space(tree, "shared.yaml")
    outcome = run_sweep(build_config(space.presets, {"output": str(tmp_path)}), space)
    trials = records(tmp_path)
    assert {method: record.status for (method, _, _), record in trials.items()} == dict.fromkeys(methods, "completed")

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    data = {r.tags["method"]: client.get_run(r.run_id).data for r in trials.values()}
    runs = {method: run.metrics for method, run in data.items()}
    assert "loss.plaus_weight" in data["fresh-p"].params
    assert "loss.plaus_weight" not in data["aa-ig"].params
    task_models = [m for m in ("aa-grad", "aa-ig") if "epoch/train/task_loss" in runs[m]]
    task_models += [m for m in ("l2e", "fresh") if "stage/task-model/train/task_loss" in runs[m]]
    assert len(task_models) == 1
    dlm_p = [m for m in ("unirex-dlm-p",) if "epoch/train/plaus_loss" in runs[m]]
    dlm_p += [m for m in ("fresh-p",) if "stage/dlm-p/train/plaus_loss" in runs[m]]
    assert len(dlm_p) == 1

    # What is shared is equal to the last digit.
    score = {m: record.metrics.flat()["test/task_score"] for (m, _, _), record in trials.items()}
    assert score["aa-grad"] == score["aa-ig"] == score["l2e"]
    assert not (tmp_path / "stages").exists()
    assert {configuration.method for configuration in outcome.leaderboard.methods.order} == set(methods)

"""Real Ray Train workers give one process' losses, gradients and metrics."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import ray
import torch
from helpers.fake_trainer import train_fake
from helpers.probe_trainer import BATCH, gradients_file, probe
from helpers.python_path import TESTS, with_helpers
from helpers.tiny import relative_difference, tiny_config, tiny_corpus
from ray import train
from ray.exceptions import RayActorError

from unirex_ray.config import Config, TrainConfig, build_config
from unirex_ray.distributed import train_runtime
from unirex_ray.distributed.cluster import node_resources, place
from unirex_ray.distributed.job import EpochDone, Message, TrainFunction, TrialFailed, TrialJob, TrialLost, TrialWaits
from unirex_ray.distributed.train_runtime import GroupPlan, WorkerGroup
from unirex_ray.metrics.table import (
    BINARY_F1,
    CONVERGENCE_DELTA,
    LOG_ODDS,
    METRICS,
    STANDARD_ERRORS,
    VERDICT,
    TrialMetrics,
)
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.state import TrialResult

ROOT = TESTS.parent


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster that has room for three workers on any machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", with_helpers())
        context = ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            dashboard_host="127.0.0.1",
            _node_ip_address="127.0.0.1",
            log_to_driver=False,
        )
        assert context.address_info["node_ip_address"] == "127.0.0.1"
        yield context.address_info["address"]
        ray.shutdown()


def plan_of(folder: Path, train_function: TrainFunction, **changed: Any) -> GroupPlan:
    usual = {"corpus": [], "worker": {}, "storage": str(folder / "storage"), "max_failures": 0}
    return GroupPlan(train_function=train_function, **{**usual, **changed})


@pytest.mark.ray
@pytest.mark.parametrize(("workers", "gold_percent"), [(2, 100.0), (3, 40.0)])
def test_workers_give_the_losses_gradients_and_metrics_of_one_process(
    cluster: str, encoders: dict[str, str], tmp_path: Path, workers: int, gold_percent: float
) -> None:
    corpus = tiny_corpus((12, 11, 4), gold=0.6)
    scarce = {"data__gold_percent": gold_percent}
    one = tiny_config(encoders["bert"], method="unirex-slm-fp", model__dropout=0.0, **scarce)
    several = tiny_config(
        encoders["bert"], method="unirex-slm-fp", model__dropout=0.0, train__workers=workers, **scarce
    )
    assert len(BATCH) % workers
    alone = LocalRuntime(tmp_path / "alone")
    expected = probe(one, corpus, alone)
    wanted = torch.load(gradients_file(alone, 0), weights_only=True)

    worker = place(several, node_resources()).worker
    assert worker is not None
    job = TrialJob(trial_id=f"probe-{workers}", config=several, folder=str(tmp_path / "group"))
    messages: list[Message] = []
    group = WorkerGroup(plan_of(tmp_path, probe, corpus=[ray.put(corpus)], worker=worker))
    result = group.train(job, on_message=messages.append)
    group.close()
    assert isinstance(result, TrialResult), result
    assert result.epoch == workers  # as many as asked for took part
    done = [message for message in messages if not isinstance(message, TrialWaits)]  # on a busy machine it waits
    assert done == [EpochDone(epoch=1, metrics=result.metrics)]

    measured = {*METRICS, *STANDARD_ERRORS.values(), *VERDICT} - {BINARY_F1, CONVERGENCE_DELTA, LOG_ODDS}
    losses = {f"train/{name}" for name in ("loss", "task_loss", "comp_loss", "suff_loss", "plaus_loss")}
    assert (
        set(result.metrics.flat()) == set(expected.metrics.flat()) == losses | {metric.on("dev") for metric in measured}
    )
    assert all(expected.metrics.flat()[name] > 0 for name in losses)
    assert result.metrics.flat() == pytest.approx(expected.metrics.flat(), rel=1e-5, abs=1e-7)
    assert sum(float(gradient.abs().sum()) > 0 for gradient in wanted.values()) > 30
    for rank in range(workers):
        gradients = torch.load(gradients_file(LocalRuntime(job.folder), rank), weights_only=True)
        assert gradients.keys() == wanted.keys()
        assert relative_difference(list(gradients.values()), list(wanted.values())) < 1e-5


class HealthCheckFailed(Exception):  # noqa: N818 -- as Ray names it
    """Of a module of Ray's."""


HealthCheckFailed.__module__ = "ray.train.v2"


@pytest.mark.parametrize(
    ("failures", "kind", "reason"),
    [
        ({0: RuntimeError("[gloo] closed by peer"), 1: HealthCheckFailed("node died")}, TrialLost, "node died"),
        ({0: RuntimeError("[gloo] closed by peer"), 1: OSError(28, "No space left")}, TrialLost, "No space left"),
        ({0: RuntimeError("shapes differ"), 1: RuntimeError("closed")}, TrialFailed, "shapes differ"),
    ],
)
def test_one_lost_worker_explains_the_errors_of_the_others(failures: dict, kind: type, reason: str) -> None:
    ended = train_runtime._ended_by(train.WorkerGroupError("", failures))
    assert isinstance(ended, kind)
    assert reason in ended.reason


@pytest.mark.ray
@pytest.mark.parametrize(
    ("cause", "max_failures", "tries", "kind"),
    [(RayActorError(), 2, 3, TrialResult), (RayActorError(), 0, 1, TrialLost), (ValueError("no"), 2, 1, TrialFailed)],
)
def test_a_worker_lost_while_its_group_starts_is_replaced(
    cluster: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cause: Exception,
    max_failures: int,
    tries: int,
    kind: type,
) -> None:
    done = TrialResult(metrics=TrialMetrics(), epoch=1, perturbation="dropped", highlights=())
    fits: list[int] = []

    def fit(mailbox: Any) -> None:
        fits.append(len(fits))
        if len(fits) < 3:
            raise train.ControllerError(cause)
        assert ray.get(mailbox.take.remote("job", 0)).trial_id == "lost"
        mailbox.say.remote(done)
        assert ray.get(mailbox.take.remote("answer", 0)) is False  # there is nothing to go on with

    def trainer(*_: Any, train_loop_config: dict[str, Any], **__: Any) -> SimpleNamespace:
        return SimpleNamespace(fit=lambda: fit(train_loop_config["mailbox"]))

    monkeypatch.setattr(train_runtime, "TorchTrainer", trainer)
    job = TrialJob(trial_id="lost", config=Config(), folder=str(tmp_path))
    group = WorkerGroup(plan_of(tmp_path, probe, max_failures=max_failures))
    message = group.train(job, on_message=lambda _: None)
    assert len(fits) == tries
    assert isinstance(message, kind)
    assert message == done or str(cause) in message.reason


def test_a_group_that_was_lost_between_two_trials_costs_no_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(settings: TrainConfig) -> None:
        raise LookupError

    group = WorkerGroup(plan_of(tmp_path, probe, max_failures=0))
    group._mailbox, group._fitting = MagicMock(), Future()
    group._fitting.set_exception(train.TrainingFailedError("lost"))
    monkeypatch.setattr(group, "_start", start)
    with pytest.raises(LookupError):
        group.train(TrialJob(trial_id="next", config=Config(), folder=str(tmp_path)), on_message=lambda _: None)


@pytest.mark.ray
def test_a_trial_whose_workers_find_no_place_says_what_it_waits_for(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_runtime, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(train_runtime, "_END_SECONDS", 0.1)
    heard: list[Message] = []

    def stop(message: Message) -> None:
        heard.append(message)
        raise SystemExit

    group = WorkerGroup(plan_of(tmp_path, train_fake, worker={"CPU": 99.0}, selector={"ray.io/node-id": "!head"}))
    job = TrialJob(trial_id="waits", config=build_config({"train": {"workers": 2}}), folder=str(tmp_path))
    with pytest.raises(SystemExit):
        group.train(job, on_message=stop)
    (waits,) = heard
    assert isinstance(waits, TrialWaits)
    assert waits.reason == (
        "for 2 places beside the head with 99 CPU to spare; the cluster's nodes have 4 CPU free in all"
    )
    assert group._mailbox is None  # workers that come later find no trial


@pytest.mark.ray
def test_a_group_stays_for_the_next_trial_also_when_the_sweep_stopped_the_one_before(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build_config({"train": {"workers": 2, "epochs": 3}, "data": {"limit": 20}})
    worker = place(config, node_resources()).worker
    assert worker is not None
    corpus = [ray.put(tiny_corpus((4, 4, 4)))]
    group = WorkerGroup(plan_of(tmp_path, train_fake, corpus=corpus, worker=worker))
    starts: list[str] = []
    start = group._start
    monkeypatch.setattr(group, "_start", lambda settings: (starts.append("start"), start(settings)))

    def job(name: str, margin: float = 1.0) -> TrialJob:
        changed = config.changed({"loss.comp_margin": margin})
        return TrialJob(trial_id=name, config=changed, folder=str(tmp_path / name / name))

    seen: list[int] = []

    def see(message: Message) -> None:
        if not isinstance(message, TrialWaits):  # on a busy machine it waits
            seen.append(message.epoch)

    def stop(message: Message) -> None:
        see(message)
        if seen:
            raise SystemExit  # as Tune does in a trial's thread

    with pytest.raises(SystemExit):
        group.train(job("stopped"), on_message=stop)
    assert seen == [1]
    failed = group.train(job("failed", margin=66), on_message=see)
    assert isinstance(failed, TrialFailed)
    assert "became nan in epoch 1" in failed.reason
    assert seen == [1]
    result = group.train(job("completed"), on_message=see)
    assert isinstance(result, TrialResult)
    assert seen == [1, 1, 2, 3]
    assert starts == ["start"]
    events = [path.read_text() for path in sorted(tmp_path.rglob("events.txt"))]
    assert sum(text.count("end") for text in events) == 1  # the stopped one did not go on
    group.close()


@pytest.mark.ray
def test_the_training_job_prints_the_same_with_two_workers(cluster: str, tmp_path: Path) -> None:
    number = re.compile(r"-?\d+(?:\.\d+)?(?:e-\d+)?")

    def run(workers: int) -> tuple[str, dict[str, float]]:
        output = tmp_path / str(workers)
        command = [sys.executable, "jobs/train.py", f"--output={output}", f"--data.cache={tmp_path / 'cache'}"]
        command += ["--data.limit=15", "--model.layers=1", "--model.dropout=0", f"--train.workers={workers}"]
        command += [
            "--train.precision=fp32",
            "--train.batch_size=5",
            "--train.epochs=2",
            "--train.threads=1",
            "--train.learning_rate=1e-3",
        ]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "RAY_ADDRESS": cluster}, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        metrics = json.loads((output / "metrics.json").read_text())
        printed = "".join(line for line in done.stdout.splitlines(True) if "(raylet)" not in line)
        return printed.partition("written to ")[0], {
            name: value for name, value in metrics.items() if not name.startswith("time/")
        }

    output, expected = run(1)
    output_of_two, metrics = run(2)
    assert metrics == pytest.approx(expected, rel=1e-5, abs=1e-6)
    lines = [line.split()[0] for line in output.splitlines()]
    assert lines == ["encoder", "epoch", "epoch", "dev:", "test:", "best"]
    assert number.sub("#", output_of_two) == number.sub("#", output)
    printed, printed_by_two = ([float(value) for value in number.findall(text)] for text in (output, output_of_two))
    assert printed_by_two == pytest.approx(printed, rel=1.1e-3, abs=1e-6)  # four digits are printed

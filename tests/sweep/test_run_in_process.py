"""A sweep from configuration to leaderboard whose trials run in this process, without Ray and MLflow."""

import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_trainer import highlight
from helpers.memory_store import MemoryStore
from helpers.tiny import tiny_corpus
from rich.console import Console

from unirex_ray.config import Config, build_config
from unirex_ray.distributed.job import EpochDone, TrialJob
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.sweep.driver import Driver
from unirex_ray.sweep.finish import SweepOutcome
from unirex_ray.sweep.run import run_sweep
from unirex_ray.sweep.schedule import Signal
from unirex_ray.sweep.space import parse_space
from unirex_ray.sweep.tune import _sigterm_raises
from unirex_ray.tracking.store import DATA_DIGEST, NRG_WEIGHTS
from unirex_ray.training.state import TrialResult

SPACE = parse_space({"parameters": {"train.learning_rate": {"choice": [1e-5, 2e-5, 3e-5]}}}, "s.yaml")
Fit = Callable[..., None]


def fit(driver: Driver, *_: object, **__: object) -> None:
    """One trial after the other; its metrics follow from its learning rate."""
    while isinstance(job := driver.suggest(), TrialJob):
        Path(job.folder).mkdir(parents=True, exist_ok=True)
        (Path(job.folder) / "best.pt").touch()
        assert job.shared is not None
        Path(job.shared).mkdir(exist_ok=True)
        value = job.config.train.learning_rate * 1e4
        dev = {m.key: value if m.higher_is_better else 1 - value for m in NRG_METRICS}
        metrics = TrialMetrics(dev=dev, test=dev, time={"train_s": 0.0})
        driver.on_message(job.trial_id, EpochDone(epoch=1, metrics=TrialMetrics(dev=dev)))
        result = TrialResult(metrics=metrics, epoch=1, perturbation="dropped", highlights=(highlight(),))
        driver.on_message(job.trial_id, result)
        driver.on_exit(job.trial_id)
    assert job is Signal.DONE


def breaking(error: BaseException) -> Fit:
    """Ends in an error when the first trial runs."""

    def fit_one(driver: Driver, *_: object, **__: object) -> None:
        driver.suggest()
        raise error

    return fit_one


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, encoders: dict[str, str], tmp_path: Path) -> Callable[..., SweepOutcome]:
    monkeypatch.setattr("unirex_ray.sweep.run.load_corpus", lambda _: tiny_corpus())
    monkeypatch.setattr("unirex_ray.sweep.run.connect", lambda: None)
    monkeypatch.setattr("unirex_ray.sweep.run.node_resources", lambda: [{"CPU": 2.0}])

    def run(store: MemoryStore, *, trials: Fit = fit, **options: Any) -> SweepOutcome:
        monkeypatch.setattr("unirex_ray.sweep.run.fit", trials)
        config = build_config(
            {
                "output": str(tmp_path / "out"),
                "data": {"cache": str(tmp_path / "cache")},
                "model": {"encoder": encoders["bert"]},
                "sweep": {"methods": ["aa-ig", "sgt"], "searcher": "grid", "seeds": [0], "nrg_weights": [1, 0, 1]},
            }
        )
        return run_sweep(config, SPACE, open_store=lambda uri: store, **options)

    return run


def the_sweep(store: MemoryStore) -> dict[str, Any]:
    (run,) = [run for run in store.runs.values() if "experiment" in run]
    return run


def statuses(store: MemoryStore) -> list[str]:
    return [record.status for sweep in store.sweeps("tiny") for record in sweep.trials]


def test_a_sweep_from_configuration_to_leaderboard(sweep: Callable[..., SweepOutcome]) -> None:
    store, console = MemoryStore(), Console(record=True, width=200)
    outcome = sweep(store, console=console)
    assert isinstance(outcome.best, Config)
    assert (outcome.best.method, outcome.best.train.learning_rate) == ("aa-ig", 3e-5)
    assert [row.rank for row in outcome.rows] == [1, 2, 3] * 2

    run = the_sweep(store)
    assert (run["tags"]["status"], run["tags"][NRG_WEIGHTS]) == ("completed", "[1.0, 0.0, 1.0]")
    assert run["tags"][DATA_DIGEST] == outcome.digest == tiny_corpus().digest()
    assert run["params"]["space train.learning_rate"] == SPACE.parameters[0].describe()
    assert statuses(store) == ["completed"] * 6
    summary = json.loads((outcome.output / "sweep.json").read_text())
    assert (summary["sweep_id"], summary["concurrency"], len(summary["seconds"])) == (outcome.sweep_id, 2, 6)
    kept = sorted(path.parent.name.removeprefix(outcome.sweep_id) for path in outcome.output.glob("trials/*/best.pt"))
    assert kept == ["-aa-ig-0002-s0", "-sgt-0002-s0"]
    assert not (outcome.output / "stages").exists()

    first, *lines = console.export_text().splitlines()
    assert first == (
        f"sweep {outcome.sweep_id}: configurations: aa-ig 3, sgt 3; seeds: 0; concurrency: 2; trials already ended: 0"
    )
    assert "[0/6] aa-ig 0000 s0            start     learning_rate=1e-05" in lines[0]
    assert "[0/6] aa-ig 0000 s0            epoch 1   Task 0.10  Comp 0.100" in lines[1]
    assert "[6/6] sgt 0002 s0              completed Task 0.30  Comp 0.300  Suff 0.700" in lines[-1]


def test_a_terminal_gets_a_table(sweep: Callable[..., SweepOutcome]) -> None:
    screen = io.StringIO()
    sweep(MemoryStore(), console=Console(file=screen, force_terminal=True, width=120))
    last = screen.getvalue().rpartition("Method")[2].split()
    for method in ("aa-ig", "sgt"):
        assert last[last.index(method) + 1 :][:3] == ["3/3", "0", "0"]


@pytest.mark.parametrize(
    ("error", "reason"), [(RuntimeError("no GPU"), "RuntimeError: no GPU"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_sweep_that_breaks_is_recorded_as_failed_and_can_be_resumed(
    sweep: Callable[..., SweepOutcome], error: BaseException, reason: str
) -> None:
    store = MemoryStore()
    with pytest.raises(type(error)):
        sweep(store, trials=breaking(error))
    tags = the_sweep(store)["tags"]
    assert (tags["status"], tags["reason"]) == ("failed", reason)
    assert statuses(store) == ["running"]

    outcome = sweep(store, resume=True)
    assert tags["status"] == "completed"
    assert statuses(store) == ["completed"] * 6
    # Of the trial that was resumed, nobody knows how long it took.
    summary = json.loads((outcome.output / "sweep.json").read_text())
    assert set(summary["trials"]) - set(summary["seconds"]) == {f"{outcome.sweep_id}-aa-ig-0000-s0"}


def test_sigterm_ends_a_sweep_with_an_exception() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, _sigterm_raises():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before

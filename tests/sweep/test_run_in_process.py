"""A sweep from configuration to leaderboard whose trials run in this process, without Ray and MLflow."""

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fake_trainer import highlight
from helpers.memory_store import MemoryStore, MemorySweep
from helpers.tiny import tiny_corpus
from rich.console import Console

from unirex_ray.config import Config, build_config
from unirex_ray.distributed.job import EpochDone, TrialFailed, TrialJob, TrialLost, ended_by
from unirex_ray.errors import StoppedError, StoreAwayError, UserError
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.sweep.driver import Driver
from unirex_ray.sweep.finish import SweepOutcome
from unirex_ray.sweep.recording import sync
from unirex_ray.sweep.run import run_sweep
from unirex_ray.sweep.schedule import Signal
from unirex_ray.sweep.searcher import OptunaSearcher, StudyHistory
from unirex_ray.sweep.space import parse_space
from unirex_ray.tracking.journaled_sweep import JournaledSweep
from unirex_ray.tracking.protocol import protocol_line, protocol_of
from unirex_ray.tracking.store import DATA_DIGEST, NRG_WEIGHTS, PROTOCOL_LINE, own_database
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


FULL_DISK = ended_by(OSError(28, "No space left on device"))


def losing(lost: set[str], loss: TrialFailed | TrialLost = FULL_DISK) -> Fit:
    """Loses these trials, by the end of their identifiers; the others complete."""

    def fit_others(driver: Driver, *rest: object, **options: object) -> None:
        suggest = driver.suggest

        def next_one() -> TrialJob | Signal:
            while isinstance(job := suggest(), TrialJob) and job.trial_id.endswith(tuple(lost)):
                driver.on_message(job.trial_id, loss)
                driver.on_exit(job.trial_id)
            return job

        driver.suggest = next_one  # type: ignore[method-assign]
        fit(driver)

    return fit_others


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
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr("unirex_ray.sweep.run.node_resources", lambda: [{"CPU": 2.0}])

    def run(
        store: MemoryStore, *, trials: Fit = fit, changes: dict[str, Any] | None = None, **options: Any
    ) -> SweepOutcome:
        monkeypatch.setattr("unirex_ray.sweep.run.fit", trials)
        config = build_config(
            {
                "output": str(tmp_path / "out"),
                "data": {"cache": str(tmp_path / "cache")},
                "model": {"encoder": encoders["bert"]},
                "sweep": {"methods": ["aa-ig", "sgt"], "searcher": "grid", "seeds": [0], "nrg_weights": [1, 0, 1]},
            },
            changes or {},
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

    precision, encoder, protocol, first, *lines = console.export_text().splitlines()
    assert precision == "train.precision=auto: bf16, as this machine's CPU has avx512_bf16"
    assert ": tried on 32 tokens, hidden and padding tokens change nothing; losses drop them" in encoder
    assert protocol.startswith("protocol ")
    assert "reviews, 24/12/12 instances (train/dev/test); encoder " in protocol
    assert first == (
        f"sweep {outcome.sweep_id}: configurations: aa-ig 3, sgt 3; seeds: 0; concurrency: 2; trials already ended: 0"
    )
    assert "[0/6] aa-ig 0000 s0            start     learning_rate=1e-05" in lines[0]
    assert "[0/6] aa-ig 0000 s0            epoch 1   Task 0.10  Comp 0.100" in lines[1]
    assert "[6/6] sgt 0002 s0              completed Task 0.30  Comp 0.300  Suff 0.700" in lines[-1]


def test_a_sweep_with_lost_trials_keeps_what_its_resume_may_select(sweep: Callable[..., SweepOutcome]) -> None:
    store = MemoryStore()
    outcome = sweep(store, trials=losing({"sgt-0002-s0"}))
    assert (outcome.status, dict(outcome.statuses)) == ("incomplete", {"completed": 5, "lost": 1})
    assert the_sweep(store)["tags"]["status"] == "failed"
    assert len(list(outcome.output.glob("trials/*/best.pt"))) == 5
    assert (outcome.output / "stages").exists()
    console = Console(record=True, width=200)
    outcome = sweep(store, resume=True, console=console)
    assert (outcome.status, outcome.shortfall) == ("completed", "")
    assert len(list(outcome.output.glob("trials/*/best.pt"))) == 2
    assert "trials already ended: 5" in console.export_text()


@pytest.mark.parametrize("recorded", ["bf16", "auto"])
def test_a_sweep_keeps_the_precision_that_it_began_with(
    sweep: Callable[..., SweepOutcome], monkeypatch: pytest.MonkeyPatch, recorded: str
) -> None:
    """On whatever machine it goes on; version 0.1.0 recorded `auto`, and went on with what that meant."""
    store = MemoryStore()
    begun = sweep(store)
    assert begun.settings["train.precision"] == "bf16"
    assert {run["params"]["train.precision"] for run in store.runs.values()} == {"bf16"}
    summary = begun.output / "sweep.json"
    summary.write_text(summary.read_text().replace('"train.precision": "bf16"', f'"train.precision": "{recorded}"'))
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    console = Console(record=True, width=200)
    resumed = sweep(store, resume=True, console=console, changes={"sweep": {"seeds": [0, 1]}})
    assert resumed.settings["train.precision"] == recorded
    told = "train.precision=auto: bf16, as this sweep began" in console.export_text()
    assert told == (recorded == "bf16")
    assert resumed.best is not None
    assert resumed.best.train.precision == recorded
    with pytest.raises(UserError, match=f'train.precision was "{recorded}", now "fp32"'):
        sweep(store, resume=True, changes={"train": {"precision": "fp32"}, "sweep": {"seeds": [0, 1]}})


@pytest.mark.slow
def test_a_finished_sweep_grows_by_configurations_seeds_and_methods(sweep: Callable[..., SweepOutcome]) -> None:
    store = MemoryStore()
    small = {"sweep": {"configurations": 2, "methods": ["aa-ig"]}}
    first = sweep(store, changes=small)
    assert first.rows[0].configuration.complete
    kept = {run_id: dict(run["metrics"]) for run_id, run in store.runs.items() if "spec" in run}
    line = the_sweep(store)["tags"][PROTOCOL_LINE]
    with pytest.raises(UserError, match="already holds the sweep"):
        sweep(store, changes={"sweep": {"configurations": 3}})
    grown = sweep(store, changes={"sweep": {"configurations": 3, "seeds": [0, 5]}}, resume=True)
    assert grown.sweep_id == first.sweep_id
    (record,) = store.sweeps("tiny")
    assert record.seeds == (0, 5)
    assert Counter((t.spec.method, t.spec.seed) for t in record.trials) == dict.fromkeys(
        [(method, seed) for method in ("aa-ig", "sgt") for seed in (0, 5)], 3
    )
    rates = [t.spec.parameters["train.learning_rate"] for t in record.trials if t.spec.method == "aa-ig"]
    assert Counter(rates) == {1e-5: 2, 2e-5: 2, 3e-5: 2}  # nothing twice, nothing left out
    assert all(store.runs[run_id]["metrics"] == metrics for run_id, metrics in kept.items())
    assert protocol_of(record.settings) == protocol_of(grown.settings)
    assert record.tags[PROTOCOL_LINE] == protocol_line(grown.settings) != line
    with pytest.raises(UserError, match=r"sweep\.seeds was"):
        sweep(store, changes=small, resume=True)


@pytest.mark.slow
def test_a_warm_start_gives_a_searcher_what_another_sweep_found(
    sweep: Callable[..., SweepOutcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, tpe = MemoryStore(), {"sweep": {"searcher": "tpe", "configurations": 2, "methods": ["aa-ig"]}}
    earlier = sweep(store, changes=tpe)
    (tmp_path / "out").rename(tmp_path / "earlier")
    (tmp_path / "earlier" / "mlflow.db").touch()
    histories: list[StudyHistory] = []
    suggest = OptunaSearcher.suggest

    def watched(self: OptunaSearcher, index: int, history: StudyHistory) -> Any:
        histories.append(history)
        return suggest(self, index, history)

    monkeypatch.setattr(OptunaSearcher, "suggest", watched)
    later = sweep(store, changes=tpe | {"sweep": {**tpe["sweep"], "seed": 4}}, warm_start=str(tmp_path / "earlier"))
    assert later.settings["sweep.warm_start"] == earlier.sweep_id
    results = {row.configuration.parameters["train.learning_rate"]: row.configuration for row in earlier.rows}
    first = histories[0].population
    assert {c.parameters["train.learning_rate"]: c.metrics for c in first} == {
        rate: {metric.key: configuration.mean("dev")[metric.key] for metric in NRG_METRICS}
        for rate, configuration in results.items()
    }
    # Only one of three is unseen; the earlier trials are none of this sweep's.
    assert {row.configuration.parameters["train.learning_rate"] for row in later.rows} == {1e-5, 2e-5, 3e-5} - {
        *results
    }
    with pytest.raises(UserError, match=f'sweep.warm_start was "{earlier.sweep_id}", now null'):
        sweep(store, changes=tpe | {"sweep": {**tpe["sweep"], "seed": 4}}, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sweep": {"searcher": "grid"}}, r"sweep.searcher = 'grid' learns from no result; use tpe or pareto"),
        ({"train": {"epochs": 3}}, r"another protocol: train.epochs \(10 in that sweep, 3 in this one\)"),
        ({"sweep": {"searcher": "tpe", "methods": ["sgt"]}}, "no complete configuration of these methods"),
    ],
)
def test_a_warm_start_that_makes_no_sense_is_refused_before_any_trial(
    sweep: Callable[..., SweepOutcome], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    store, tpe = MemoryStore(), {"sweep": {"searcher": "tpe", "configurations": 1, "methods": ["aa-ig"]}}
    sweep(store, changes=tpe)
    (tmp_path / "out").rename(tmp_path / "earlier")
    (tmp_path / "earlier" / "mlflow.db").touch()
    merged = {**changes, "sweep": {**tpe["sweep"], **changes.get("sweep", {})}}
    trials = len(store.runs)
    with pytest.raises(UserError, match=message):
        sweep(store, changes=merged, warm_start=str(tmp_path / "earlier"))
    assert len(store.runs) == trials
    for folder, problem in (("nowhere", "holds no readable sweep"), ("earlier", "has not finished")):
        if folder == "earlier":
            file = tmp_path / "earlier" / "sweep.json"
            file.write_text(file.read_text().replace('"completed"', '"running"', 1))
        with pytest.raises(UserError, match=problem):
            sweep(store, changes=tpe, warm_start=str(tmp_path / folder))


@pytest.mark.slow
def test_a_terminal_gets_a_table(sweep: Callable[..., SweepOutcome]) -> None:
    screen = io.StringIO()
    sweep(MemoryStore(), console=Console(file=screen, force_terminal=True, width=120))
    last = screen.getvalue().rpartition("Method")[2].split()
    for method in ("aa-ig", "sgt"):
        assert last[last.index(method) + 1 :][:3] == ["3/3", "0", "0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no GPU"), "RuntimeError: no GPU"),
        (StoppedError("stopped by Ctrl-C", exit_code=130), "stopped by Ctrl-C after 0 of 6 trials"),
    ],
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


class Leaving(MemoryStore):
    """Is away once it was opened so many times."""

    def __init__(self, opened: int) -> None:
        super().__init__()
        self.left = opened

    def open_sweep(self, **arguments: Any) -> MemorySweep:
        if self.left <= 0:
            raise StoreAwayError("cannot use tracking.uri = 'http://there'")
        self.left -= 1
        opened = super().open_sweep(**arguments)
        opened.log_epoch = self._away  # type: ignore[method-assign]
        return opened

    def _away(self, *_: object, **__: object) -> None:
        raise ConnectionError("refused")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unirex_ray.sweep.recording._PATIENCE_SECONDS", 0.1)


@pytest.mark.slow
def test_a_store_that_goes_away_costs_the_sweep_nothing_and_is_brought_up_to_date(
    sweep: Callable[..., SweepOutcome], impatient: None
) -> None:
    console = Console(record=True, width=300)
    outcome = sweep(Leaving(1), console=console)
    assert outcome.status == "completed"
    assert outcome.not_delivered > 6
    assert "MLflow takes nothing (refused); the sweep goes on" in console.export_text()
    board = (outcome.output / "leaderboard.csv").read_bytes()
    resumed = sweep(Leaving(0), resume=True)  # also at the start
    assert (outcome.output / "leaderboard.csv").read_bytes() == board
    assert resumed.not_delivered > outcome.not_delivered

    store, told = MemoryStore(), list[str]()
    config = Config(output=str(outcome.output))
    synced = sync(config, told.append, lambda uri: store)
    assert (synced.status, synced.statuses, synced.uri) == ("completed", {"completed": 6}, own_database(config))
    (recorded,) = store.sweeps("tiny")
    assert recorded.status == "completed"
    assert {r.spec.trial_id: r.metrics for r in recorded.trials} == {
        r.spec.trial_id: r.metrics for row in outcome.rows for r in row.configuration.records
    }
    assert {*the_sweep(store)["artifacts"]} >= {"leaderboard.csv", "sweep.json", "best_config.yaml"}
    with pytest.raises(UserError, match="http://there"):
        sync(config, told.append, lambda uri: Leaving(0))


@pytest.mark.slow
def test_a_new_sweep_needs_its_store(sweep: Callable[..., SweepOutcome], tmp_path: Path) -> None:
    with pytest.raises(StoreAwayError, match="http://there"):
        sweep(Leaving(0), trials=breaking(AssertionError("no trial may start")))
    with pytest.raises(UserError, match=r"holds no journal\.jsonl"):
        sync(Config(output=str(tmp_path / "out")), print, lambda uri: MemoryStore())


@pytest.mark.slow
def test_a_sweep_from_before_there_were_journals_goes_on(sweep: Callable[..., SweepOutcome]) -> None:
    store = MemoryStore()
    before = sweep(store)
    for file in ("journal.jsonl", "journal.delivered.json"):
        (before.output / file).unlink()
    after = sweep(store, changes={"sweep": {"seeds": [0, 1]}}, resume=True)
    assert statuses(store) == ["completed"] * 12
    again = MemoryStore()
    sync(Config(output=str(after.output)), print, lambda uri: again)
    essence = [[(t.spec, t.status, t.metrics) for t in s.sweeps("tiny")[0].trials] for s in (store, again)]
    assert essence[0] == essence[1]
    (params,) = {tuple(run["params"]) for run in again.runs.values() if "spec" in run and "aa-ig" in str(run["spec"])}
    assert {"model.encoder", "train.learning_rate"} <= {*params}


@pytest.mark.slow
def test_sync_closes_a_sweep_whose_driver_was_killed(
    sweep: Callable[..., SweepOutcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(JournaledSweep, "fail", lambda self, reason: None)  # nobody was there to say it
        with pytest.raises(RuntimeError):
            sweep(MemoryStore(), trials=breaking(RuntimeError("x")))
    store = MemoryStore()
    synced = sync(Config(output=str(tmp_path / "out")), print, lambda uri: store)
    assert (synced.status, synced.statuses) == ("failed", {"running": 1})
    assert the_sweep(store)["tags"]["reason"] == "its driver was killed"
    assert sweep(store, resume=True).status == "completed"
    assert statuses(store) == ["completed"] * 6


@pytest.mark.slow
def test_the_same_loss_three_times_in_a_row_stops_a_sweep(sweep: Callable[..., SweepOutcome]) -> None:
    store = MemoryStore()
    everywhere = {f"-{index:04d}-s0" for index in range(3)}
    with pytest.raises(StoppedError, match=r"3 trials in a row were lost to the same: OSError.* No space") as stopped:
        sweep(store, trials=losing(everywhere), go_on="python jobs/sweep.py --resume")
    assert stopped.value.exit_code == 1
    assert str(stopped.value).endswith("after 0 of 6 trials\ngo on with: python jobs/sweep.py --resume")
    assert statuses(store) == ["lost"] * 3
    assert the_sweep(store)["tags"]["status"] == "failed"
    # A node takes its trials away, and no other.
    resumed = sweep(store, trials=losing(everywhere, TrialLost(reason="ActorDiedError: its node died")), resume=True)
    assert (resumed.status, resumed.statuses) == ("incomplete", {"lost": 6})
    assert sweep(store, resume=True).status == "completed"

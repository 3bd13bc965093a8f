"""What is recorded of sweeps that break, whose store is away, or that are from before there were journals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.memory_store import MemoryStore, MemorySweep
from helpers.sweep_in_process import breaking, losing, statuses, the_sweep
from rich.console import Console

from unirex_ray.config import Config, build_config
from unirex_ray.distributed.job import TrialLost
from unirex_ray.errors import StoppedError, StoreAwayError, UserError
from unirex_ray.sweep.driver import Driver
from unirex_ray.sweep.finish import SweepOutcome
from unirex_ray.sweep.recording import sync
from unirex_ray.sweep.schedule import Signal
from unirex_ray.tracking.journal import Journal
from unirex_ray.tracking.journaled_sweep import JournaledSweep, trials_of
from unirex_ray.tracking.records import TrialRecord
from unirex_ray.tracking.store import SELECTED_SCORES, own_database


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


def artifacts(store: MemoryStore, trial: TrialRecord) -> set[str]:
    (run,) = (run for run in store.runs.values() if run.get("spec") == trial.spec)
    return {*run["artifacts"]}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unirex_ray.tracking.delivery._PATIENCE_SECONDS", 0.1)


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
    files = [{t.spec.trial_id: artifacts(s, t) for t in s.sweeps("tiny")[0].trials} for s in (store, again)]
    assert files[0] == files[1]
    (params,) = {tuple(run["params"]) for run in again.runs.values() if "spec" in run and "aa-ig" in str(run["spec"])}
    assert {"model.encoder", "train.learning_rate"} <= {*params}


@pytest.mark.slow
def test_a_sweep_that_was_killed_while_it_got_its_journal_forgets_no_trial(
    sweep: Callable[..., SweepOutcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    store = MemoryStore()
    before = sweep(store)
    store.log_scores(f"tiny/{before.sweep_id}/{before.sweep_id}-sgt-0000-s0", {"cnrg": 0.5})
    for file in ("journal.jsonl", "journal.delivered.json"):
        (before.output / file).unlink()
    finish, count = JournaledSweep.finish_trial, iter(range(100))

    def killed(self: JournaledSweep, *arguments: Any, **options: Any) -> None:
        if next(count) == 3:
            raise Killed
        finish(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(JournaledSweep, "finish_trial", killed)
        with pytest.raises(Killed):
            sweep(store, resume=True)

    def none_runs_again(driver: Driver, *_: object, **__: object) -> None:
        assert driver.suggest() is Signal.DONE

    sweep(store, trials=none_runs_again, resume=True)
    journal = trials_of(Journal(before.output / "journal.jsonl").events).values()
    assert [record.status for record in journal] == ["completed"] * 6
    assert not any(record.metrics.nrg for record in journal)


@pytest.mark.slow
def test_the_journal_of_another_sweep_is_refused(sweep: Callable[..., SweepOutcome]) -> None:
    before = sweep(MemoryStore())
    (before.output / "sweep.json").unlink()
    for resume in (False, True):
        with pytest.raises(UserError, match=f"is the journal of another sweep, {before.sweep_id}: choose another"):
            sweep(MemoryStore(), trials=breaking(AssertionError("no trial may start")), resume=resume)
    assert not (before.output / "sweep.json").exists()


@pytest.mark.slow
def test_sync_goes_to_where_the_sweep_was_recorded_last(sweep: Callable[..., SweepOutcome]) -> None:
    outcome = sweep(MemoryStore())
    (outcome.output / "mlflow.db").touch()  # where it began
    sweep(MemoryStore(), resume=True, changes={"tracking": {"uri": "http://there:5000"}})
    asked: list[str] = []

    def open_store(uri: str) -> MemoryStore:
        asked.append(uri)
        return MemoryStore()

    for given, expected in ((None, "http://there:5000"), ("http://elsewhere", "http://elsewhere")):
        config = build_config({"output": str(outcome.output), "tracking": {"uri": given}})
        assert sync(config, print, open_store).uri == asked[-1] == expected


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
    with pytest.raises(StoppedError, match=r"3 trials in a row were lost to the same .OSError.* No space") as stopped:
        sweep(store, trials=losing(everywhere), go_on="python jobs/sweep.py --resume")
    assert stopped.value.exit_code == 1
    assert str(stopped.value).endswith("after 0 of 6 trials\ngo on with: python jobs/sweep.py --resume")
    assert statuses(store) == ["lost"] * 3
    assert the_sweep(store)["tags"]["status"] == "failed"
    # A node takes its trials away, and no other.
    resumed = sweep(store, trials=losing(everywhere, TrialLost(reason="ActorDiedError: its node died")), resume=True)
    assert (resumed.status, resumed.statuses) == ("incomplete", {"lost": 6})
    assert sweep(store, resume=True).status == "completed"


@pytest.mark.slow
def test_every_trial_carries_by_what_its_configuration_was_selected(sweep: Callable[..., SweepOutcome]) -> None:
    def selected(outcome: SweepOutcome) -> dict[str, tuple[float, ...]]:
        return {
            record.spec.trial_id: tuple(getattr(row.scores, score) for score in SELECTED_SCORES)
            for row in outcome.rows
            for record in row.configuration.records
        }

    def recorded(store: MemoryStore) -> dict[str, tuple[float, ...]]:
        keys = [f"select/{score}" for score in SELECTED_SCORES]
        runs = [run for run in store.runs.values() if "spec" in run]
        return {run["spec"].trial_id: tuple(run["metrics"][key] for key in keys) for run in runs}

    store = MemoryStore()
    outcome = sweep(store)
    assert recorded(store) == selected(outcome)
    assert len({*recorded(store).values()}) > 1
    grown = sweep(store, changes={"sweep": {"seeds": [0, 1]}}, resume=True)
    assert recorded(store) == selected(grown)
    again = MemoryStore()
    sync(Config(output=str(grown.output)), print, lambda uri: again)
    assert recorded(again) == selected(grown)

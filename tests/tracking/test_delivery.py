"""A journal's way to a run store that is away, comes back, is another one, or has lost what it had."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.memory_store import MemoryStore, MemorySweep

from unirex_ray.errors import StoreAwayError
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.tracking import delivery
from unirex_ray.tracking.delivery import DELIVERED, Delivery
from unirex_ray.tracking.journal import JOURNAL, Event, Journal
from unirex_ray.tracking.journaled_sweep import JournaledSweep, SweepBegun, beginning_of, trials_of
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.tracking.store import DATA_DIGEST

BEGUN = SweepBegun(experiment="tiny", sweep_id="s1", seeds=(0,), params={"a": 1}, tags={DATA_DIGEST: "d"})
METRICS = TrialMetrics(dev={"auprc": 0.5}, test={"auprc": 0.25})


def spec(index: int) -> TrialSpec:
    parameters = {"train.learning_rate": 1e-5, "model.pooling": ["a", "b"]}
    return TrialSpec(
        trial_id=f"s1-aa-ig-{index:04d}-s0", method="aa-ig", configuration=index, seed=0, parameters=parameters
    )


class Store(MemoryStore):
    """Is away while it is told so, and at some calls."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.failing_calls: set[int] = set()
        self.calls: list[str] = []

    def open_sweep(self, **arguments: Any) -> MemorySweep:
        self.calls.append("open")
        self.fail_perhaps()
        return Sweep(self, super().open_sweep(**arguments))

    def fail_perhaps(self) -> None:
        if self.away or len(self.calls) in self.failing_calls:
            raise ConnectionError("refused")


class Sweep(MemorySweep):
    def __init__(self, store: Store, opened: MemorySweep) -> None:
        super().__init__(opened.runs, opened.run_id, opened.sweep_id)
        self._store = store

    def as_of(self, at: float) -> None:
        self._store.calls.append("event")
        self._store.fail_perhaps()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(delivery, "_LAST_WAIT", 0.01)
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", 0.3)


class Process:
    """One that records the sweep: journal, delivery, and what it tells the user."""

    def __init__(self, output: Path, store: MemoryStore) -> None:
        journal = Journal(output / JOURNAL)
        self.told: list[str] = []
        begun = beginning_of(journal.events) or BEGUN
        self.delivery = Delivery(output, journal.events, lambda: begun.open_in(store), self.told.append)
        self.sweep = JournaledSweep(journal, begun, output, self.delivery.put)
        self.sweep.begin()
        self.delivery.start()

    def run(self, index: int, status: str = "completed") -> None:
        trial_id = self.sweep.open_trial(spec(index), params={"b": [1, 2]}, tags={DATA_DIGEST: "d"})
        for epoch in (1, 2):
            self.sweep.log_epoch(trial_id, epoch, replace(METRICS, test={}, dev={"auprc": 0.1 * epoch}))
        if status != "running":
            self.sweep.log_text(trial_id, "config.yaml", f"number: {index}\n")
            metrics = METRICS if status == "completed" else TrialMetrics()
            self.sweep.finish_trial(trial_id, status, metrics=metrics, reason=None if metrics is METRICS else "why")

    def end(self) -> int:
        return self.delivery.close()


def told_the_same(store: MemoryStore, output: Path) -> bool:
    """Whether a store has exactly what the journal says."""
    (opened,) = store.sweeps("tiny")
    known = MemorySweep(store.runs, opened.run_id, opened.sweep_id).trials(history=True)
    journal = list(trials_of(Journal(output / JOURNAL).events).values())

    def essence(records: list[Any]) -> list[Any]:
        return [(r.spec, r.status, r.metrics, dict(r.history), r.reason) for r in records]

    return essence(known) == essence(journal)


def test_everything_arrives_and_the_journal_says_the_same(tmp_path: Path) -> None:
    store = Store()
    process = Process(tmp_path, store)
    process.run(0)
    process.run(1, "failed")
    process.run(2, "running")
    assert process.end() == 0
    assert told_the_same(store, tmp_path)
    assert process.sweep.trials(history=True) == list(trials_of(Journal(tmp_path / JOURNAL).events).values())
    assert process.told == []


def test_a_store_that_fails_at_any_call_has_everything_in_the_end(tmp_path: Path) -> None:
    for failing in range(1, 12):
        output = tmp_path / str(failing)
        output.mkdir()
        store = Store()
        store.failing_calls = {failing, failing + 2}
        process = Process(output, store)
        process.run(0)
        process.sweep.finish()
        assert process.end() == 0
        assert told_the_same(store, output)
        assert store.sweeps("tiny")[0].status == "completed"


def test_the_sweep_goes_on_while_the_store_is_away_and_says_so_once(tmp_path: Path) -> None:
    store = Store()
    store.away = True
    process = Process(tmp_path, store)
    process.run(0)
    assert process.end() == 6  # beginning, trial, two epochs, text, end
    assert len(process.told) == 1
    assert process.told[0].startswith("MLflow takes nothing (refused); the sweep goes on")
    assert trials_of(Journal(tmp_path / JOURNAL).events)[spec(0).trial_id].status == "completed"

    store.away = False
    later = Process(tmp_path, store)
    assert later.end() == 0
    assert told_the_same(store, tmp_path)


def test_a_store_that_comes_back_is_told_of(tmp_path: Path) -> None:
    store = Store()
    store.failing_calls = {3, 5}  # the sweep's beginning twice in a row; the store is opened in between
    process = Process(tmp_path, store)
    process.run(0)
    assert process.end() == 0
    assert store.calls[:6] == ["open", "event", "event", "open", "event", "open"]
    assert [line.split(";")[0] for line in process.told] == ["MLflow takes nothing (refused)", "MLflow answers again"]


def test_what_was_delivered_is_not_delivered_again(tmp_path: Path) -> None:
    store = Store()
    first = Process(tmp_path, store)
    first.run(0)
    assert first.end() == 0
    calls = len(store.calls)
    second = Process(tmp_path, store)
    second.run(1)
    assert second.end() == 0
    assert store.calls[calls:] == ["open"] + ["event"] * 6  # its beginning, and the second trial's five
    assert told_the_same(store, tmp_path)


@pytest.mark.parametrize("lost", ["all", "a trial", "cursor"])
def test_a_store_that_has_lost_runs_gets_them_again_and_no_other(tmp_path: Path, lost: str) -> None:
    store = Store()
    first = Process(tmp_path, store)
    first.run(0)
    first.run(1)
    first.sweep.finish()
    assert first.end() == 0
    if lost == "all":
        store.runs.clear()
    elif lost == "a trial":
        del store.runs["tiny/s1/" + spec(0).trial_id]
    else:
        (tmp_path / DELIVERED).write_text("[]")
    calls = len(store.calls)
    second = Process(tmp_path, store)
    assert second.end() == 0
    assert told_the_same(store, tmp_path)
    trials = {"all": 2, "a trial": 1, "cursor": 0}[lost]
    # Two beginnings, and five events of each trial that was not there; the end that was none is left out.
    assert store.calls[calls:].count("event") == 2 + 5 * trials
    assert store.sweeps("tiny")[0].status == "running"


def test_what_was_delivered_of_a_journal_that_is_gone_says_nothing_of_a_new_one(tmp_path: Path) -> None:
    store = Store()
    first = Process(tmp_path, store)
    first.run(0)
    assert first.end() == 0
    (tmp_path / JOURNAL).unlink()
    store.away = True
    second = Process(tmp_path, store)
    second.run(1)
    assert second.end() == 6
    store.away = False
    third = Process(tmp_path, store)
    assert third.end() == 0
    assert [r.spec.configuration for r in store.sweeps("tiny")[0].trials] == [0, 1]


def test_an_older_copy_of_a_journal_takes_nothing_from_what_comes_behind_it(tmp_path: Path) -> None:
    store = Store()
    first = Process(tmp_path, store)
    first.run(0)
    copy = (tmp_path / JOURNAL).read_bytes()
    first.run(1)
    assert first.end() == 0
    (tmp_path / JOURNAL).write_bytes(copy)
    store.away = True  # until the events of the next process are there as well
    second = Process(tmp_path, store)
    second.run(2)
    store.away = False
    assert second.end() == 0
    assert [r.spec.configuration for r in store.sweeps("tiny")[0].trials] == [0, 1, 2]


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_a_sweep_that_is_opened_only_to_be_brought_up_to_date_has_its_end_again(tmp_path: Path, end: str) -> None:
    store = Store()
    first = Process(tmp_path, store)
    first.run(0)
    if end == "completed":
        first.sweep.finish()
    else:
        first.sweep.fail("why")
    assert first.end() == 0
    for _ in range(2):
        journal = Journal(tmp_path / JOURNAL)
        again = Delivery(tmp_path, journal.events, lambda: BEGUN.open_in(store), print)
        again.connect()
        assert store.sweeps("tiny")[0].status == "running"
        again.start()
        assert again.close() == 0
        assert store.sweeps("tiny")[0].status == end
    assert told_the_same(store, tmp_path)


def test_a_trial_that_was_lost_twice_is_delivered_to_a_store_that_knows_of_once(tmp_path: Path) -> None:
    store = Store()
    first = Process(tmp_path, store)
    first.run(0, "lost")
    assert first.end() == 0
    second = Process(tmp_path, Store())  # somewhere else in between
    second.sweep.open_trial(spec(0), params={}, tags={DATA_DIGEST: "d"})
    second.sweep.log_epoch(spec(0).trial_id, 3, METRICS)
    second.sweep.finish_trial(spec(0).trial_id, "lost", metrics=TrialMetrics(), reason="again")
    assert second.end() == 0
    (tmp_path / DELIVERED).unlink()  # a run of another store has another identifier, which these have not
    assert Process(tmp_path, store).end() == 0
    assert told_the_same(store, tmp_path)


def test_haste_does_not_wait_for_what_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_HASTE_SECONDS", 0.1)
    store, answer = Store(), threading.Event()
    monkeypatch.setattr(store, "fail_perhaps", lambda: answer.wait(60))
    process = Process(tmp_path, store)
    process.run(0)
    assert process.delivery.close(in_haste=True) == 6
    answer.set()


def test_whatever_a_store_raises_when_it_is_opened_says_that_it_is_away(tmp_path: Path) -> None:
    def opened() -> MemorySweep:
        raise RuntimeError("database is locked\nand more")

    with pytest.raises(StoreAwayError, match=r"MLflow does not take the sweep's run \(database is locked\)$"):
        Delivery(tmp_path, [], opened, print).connect()


def test_a_trial_that_goes_on_is_delivered_though_the_store_knows_its_end(tmp_path: Path) -> None:
    store = Store()
    first = Process(tmp_path, store)
    first.run(0, "lost")
    assert first.end() == 0
    (tmp_path / DELIVERED).unlink()
    second = Process(tmp_path, store)
    second.run(0)
    assert second.end() == 0
    assert [record.status for record in store.sweeps("tiny")[0].trials] == ["completed"]


def test_a_file_that_is_gone_is_named_and_passed_over(tmp_path: Path) -> None:
    store = Store()
    process = Process(tmp_path, store)
    trial_id = process.sweep.open_trial(spec(0), params={}, tags={DATA_DIGEST: "d"})
    (tmp_path / "page.html").write_text("page")
    for name in ("gone.html", "page.html"):
        process.sweep.log_file(trial_id, tmp_path / name)
    assert process.end() == 0
    assert process.told == ["not in MLflow, as it is gone: gone.html"]
    assert store.runs[f"tiny/s1/{trial_id}"]["artifacts"] == {"page.html": b"page"}


def test_that_a_sweep_failed_is_passed_on_though_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    process = Process(tmp_path, store)
    process.run(0)

    def full(event: Event) -> Event:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(process.sweep._journal, "append", full)
    with pytest.raises(OSError, match="No space left"):
        process.sweep.fail("the disk is full")
    assert process.end() == 0
    assert (store.sweeps("tiny")[0].status, store.sweeps("tiny")[0].tags["reason"]) == ("failed", "the disk is full")


def test_nothing_is_passed_on_that_is_not_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[Event] = []
    journal = Journal(tmp_path / JOURNAL)
    sweep = JournaledSweep(journal, BEGUN, tmp_path, lambda event: passed.append(on_disk()[-1]))

    def on_disk() -> list[Event]:
        return Journal(tmp_path / JOURNAL).events

    sweep.begin()
    sweep.open_trial(spec(0), params={}, tags={})
    sweep.fail("why")
    assert [event["event"] for event in passed] == ["sweep", "trial", "failed"]
    monkeypatch.setattr(journal, "append", lambda event: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sweep.open_trial(spec(1), params={}, tags={})
    assert (len(passed), len(sweep.trials())) == (3, 1)

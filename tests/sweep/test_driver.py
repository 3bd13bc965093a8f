"""What the driver tells the store and the screen, and in which order; with the memory store, and no Ray."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.memory_store import Backend, MemoryStore, MemorySweep

from unirex_ray.config import Config, build_config, unflatten
from unirex_ray.data.highlight import HighlightedInput, HighlightedInstance, HighlightedToken
from unirex_ray.distributed.job import EpochDone, TrialFailed, TrialJob, TrialLost, TrialWaits
from unirex_ray.metrics.instance_file import INSTANCES
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.sweep.driver import Driver
from unirex_ray.sweep.schedule import Schedule, SweepExtent
from unirex_ray.tracking.records import TrialRecord, TrialSpec, TrialStatus
from unirex_ray.training.result_file import RESULT
from unirex_ray.training.state import TrialResult

HALVES = {metric.key: 0.5 for metric in NRG_METRICS}
METRICS = TrialMetrics(dev=HALVES, test=HALVES)
ARTIFACTS = {"rationales.html", INSTANCES, RESULT, "config.yaml", "rungs.txt"}


class Killed(BaseException):
    """Nothing catches it."""


class RecordingSweep(MemorySweep):
    """Notes every write; is killed before one of them."""

    def __init__(self, backend: Backend | None = None, killed_before: str = "") -> None:
        opened = MemoryStore(backend).open_sweep(experiment="corpus", sweep_id="s1", seeds=(0,), params={}, tags={})
        super().__init__(opened.runs, opened.run_id, opened.sweep_id)
        self.events: list[str] = []
        self._killed_before = killed_before

    def _note(self, event: str) -> None:
        if event == self._killed_before:
            raise Killed(event)
        self.events.append(event)

    def open_trial(self, spec: TrialSpec, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        self._note("open")
        return super().open_trial(spec, params=params, tags=tags)

    def log_epoch(self, trial_id: str, epoch: int, metrics: TrialMetrics, **options: Any) -> None:
        self._note(f"epoch {epoch}")
        super().log_epoch(trial_id, epoch, metrics, **options)

    def log_text(self, trial_id: str | None, path: str, text: str) -> None:
        self._note(path)
        super().log_text(trial_id, path, text)

    def log_file(self, trial_id: str | None, file: Path) -> None:
        self._note(file.name)
        super().log_file(trial_id, file)

    def finish_trial(
        self, trial_id: str, status: TrialStatus, *, metrics: TrialMetrics, reason: str | None = None
    ) -> None:
        self._note(status)
        super().finish_trial(trial_id, status, metrics=metrics, reason=reason)


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials have their folders here."""
    monkeypatch.chdir(tmp_path)


class Screen:
    """Notes what it is told among the sweep's writes."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def started(self, spec: TrialSpec) -> None:
        self._events.append("shown: start")

    def epoch(self, spec: TrialSpec, epoch: int, metrics: TrialMetrics, stage: str) -> None:
        self._events.append(f"shown: epoch {epoch}")

    def waits(self, spec: TrialSpec, reason: str) -> None:
        self._events.append(f"shown: waits {reason}")

    def ended(self, record: TrialRecord) -> None:
        self._events.append("shown: end")


class Counting:
    def suggest(self, index: int, known: object) -> dict[str, float]:
        return {"train.learning_rate": 1e-5 * (1 + index)}


def resolve(spec: TrialSpec) -> Config:
    return build_config(unflatten({**spec.parameters, "method": spec.method, "train.seed": spec.seed}))


def drive(sweep: RecordingSweep) -> Driver:
    """A driver of two trials with a rung at epoch 1, at which one of two goes on; it continues what is recorded."""
    plan = SweepExtent(sweep_id="s1", budgets={"aa-ig": 2}, seeds=(0,), rungs=(1,), reduction=2)
    return driver_of(Schedule(plan, {"aa-ig": Counting()}, sweep.trials(history=True)), sweep, 2)


def driver_of(schedule: Schedule, sweep: RecordingSweep, concurrency: int) -> Driver:
    return Driver(
        schedule,
        sweep,
        Screen(sweep.events),  # type: ignore[arg-type]
        resolve=resolve,
        folder=lambda trial_id: f"trials/{trial_id}",
        shared="stages",
        tags={},
        concurrency=lambda: concurrency,
    )


def suggested(driver: Driver) -> str:
    job = driver.suggest()
    assert isinstance(job, TrialJob)
    for name in (INSTANCES, RESULT):
        job.checkpoints().write(name, job.trial_id.encode())
    return job.trial_id


def epoch(value: float) -> EpochDone:
    return EpochDone(
        epoch=1, metrics=TrialMetrics(dev={m.key: value if m.higher_is_better else 1 - value for m in NRG_METRICS})
    )


def result() -> TrialResult:
    token = HighlightedToken(segment=0, start=0, end=5, score=1.0, selected=True, gold=True)
    text = HighlightedInput(segments=("great fun",), tokens=(token,))
    instance = HighlightedInstance(id="0", inputs=(text,), label="positive", predicted="positive", probability=0.9)
    return TrialResult(metrics=METRICS, epoch=1, perturbation="dropped", highlights=(instance,))


def test_a_trial_is_on_record_before_it_is_shown_and_started() -> None:
    sweep = RecordingSweep()
    trial_id = suggested(drive(sweep))
    assert sweep.events == ["open", "shown: start"]
    assert [(record.spec.trial_id, record.status) for record in sweep.trials()] == [(trial_id, "running")]


def test_a_driver_that_was_killed_before_a_trial_was_on_record_has_started_nothing() -> None:
    sweep = RecordingSweep(killed_before="open")
    with pytest.raises(Killed):
        drive(sweep).suggest()
    assert (sweep.events, sweep.trials()) == ([], [])
    assert suggested(drive(RecordingSweep(sweep.runs))) == "s1-aa-ig-0000-s0"


def test_a_trial_that_waits_for_a_place_is_shown_and_goes_on() -> None:
    sweep = RecordingSweep()
    driver = drive(sweep)
    trial_id = suggested(driver)
    driver.on_wait(trial_id, "for a node")
    assert driver.on_message(trial_id, TrialWaits(reason="for 2 places"))
    assert sweep.events[2:] == ["shown: waits for a node", "shown: waits for 2 places"]
    assert [record.status for record in sweep.trials()] == ["running"]


def test_of_a_completed_trial_everything_is_written_before_its_status() -> None:
    sweep = RecordingSweep()
    driver = drive(sweep)
    trial_id = suggested(driver)
    assert driver.on_message(trial_id, epoch(0.5))
    assert sweep.events[2:] == ["epoch 1", "shown: epoch 1"]
    driver.on_message(trial_id, result())
    *artifacts, status, end = sweep.events[4:]
    assert sorted(artifacts) == sorted(ARTIFACTS)
    assert (status, end) == ("completed", "shown: end")
    assert sweep.runs[f"{sweep.run_id}/{trial_id}"]["artifacts"][INSTANCES] == trial_id.encode()


def test_of_a_trial_that_loses_at_a_rung_everything_is_written_before_its_status() -> None:
    sweep = RecordingSweep()
    driver = drive(sweep)
    better, worse = suggested(driver), suggested(driver)
    assert driver.on_message(better, epoch(0.5))
    del sweep.events[:]
    assert not driver.on_message(worse, epoch(0.4))
    assert sweep.events[:2] == ["epoch 1", "shown: epoch 1"]
    assert sorted(sweep.events[2:-2]) == ["config.yaml", "rungs.txt"]
    assert sweep.events[-2:] == ["stopped", "shown: end"]


@pytest.mark.parametrize(
    ("fail", "status"),
    [
        (lambda driver, trial_id: driver.on_message(trial_id, TrialFailed(reason="why")), "failed"),
        (lambda driver, trial_id: driver.on_message(trial_id, epoch(float("nan"))), "failed"),
        (
            lambda driver, trial_id: driver.on_message(
                trial_id, replace(result(), metrics=TrialMetrics(dev={"auprc": float("inf")}))
            ),
            "failed",
        ),
        (lambda driver, trial_id: driver.on_message(trial_id, TrialLost(reason="why")), "lost"),
        (lambda driver, trial_id: driver.on_process_lost(trial_id, "why"), "lost"),
        (lambda driver, trial_id: driver.on_exit(trial_id), "lost"),
    ],
    ids=["raises", "an epoch is not finite", "its result is not finite", "no disk", "its process is lost", "just ends"],
)
def test_a_trial_that_ends_early_is_recorded_once_and_its_status_last(
    fail: Callable[[Driver, str], None], status: str
) -> None:
    sweep = RecordingSweep()
    driver = drive(sweep)
    trial_id = suggested(driver)
    fail(driver, trial_id)
    driver.on_process_lost(trial_id, "again")
    assert sweep.events[2:] == ["config.yaml", status, "shown: end"]
    (record,) = sweep.trials()
    assert record.reason
    assert record.reason != "again"


@pytest.mark.parametrize("killed_before", [*sorted(ARTIFACTS), "completed"])
def test_a_trial_whose_driver_was_killed_while_writing_is_running_and_runs_again(killed_before: str) -> None:
    sweep = RecordingSweep(killed_before=killed_before)
    driver = drive(sweep)
    trial_id = suggested(driver)
    driver.on_message(trial_id, epoch(0.5))
    with pytest.raises(Killed):
        driver.on_message(trial_id, result())
    (record,) = sweep.trials()
    assert (record.status, record.metrics) == ("running", TrialMetrics())

    again = RecordingSweep(sweep.runs)
    driver = drive(again)
    assert suggested(driver) == trial_id
    driver.on_message(trial_id, result())
    (record,) = again.trials()
    assert (record.status, record.metrics) == ("completed", METRICS)
    (run,) = [run for run in again.runs.values() if "parent" in run]
    # Nothing that was written before the kill is lost.
    assert {"rationales.html", "config.yaml"} <= set(run["artifacts"])


@pytest.mark.parametrize("judged", [False, True])
def test_the_rungs_of_a_resumed_trial_are_kept_without_the_tags_of_its_run(judged: bool) -> None:
    killed = RecordingSweep()
    trial_id = suggested(drive(killed))
    (record,) = killed.trials()
    assert record.tags

    sweep = RecordingSweep(killed.runs)
    driver = drive(sweep)
    assert suggested(driver) == trial_id
    if judged:
        driver.on_message(trial_id, epoch(0.5))
    driver.on_message(trial_id, result())
    (record,) = sweep.trials()
    assert record.run_id is not None
    verdict = "rung.1: CNRG 0.0000 at epoch 1: rank 1 of 1, the best 1 go on\n"
    assert sweep.runs[record.run_id]["artifacts"].get("rungs.txt") == (verdict if judged else None)


RATE = {"train.learning_rate": 1e-5}
ORDER = ("aa-ig", "aa-grad", "l2e", "fresh", "sgt", "a2r")


def sharing(concurrency: int, methods: tuple[str, ...] = ORDER) -> Driver:
    """A driver of one configuration of each method, without rungs."""
    plan = SweepExtent(sweep_id="s1", budgets=dict.fromkeys(methods, 1), seeds=(0,))
    return driver_of(Schedule(plan, dict.fromkeys(methods, Counting())), RecordingSweep(), concurrency)


def started(driver: Driver) -> list[str]:
    """Methods of all trials that start now."""
    found = []
    while isinstance(job := driver.suggest(), TrialJob):
        found.append(job.config.method)
    return found


def trial_of(method: str) -> str:
    return f"s1-{method}-0000-s0"


def test_one_trial_trains_what_many_need_and_others_fill_the_places() -> None:
    driver = sharing(3)
    assert started(driver) == ["aa-ig", "sgt", "a2r"]
    driver.on_message(trial_of("sgt"), result())
    driver.on_exit(trial_of("sgt"))
    # Nothing is left but trials that wait.
    assert started(driver) == ["aa-grad"]
    driver.on_message(trial_of("aa-ig"), result())
    driver.on_exit(trial_of("aa-ig"))
    driver.on_message(trial_of("a2r"), result())
    driver.on_exit(trial_of("a2r"))
    assert started(driver) == ["l2e", "fresh"]


def in_stage(stage: str) -> EpochDone:
    return EpochDone(epoch=1, metrics=TrialMetrics(dev=HALVES), stage=stage)


@pytest.mark.parametrize(
    ("messages", "next_ones"),
    [
        ([in_stage("task-model")], ["a2r"]),
        ([in_stage("task-model"), in_stage("")], ["fresh"]),
        ([result()], ["fresh"]),
        ([TrialFailed(reason="diverged")], ["fresh", "a2r"]),
    ],
    ids=["still in it", "behind it", "at its end", "failed in it"],
)
def test_a_shared_stage_is_free_when_its_trial_has_left_it(messages: list, next_ones: list[str]) -> None:
    driver = sharing(2, ("l2e", "sgt", "fresh", "a2r"))
    assert started(driver) == ["l2e", "sgt"]
    for message in messages:
        driver.on_message(trial_of("l2e"), message)
    if isinstance(messages[-1], TrialFailed):
        driver.on_exit(trial_of("l2e"))
    driver.on_message(trial_of("sgt"), result())
    driver.on_exit(trial_of("sgt"))
    assert started(driver) == next_ones


def test_where_a_trial_fails_in_a_shared_stage_one_that_waited_trains_it() -> None:
    driver = sharing(2, ("l2e", "fresh", "aa-ig", "sgt"))
    assert started(driver) == ["l2e", "sgt"]
    driver.on_message(trial_of("sgt"), result())
    driver.on_exit(trial_of("sgt"))
    assert started(driver) == ["fresh"]  # nothing else is left, so it waits in its place
    driver.on_message(trial_of("l2e"), TrialFailed(reason="diverged"))
    driver.on_exit(trial_of("l2e"))
    assert driver._would_wait(TrialSpec(trial_id="t", method="aa-ig", configuration=0, seed=0, parameters=RATE))
    driver.on_message(trial_of("fresh"), in_stage(""))
    assert not driver._would_wait(TrialSpec(trial_id="t", method="aa-ig", configuration=0, seed=0, parameters=RATE))

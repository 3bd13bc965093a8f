"""A trial's life as the driver sees it, with the memory store and no Ray: what is recorded, displayed and measured."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.memory_store import MemoryStore

from unirex_ray.config import Config, build_config, unflatten
from unirex_ray.data.highlight import HighlightedInput, HighlightedInstance, HighlightedToken
from unirex_ray.distributed.job import EpochDone, TrialFailed, TrialJob
from unirex_ray.files import load_yaml
from unirex_ray.methods import get_method
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.sweep.driver import Driver, Timing
from unirex_ray.sweep.schedule import Schedule, Signal, SweepExtent
from unirex_ray.tracking.records import TrialRecord, TrialSpec
from unirex_ray.tracking.store import CONFIG_HASH, DATA_DIGEST
from unirex_ray.training.state import TrialResult

TAGS = {DATA_DIGEST: "abc"}


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials have their folders here."""
    monkeypatch.chdir(tmp_path)


class Clock:
    """Seconds that pass only when they are told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("unirex_ray.sweep.driver.time.perf_counter", clock)
    return clock


class Screen:
    """Remembers what is displayed."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def started(self, spec: TrialSpec) -> None:
        self.lines.append(("started", spec.trial_id))

    def epoch(self, spec: TrialSpec, epoch: int, metrics: TrialMetrics, stage: str) -> None:
        self.lines.append(("epoch", spec.trial_id, stage, epoch))

    def ended(self, record: TrialRecord) -> None:
        self.lines.append((record.status, record.spec.trial_id))


class Numbered:
    """Suggests another learning rate every time."""

    def suggest(self, index: int, history: object) -> dict[str, float]:
        return {"train.learning_rate": 1e-5 * (1 + index)}


def resolve(spec: TrialSpec) -> Config:
    return build_config(unflatten({**spec.parameters, "method": spec.method, "train.seed": spec.seed}))


class Sweep:
    """A driver with its surroundings; made again on the same store, it is the driver of a resumed sweep."""

    def __init__(
        self,
        *,
        method: str = "aa-ig",
        budget: int = 2,
        seeds: Sequence[int] = (0,),
        rungs: tuple[int, ...] = (),
        concurrency: int = 2,
        store: MemoryStore | None = None,
    ) -> None:
        self.store = store or MemoryStore()
        self.sweep = self.store.open_sweep(experiment="reviews", sweep_id="s1", seeds=seeds, params={}, tags=TAGS)
        extent = SweepExtent(sweep_id="s1", budgets={method: budget}, seeds=tuple(seeds), rungs=rungs, reduction=2)
        self.screen = Screen()
        self.driver = Driver(
            Schedule(extent, {method: Numbered()}, self.sweep.trials(history=True)),
            self.sweep,
            self.screen,  # type: ignore[arg-type]
            resolve=resolve,
            folder=lambda trial_id: f"trials/{trial_id}",
            shared="stages",
            tags=TAGS,
            concurrency=lambda: concurrency,
        )

    def job(self) -> TrialJob:
        job = self.driver.suggest()
        assert isinstance(job, TrialJob)
        return job

    def run(self, trial_id: str) -> dict[str, Any]:
        return self.store.runs[f"reviews/s1/{trial_id}"]

    def record(self, trial_id: str) -> TrialRecord:
        (record,) = [r for r in self.sweep.trials(history=True) if r.spec.trial_id == trial_id]
        return record


def dev(value: float) -> dict[str, float]:
    """Every metric as good as `value`, in [0, 1]."""
    return {m.key: value if m.higher_is_better else 1 - value for m in NRG_METRICS}


def epoch(number: int, value: float = 0.5, *, stage: str = "") -> EpochDone:
    return EpochDone(epoch=number, metrics=TrialMetrics(train={"loss": 2.0}, dev=dev(value)), stage=stage)


def result(*, time: dict[str, float] | None = None, value: float = 0.5) -> TrialResult:
    token = HighlightedToken(segment=0, start=6, end=9, score=1.0, selected=True, gold=True)
    instance = HighlightedInstance(
        id="i7",
        inputs=(HighlightedInput(segments=("great fun",), tokens=(token,)),),
        label="positive",
        predicted="positive",
        probability=0.9,
    )
    metrics = TrialMetrics(dev=dev(value), test={**dev(value), "task_score": 81.25}, time=time or {})
    return TrialResult(metrics=metrics, epoch=2, perturbation="dropped", highlights=(instance,))


def test_a_trial_from_suggestion_to_result(clock: Clock) -> None:
    sweep = Sweep()
    job = sweep.job()
    trial_id = "s1-aa-ig-0000-s0"
    assert (job.trial_id, job.folder, job.shared) == (trial_id, f"trials/{trial_id}", "stages")
    assert (job.config.method, job.config.train.seed, job.config.train.learning_rate) == ("aa-ig", 0, 1e-5)
    assert sweep.record(trial_id).status == "running"

    assert sweep.driver.on_message(trial_id, epoch(1))
    assert sweep.driver.on_message(trial_id, epoch(2))
    done = result(time={"train_s": 3.0, "evaluate_s": 1.5, "wait_s": 0.25, "total_s": 5.0})
    sweep.driver.on_message(trial_id, done)
    clock.now += 10
    sweep.driver.on_exit(trial_id)

    record = sweep.record(trial_id)
    assert (record.status, record.reason, record.metrics) == ("completed", None, done.metrics)
    assert record.history == {1: epoch(1).metrics, 2: epoch(2).metrics}
    assert sweep.screen.lines == [
        ("started", trial_id),
        ("epoch", trial_id, "", 1),
        ("epoch", trial_id, "", 2),
        ("completed", trial_id),
    ]
    timing = sweep.driver.timings[trial_id]
    assert timing == Timing(wall_s=10.0, train_s=3.0, evaluate_s=1.5, wait_s=0.25)
    assert timing.fixed_s == 10.0 - 3.0 - 1.5 - 0.25


def test_what_is_kept_of_a_completed_trial(clock: Clock) -> None:
    sweep = Sweep(method="unirex-dlm-p")
    job = sweep.job()
    run = sweep.run(job.trial_id)
    flat = job.config.flat()
    assert run["params"] == {key: value for key, value in flat.items() if get_method("unirex-dlm-p").reads(key)}
    assert "loss.comp_weight" not in run["params"]
    assert run["tags"][DATA_DIGEST] == "abc"
    assert len(run["tags"][CONFIG_HASH]) == 12

    sweep.driver.on_message(job.trial_id, result())
    assert set(run["artifacts"]) == {"config.yaml", "rationales.html"}
    page = run["artifacts"]["rationales.html"].decode()
    assert "unirex-dlm-p 0000, seed 0" in page
    assert "test task 81.25, best epoch 2" in page
    assert "great" in page


def test_its_configuration_builds_again(tmp_path: Any) -> None:
    sweep = Sweep()
    job = sweep.job()
    sweep.driver.on_message(job.trial_id, result())
    file = tmp_path / "config.yaml"
    file.write_text(sweep.run(job.trial_id)["artifacts"]["config.yaml"])
    assert build_config(load_yaml(file)) == job.config


def test_an_earlier_stage_is_recorded_apart_and_judged_by_no_rung() -> None:
    sweep = Sweep(method="l2e", rungs=(1,))
    better, worse = sweep.job().trial_id, sweep.job().trial_id
    assert sweep.driver.on_message(better, epoch(1, 0.9))
    # The score would lose at the rung.
    assert sweep.driver.on_message(worse, epoch(1, 0.1, stage="task-model"))
    run = sweep.run(worse)
    assert run["stages"] == {"task-model": {1: epoch(1, 0.1).metrics}}
    assert run["history"] == {}
    assert sweep.screen.lines[-1] == ("epoch", worse, "task-model", 1)
    assert not sweep.driver.on_message(worse, epoch(1, 0.1))
    assert run["history"] == {1: epoch(1, 0.1).metrics}
    assert sweep.record(worse).status == "stopped"


def test_a_trial_that_is_stopped_at_a_rung() -> None:
    sweep = Sweep(rungs=(1,), budget=3)
    better, worse = sweep.job().trial_id, sweep.job().trial_id
    assert sweep.driver.on_message(better, epoch(1, 0.5))
    assert not sweep.driver.on_message(worse, epoch(1, 0.4))
    sweep.driver.on_exit(worse)
    record = sweep.record(worse)
    assert (record.status, record.metrics) == ("stopped", TrialMetrics())
    assert record.reason == "CNRG 0.0000 at epoch 1: rank 2 of 2, the best 1 go on"
    assert record.history == {1: epoch(1, 0.4).metrics}
    artifacts = sweep.run(worse)["artifacts"]
    assert set(artifacts) == {"config.yaml", "rungs.txt"}
    assert artifacts["rungs.txt"] == f"rung.1: {record.reason}\n"
    assert worse not in sweep.driver.timings
    # Its resources are free for the next one.
    assert sweep.job().trial_id == "s1-aa-ig-0002-s0"


def test_a_stopped_trial_that_goes_on_is_running_again_and_ends_again(clock: Clock) -> None:
    sweep = Sweep(rungs=(1,), budget=4, concurrency=4)
    trials = [sweep.job().trial_id for _ in range(4)]
    for trial_id, value in zip(trials, (0.5, 0.4, 0.1, 0.2), strict=True):
        sweep.driver.on_message(trial_id, epoch(1, value))
    second = trials[1]
    for trial_id in trials[1:]:
        sweep.driver.on_exit(trial_id)
    assert sweep.job().trial_id == second  # the best two of four go on by now
    record = sweep.record(second)
    assert (record.status, record.reason) == ("running", None)
    assert sweep.screen.lines[-1] == ("started", second)
    sweep.driver.on_message(second, result())
    sweep.driver.on_exit(second)
    assert sweep.record(second).status == "completed"
    assert sweep.screen.lines[-1] == ("completed", second)
    assert second not in sweep.driver.timings  # what it did before it was stopped is in its seconds
    verdict = "CNRG 0.7500 at epoch 1: rank 2 of 4, the best 2 go on"  # (0.4 - 0.1) / (0.5 - 0.1)
    assert sweep.run(second)["artifacts"]["rungs.txt"] == f"rung.1: {verdict}\n"


NAN = float("nan")
Fail = Callable[[Driver, str], object]


@pytest.mark.parametrize(
    ("fail", "status", "reason"),
    [
        (
            lambda driver, trial: driver.on_message(trial, TrialFailed(reason="ValueError: no")),
            "failed",
            "ValueError: no",
        ),
        (
            lambda driver, trial: driver.on_message(trial, epoch(2, NAN)),
            "failed",
            "dev/comprehensiveness is nan at epoch 2",
        ),
        (lambda driver, trial: driver.on_message(trial, result(value=NAN)), "failed", "dev/comprehensiveness is nan"),
        (lambda driver, trial: driver.on_process_lost(trial, "ActorDiedError: gone"), "lost", "ActorDiedError: gone"),
        (lambda driver, trial: None, "lost", "ended without a result"),
    ],
    ids=["it raises", "an epoch is not finite", "its result is not finite", "its process is lost", "it just ends"],
)
def test_a_trial_that_ends_early(fail: Fail, status: str, reason: str) -> None:
    sweep = Sweep(concurrency=1)
    trial_id = sweep.job().trial_id
    sweep.driver.on_message(trial_id, epoch(1))
    fail(sweep.driver, trial_id)
    sweep.driver.on_exit(trial_id)
    record = sweep.record(trial_id)
    assert (record.status, record.reason, record.metrics) == (status, reason, TrialMetrics())
    assert record.history == {1: epoch(1).metrics}
    assert set(sweep.run(trial_id)["artifacts"]) == {"config.yaml"}
    assert sweep.screen.lines[-1] == (status, trial_id)
    # The sweep continues.
    assert sweep.job().trial_id == "s1-aa-ig-0001-s0"


@pytest.mark.parametrize("value", [NAN, 0.5])
def test_only_an_epoch_that_is_not_finite_ends_a_trial(value: float) -> None:
    sweep = Sweep()
    trial_id = sweep.job().trial_id
    assert sweep.driver.on_message(trial_id, epoch(1, value)) == (value == 0.5)


def test_the_first_end_of_a_trial_counts() -> None:
    sweep = Sweep()
    trial_id = sweep.job().trial_id
    sweep.driver.on_message(trial_id, result())
    sweep.driver.on_process_lost(trial_id, "too late")
    sweep.driver.on_exit(trial_id)
    assert sweep.record(trial_id).status == "completed"
    assert [line[0] for line in sweep.screen.lines] == ["started", "completed"]


def test_a_restarted_process_reports_its_epochs_again() -> None:
    sweep = Sweep(rungs=(1,))
    first, second = sweep.job().trial_id, sweep.job().trial_id
    sweep.driver.on_message(first, epoch(1, 0.5))
    sweep.driver.on_message(second, epoch(1, 0.9))
    # It was judged when it was alone.
    assert sweep.driver.on_message(first, epoch(1, 0.5))
    assert sweep.driver.on_message(first, epoch(2, 0.5))
    assert list(sweep.record(first).history) == [1, 2]


# How many run at once.


def test_it_waits_while_enough_trials_run_and_is_done_when_none_are_left() -> None:
    sweep = Sweep(budget=3, concurrency=2)
    first, second = sweep.job().trial_id, sweep.job().trial_id
    assert sweep.driver.suggest() is Signal.WAIT
    assert sweep.driver.suggest() is Signal.WAIT
    assert len(sweep.sweep.trials()) == 2
    sweep.driver.on_message(first, result())
    # A trial occupies its resources until it has left the cluster.
    assert sweep.driver.suggest() is Signal.WAIT
    sweep.driver.on_exit(first)
    third = sweep.job().trial_id
    for trial_id in (second, third):
        sweep.driver.on_message(trial_id, result())
        sweep.driver.on_exit(trial_id)
    assert sweep.driver.suggest() is Signal.DONE
    assert [record.status for record in sweep.sweep.trials()] == ["completed"] * 3


def test_it_waits_for_first_seeds_that_others_follow() -> None:
    sweep = Sweep(budget=1, seeds=(4, 2), rungs=(1,), concurrency=2)
    first = sweep.job().trial_id
    assert sweep.driver.suggest() is Signal.WAIT
    sweep.driver.on_message(first, result())
    sweep.driver.on_exit(first)
    assert sweep.job().trial_id == "s1-aa-ig-0000-s2"


# Timings.


def test_time_that_was_not_reported_counts_as_fixed(clock: Clock) -> None:
    sweep = Sweep()
    trial_id = sweep.job().trial_id
    clock.now += 4
    sweep.driver.on_message(trial_id, result(time={"train_s": 1.0}))
    sweep.driver.on_exit(trial_id)
    assert sweep.driver.timings[trial_id] == Timing(wall_s=4.0, train_s=1.0, evaluate_s=0.0, wait_s=0.0)
    assert sweep.driver.timings[trial_id].fixed_s == 3.0


def test_timings_are_in_the_order_in_which_trials_ended(clock: Clock) -> None:
    sweep = Sweep()
    first, second = sweep.job().trial_id, sweep.job().trial_id
    for trial_id in (second, first):
        sweep.driver.on_message(trial_id, result())
        sweep.driver.on_exit(trial_id)
    assert list(sweep.driver.timings) == [second, first]


def test_a_resumed_trial_has_its_history_but_no_timing(clock: Clock) -> None:
    killed = Sweep(rungs=(1,))
    trial_id = killed.job().trial_id
    killed.driver.on_message(trial_id, epoch(1))

    sweep = Sweep(rungs=(1,), store=killed.store)
    assert sweep.job().trial_id == trial_id
    other = sweep.job().trial_id
    for running in (trial_id, other):
        sweep.driver.on_message(running, epoch(2))
        sweep.driver.on_message(running, result(time={"train_s": 99.0}))
        sweep.driver.on_exit(running)
    # It reports the seconds before the kill as well.
    assert list(sweep.driver.timings) == [other]
    assert list(sweep.record(trial_id).history) == [1, 2]
    # The tags of its run are no rungs, but what was decided at one is.
    verdict = "CNRG 0.0000 at epoch 1: rank 1 of 1, the best 1 go on"
    assert sweep.run(trial_id)["artifacts"]["rungs.txt"] == f"rung.1: {verdict}\n"
    assert sweep.run(trial_id)["tags"]["rung.1"] == verdict


def test_a_result_without_a_test_score_still_gets_a_page() -> None:
    sweep = Sweep()
    trial_id = sweep.job().trial_id
    sweep.driver.on_message(trial_id, replace(result(), metrics=TrialMetrics(dev=dev(0.5))))
    page = sweep.run(trial_id)["artifacts"]["rationales.html"].decode()
    assert "best epoch" not in page

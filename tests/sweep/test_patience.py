"""A search that ends by its results, or by the clock."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from helpers.memory_store import MemoryStore
from helpers.scheduled import KILLS, METHODS, build, make_extent, world
from helpers.sweep_in_process import the_sweep
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from unirex_ray.errors import StoppedError
from unirex_ray.metrics.table import MAJORITY_P, NRG_METRICS, TrialMetrics
from unirex_ray.sweep.driver import Driver
from unirex_ray.sweep.ends import Stop
from unirex_ray.sweep.finish import SweepOutcome, print_outcome
from unirex_ray.sweep.schedule import Schedule, Signal, SweepExtent
from unirex_ray.sweep.searcher import StudyHistory
from unirex_ray.tracking.records import TrialSpec


class Numbered:
    """Suggests a configuration's own number."""

    def suggest(self, index: int, history: StudyHistory) -> dict[str, float]:
        return {"loss.comp_weight": float(index)}


def make_schedule(patience: int | None, budget: int = 8) -> Schedule:
    extent = SweepExtent(sweep_id="w", budgets={"aa-ig": budget}, seeds=(0,), patience=patience)
    return Schedule(extent, {"aa-ig": Numbered()})


def metrics(value: float, **more: float) -> TrialMetrics:
    return TrialMetrics(dev={m.key: value if m.higher_is_better else -value for m in NRG_METRICS} | more)


def tried(patience: int | None, values: list[float], **more: float) -> int:
    """One at a time."""
    schedule = make_schedule(patience, len(values))
    while isinstance(spec := schedule.next(), TrialSpec):
        schedule.on_complete(spec.trial_id, metrics(values[spec.configuration], **more))
    assert spec is Signal.DONE
    return len(schedule.records)


@pytest.mark.parametrize(
    ("patience", "expected"),
    [(1, 3), (2, 4), (3, 8), (None, 8)],
)
def test_a_search_ends_when_its_last_configurations_bring_none_that_is_selected(
    patience: int | None, expected: int
) -> None:
    assert tried(patience, [0.5, 0.9, 0.3, 0.4, 1.0, 0.2, 0.1, 0.6]) == expected


def test_a_search_that_has_found_no_model_better_than_the_majority_class_goes_on() -> None:
    assert tried(1, [0.5, 0.4, 0.3, 0.2], **{MAJORITY_P.key: 1.0}) == 4


def test_what_still_runs_may_be_selected_and_the_search_go_on() -> None:
    schedule = make_schedule(1)
    first, second, third = (schedule.next() for _ in range(3))
    assert isinstance(first, TrialSpec)
    assert isinstance(second, TrialSpec)
    assert isinstance(third, TrialSpec)
    schedule.on_complete(first.trial_id, metrics(0.5))
    schedule.on_complete(second.trial_id, metrics(0.4))
    assert schedule.next() is Signal.WAIT
    schedule.on_complete(third.trial_id, metrics(0.6))
    fourth = schedule.next()
    assert isinstance(fourth, TrialSpec)
    schedule.on_complete(fourth.trial_id, metrics(0.1))
    assert schedule.next() is Signal.DONE


@settings(deadline=None, max_examples=15)
@given(kills=KILLS, order=st.integers(), concurrency=st.integers(1, 4))
def test_killed_and_resumed_it_ends_all_the_same(kills: list[int], order: int, concurrency: int) -> None:
    extent = replace(make_extent(seeds=(0,), budget=9), patience=2)
    run = world("random", concurrency, extent=extent, order=order)
    for kill in kills:
        run.run(kill_after=kill)
    assert run.run()
    assert set(run.ended.values()) == {1}
    schedule = build(extent, "random", tuple(run.store.values()))
    for method in METHODS:
        used_up = len(schedule.configurations(method)) in (3, 9)  # AA (IG) has three
        assert schedule.has_settled(method) or used_up


def test_a_sweep_says_whose_search_ended_early(sweep: Callable[..., SweepOutcome]) -> None:
    # The grid's values rise, and so do the results.
    outcome = sweep(MemoryStore(), changes={"sweep": {"patience": 1}})
    assert outcome.ended_early == {}
    console = Console(file=io.StringIO(), record=True, width=400)
    print_outcome(replace(outcome, ended_early={"sgt": (4, 9)}), console)
    assert "sgt: 4 of up to 9 configurations were tried" in console.export_text()


def test_a_sweep_ends_early_and_goes_on_with_more_patience(sweep: Callable[..., SweepOutcome]) -> None:
    store = MemoryStore()

    def falling(driver: Driver, *_: object, **__: object) -> None:
        while not isinstance(job := driver.suggest(), Signal):
            results = metrics(1.0 - 1e4 * job.config.train.learning_rate)
            driver._end(driver._schedule.on_complete(job.trial_id, results))
            driver._live.pop(job.trial_id)

    outcome = sweep(store, trials=falling, changes={"sweep": {"patience": 1}})
    assert outcome.status == "completed"
    assert outcome.ended_early == {"aa-ig": (2, 3), "sgt": (2, 3)}
    with pytest.raises(ValueError, match=r"sweep\.patience was 1, now 0|greater than or equal to 1"):
        sweep(store, trials=falling, changes={"sweep": {"patience": 0}}, resume=True)
    grown = sweep(store, trials=falling, changes={"sweep": {"patience": None}}, resume=True)
    assert grown.ended_early == {}
    assert len(grown.rows) == 6
    with pytest.raises(ValueError, match=r"sweep\.patience was null, now 4"):
        sweep(store, trials=falling, changes={"sweep": {"patience": 4}}, resume=True)


def test_time_is_over_at_the_next_look_and_no_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("unirex_ray.sweep.ends.time.monotonic", lambda: now[0])
    stop, never = Stop(0.5), Stop()
    now[0] += 1799
    for one in (stop, never):
        one.look_at_the_clock()
        one.check()
    now[0] += 1
    stop.check()  # a sweep that has just come to its end is not stopped
    never.look_at_the_clock()
    never.check()
    stop.look_at_the_clock()
    with pytest.raises(StoppedError, match=r"stopped by sweep\.hours = 0\.5") as caught:
        stop.check()
    assert caught.value.exit_code == 3


def test_a_sweep_stopped_by_the_clock_says_how_to_go_on(sweep: Callable[..., SweepOutcome]) -> None:
    store = MemoryStore()

    def one_trial(driver: Driver, *_: object, stop: Stop, **__: object) -> None:
        driver.suggest()
        stop.look_at_the_clock()
        stop.check()

    with pytest.raises(StoppedError) as caught:
        sweep(store, trials=one_trial, changes={"sweep": {"hours": 1e-12}}, go_on="again --resume")
    assert str(caught.value) == "stopped by sweep.hours = 1e-12 after 0 of 6 trials\ngo on with: again --resume"
    assert caught.value.exit_code == 3
    assert the_sweep(store)["tags"]["status"] == "failed"
    assert sweep(store, resume=True).status == "completed"

import math
from collections import Counter
from dataclasses import replace

import pytest
from helpers.marks import slow
from helpers.scheduled import (
    KILLS,
    METHODS,
    SPACE,
    build,
    make_extent,
    outcome,
    undisturbed_outcome,
    world,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.config import Config
from unirex_ray.metrics.table import NRG_METRICS, STANDARD_ERRORS, TrialMetrics
from unirex_ray.sweep.schedule import Schedule, Signal, SweepExtent
from unirex_ray.sweep.searcher import StudyHistory, identity, make_searcher
from unirex_ray.sweep.space import parse_space
from unirex_ray.tracking.records import TrialRecord, TrialSpec


@pytest.mark.parametrize(("kind", "most"), [("random", 5), *slow(("grid", 5), ("tpe", 1))])
@settings(deadline=None, max_examples=12)
@given(data=st.data(), kills=KILLS, order=st.integers())
def test_kill_and_resume_loses_nothing_and_repeats_nothing(
    kind: str, most: int, data: st.DataObject, kills: list[int], order: int
) -> None:
    waiting = data.draw(st.sets(st.tuples(st.sampled_from(METHODS), st.sampled_from((0, 1)))))
    killed = world(
        kind, data.draw(st.integers(1, most)), order=order, waits=lambda spec: (spec.method, spec.seed) in waiting
    )
    for kill in kills:
        killed.run(kill_after=kill)
    assert killed.run()
    assert outcome(killed) == undisturbed_outcome(kind)
    assert set(killed.ended.values()) == {1}
    # aa-ig has three configurations only, the others use their whole budget
    assert Counter(spec.method for spec in (r.spec for r in killed.store.values())) == {
        "aa-ig": 6,
        "unirex-dlm-p": 8,
        "unirex-slm-fp": 8,
    }


@pytest.mark.parametrize("rungs", [(), (1,)])
def test_failed_trials_do_not_block(rungs: tuple[int, ...]) -> None:
    run = world(
        "tpe", 2, extent=make_extent(rungs=rungs), fails=lambda spec: spec.configuration == 1 and spec.seed == 0
    )
    assert run.run()
    failed = [record for record in run.store.values() if record.status == "failed"]
    assert {record.spec.method for record in failed} == set(METHODS)
    assert all(record.reason == "boom" for record in failed)


@settings(deadline=None, max_examples=10)
@given(st.sets(st.tuples(st.sampled_from(METHODS), st.integers(0, 3), st.integers(0, 1))), st.integers())
def test_lost_trials_go_on_when_the_sweep_is_resumed(lost: set[tuple[str, int, int]], order: int) -> None:
    run = world("random", 2, order=order, loses=lambda spec: (spec.method, spec.configuration, spec.seed) in lost)
    assert run.run()
    assert {r.spec.trial_id for r in run.store.values() if r.status == "lost"} == {
        spec.trial_id for spec in run.emitted if (spec.method, spec.configuration, spec.seed) in lost
    }
    lost.clear()
    assert run.run()
    assert outcome(run) == undisturbed_outcome("random")
    assert not any(record.reason for record in run.store.values())


def test_order_without_rungs() -> None:
    run = world("grid", 1, extent=make_extent(budget=2))
    run.run()
    assert [(spec.method, spec.configuration, spec.seed) for spec in run.emitted] == [
        (method, configuration, seed) for configuration in (0, 1) for method in METHODS for seed in (0, 1)
    ]
    assert run.emitted[0].trial_id == "w-aa-ig-0000-s0"


def test_running_trials_come_first_on_resume_with_their_recorded_parameters() -> None:
    odd = {"train.learning_rate": 2.0e-5, "loss.plaus_weight": 0.5}
    spec = TrialSpec(trial_id="w-unirex-dlm-p-0002-s1", method="unirex-dlm-p", configuration=2, seed=1, parameters=odd)
    schedule = build(make_extent(), "random", (TrialRecord(spec=spec, status="running"),))
    assert schedule.next() == spec
    other_seed = schedule.next()
    assert (other_seed.trial_id, other_seed.parameters) == ("w-unirex-dlm-p-0002-s0", odd)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_fails_the_trial_unless_it_is_on_test(value: float) -> None:
    schedule = build(make_extent(), "random")
    first, second = schedule.next(), schedule.next()
    failed = schedule.on_complete(first.trial_id, TrialMetrics(dev={"auprc": value}, test={"auprc": 1.0}))
    assert (failed.status, failed.reason) == ("failed", f"dev/auprc is {value}")
    failed = schedule.on_report(second.trial_id, 3, TrialMetrics(dev={"auprc": value}))
    assert (failed.status, failed.reason) == ("failed", f"dev/auprc is {value} at epoch 3")
    third = schedule.next()
    kept = schedule.on_complete(third.trial_id, TrialMetrics(dev={"auprc": 1.0}, test={"auprc": value}))
    assert kept.status == "completed"


def test_a_search_follows_differences_within_noise_as_well() -> None:
    histories = []

    class Watching:
        def suggest(self, index: int, history: StudyHistory) -> dict:
            histories.append(history)
            return {"loss.comp_weight": float(index)}

    extent = SweepExtent(sweep_id="w", budgets={"aa-ig": 2}, seeds=(0,))
    schedule = Schedule(extent, {"aa-ig": Watching()})
    noise = {STANDARD_ERRORS[metric.key].key: 100.0 for metric in NRG_METRICS}
    schedule.on_complete(schedule.next().trial_id, TrialMetrics(dev={m.key: 1.0 for m in NRG_METRICS} | noise))
    schedule.next()
    assert [*histories[1].population[0].metrics] == [metric.key for metric in NRG_METRICS]


@pytest.mark.parametrize("kind", ["grid", *slow("random", "tpe")])
@settings(deadline=None, max_examples=6)
@given(order=st.integers(), kill=st.integers(0, 60))
def test_a_larger_extent_adds_trials_and_repeats_none(kind: str, order: int, kill: int) -> None:
    small = world(kind, extent=make_extent(seeds=(0,), budget=2), order=order)
    assert small.run()
    before = dict(small.store)
    grown = replace(small, extent=make_extent(seeds=(0, 1), budget=4))
    if not grown.run(kill_after=kill):
        assert grown.run()
    assert all(grown.store[trial_id] == record for trial_id, record in before.items())
    assert set(grown.ended.values()) == {1}
    configurations = {
        (s.method, s.configuration): identity(s.parameters) for s in (r.spec for r in grown.store.values())
    }
    assert len(grown.store) == 2 * len(configurations) == 2 * (3 + 4 + 4)  # AA (IG) has three
    assert len({(method, text) for (method, _), text in configurations.items()}) == len(configurations)


def test_a_trial_that_would_wait_lets_the_next_one_pass() -> None:
    budgets = {"aa-ig": 1, "aa-grad": 1, "sgt": 2}
    extent = SweepExtent(sweep_id="w", budgets=budgets, seeds=(0,))
    rates = parse_space({"parameters": {"train.learning_rate": {"choice": [1e-5, 2e-5]}}}, "s")
    space = {m: make_searcher("grid", rates.for_method(m, Config()), budget=2) for m in budgets}
    schedule = Schedule(extent, space)

    def emitted(*waiting: str) -> tuple[str, int]:
        spec = schedule.next(lambda spec: spec.method in waiting)
        return spec.method, spec.configuration

    assert emitted() == ("aa-ig", 0)
    assert emitted("aa-grad") == ("sgt", 0)
    # Its turn is not lost, and where all others would wait as well, it starts.
    assert emitted("sgt") == ("aa-grad", 0)
    assert emitted("sgt") == ("sgt", 1)
    # Interrupted trials go first, in the same way.
    again = Schedule(extent, space, schedule.records)
    assert [again.next(lambda spec: spec.method == "aa-ig").method for _ in range(4)] == [
        "aa-grad",
        "sgt",
        "sgt",
        "aa-ig",
    ]
    assert again.next() is Signal.DONE


def test_a_configuration_gets_all_its_seeds_before_the_next_one_although_one_of_them_waits() -> None:
    space = parse_space(SPACE, "s").for_method("unirex-slm-p", Config())
    extent = SweepExtent(sweep_id="w", budgets={"unirex-slm-p": 2}, seeds=(0, 1, 2))
    schedule = Schedule(extent, {"unirex-slm-p": make_searcher("grid", space, budget=2)})
    emitted = []
    while isinstance(spec := schedule.next(lambda spec: (spec.configuration, spec.seed) == (0, 1)), TrialSpec):
        emitted.append((spec.configuration, spec.seed))
    assert emitted == [(0, 0), (0, 2), (0, 1), (1, 0), (1, 1), (1, 2)]

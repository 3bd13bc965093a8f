import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import pytest
from helpers.marks import slow
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.config import Config
from unirex_ray.metrics.nrg import score_population
from unirex_ray.metrics.table import NRG_METRICS, STANDARD_ERRORS, TrialMetrics, nrg_metrics
from unirex_ray.sweep.schedule import Schedule, Signal, SweepExtent
from unirex_ray.sweep.searcher import StudyHistory, identity, make_searcher
from unirex_ray.sweep.space import parse_space
from unirex_ray.tracking.records import TrialRecord, TrialSpec

METHODS = ("aa-ig", "unirex-dlm-p", "unirex-slm-fp")
SPACE = {
    "parameters": {
        "train.learning_rate": {"choice": [1.0e-5, 2.0e-5, 5.0e-5]},
        "loss.comp_weight": {"choice": [0.5, 0.7, 1.0]},
        "loss.plaus_weight": {"choice": [0.5, 1.0]},
    }
}
EPOCHS = 4


def make_extent(seeds: tuple[int, ...] = (0, 1), budget: int = 4, rungs: tuple[int, ...] = ()) -> SweepExtent:
    return SweepExtent(sweep_id="w", budgets=dict.fromkeys(METHODS, budget), seeds=seeds, rungs=rungs, reduction=2)


def build(extent: SweepExtent, kind: str, records: tuple[TrialRecord, ...] = ()) -> Schedule:
    space = parse_space(SPACE, "test").checked(Config())
    searchers = {
        method: make_searcher(kind, space.for_method(method, Config()), budget=budget, seed=7)
        for method, budget in extent.budgets.items()
    }
    return Schedule(extent, searchers, records)


def dev_metrics(spec: TrialSpec, epoch: int) -> TrialMetrics:
    rng = random.Random(f"{spec.method} {identity(spec.parameters)} {spec.seed} {epoch}")
    return TrialMetrics(dev={metric.key: rng.random() for metric in NRG_METRICS})


@dataclass
class World:
    """Runs trials in a random order of events and writes down what a store would know."""

    extent: SweepExtent
    kind: str
    concurrency: int
    rng: random.Random
    fails: Callable[[TrialSpec], bool] = lambda spec: False
    loses: Callable[[TrialSpec], bool] = lambda spec: False
    waits: Callable[[TrialSpec], bool] = lambda spec: False
    store: dict[str, TrialRecord] = field(default_factory=dict)
    emitted: list[TrialSpec] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    promoted: Counter[str] = field(default_factory=Counter)

    def run(self, kill_after: int | None = None) -> bool:
        """Go on from the store until the sweep is done (True) or the driver is killed (False)."""
        schedule = build(self.extent, self.kind, tuple(self.store.values()))
        live: dict[str, tuple[TrialSpec, int]] = {}
        done = False
        events = 0
        while not done or live:
            while not done and len(live) < self.concurrency:
                spec = schedule.next(self.waits)
                if spec is Signal.WAIT:
                    assert live, "waiting for nothing"
                    break
                if isinstance(spec, Signal):
                    done = True
                    break
                if events == kill_after:
                    return False  # killed after the suggestion, before the store knew
                live[spec.trial_id] = (spec, 0)
                self.emitted.append(spec)
                known = self.store.get(spec.trial_id, TrialRecord(spec=spec, status="running"))
                self.promoted[spec.trial_id] += known.status == "stopped"
                self.store[spec.trial_id] = replace(known, status="running", reason=None)
                events += 1
            if not live:
                continue
            if events == kill_after:
                return False
            events += 1
            trial_id = self.rng.choice(sorted(live))
            spec, epoch = live[trial_id]
            if self.fails(spec):
                record = schedule.on_fail(trial_id, "boom")
            elif self.loses(spec):
                record = schedule.on_lost(trial_id, "node gone")
            elif epoch < EPOCHS:
                live[trial_id] = (spec, epoch + 1)
                record = schedule.on_report(trial_id, epoch + 1, dev_metrics(spec, epoch + 1))
            else:
                record = schedule.on_complete(trial_id, dev_metrics(spec, EPOCHS))
            if events == kill_after:
                return False  # killed after the event, before the store knew
            self.store[trial_id] = record
            if record.status != "running":
                del live[trial_id]
                self.ended[trial_id] += 1
        return True


def world(
    kind: str = "random", concurrency: int = 1, *, extent: SweepExtent | None = None, order: int = 0, **more
) -> World:
    return World(extent=extent or make_extent(), kind=kind, concurrency=concurrency, rng=random.Random(order), **more)


def outcome(finished: World) -> set[tuple[str, int, int, str, str]]:
    return {
        (s.method, s.configuration, s.seed, identity(s.parameters), record.status)
        for record in finished.store.values()
        for s in [record.spec]
    }


@cache
def undisturbed_outcome(kind: str) -> set[tuple[str, int, int, str, str]]:
    undisturbed = world(kind)
    assert undisturbed.run()
    return outcome(undisturbed)


KILLS = st.lists(st.integers(0, 60), max_size=4)


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


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), KILLS, st.integers(), st.sampled_from(["random", "random", "tpe"]))
@pytest.mark.slow
def test_with_rungs_only_survivors_run_their_other_seeds(
    concurrency: int, kills: list[int], order: int, kind: str
) -> None:
    extent = make_extent(seeds=(3, 1), rungs=(1, 3))
    run = world(kind, concurrency, extent=extent, order=order)
    for kill in kills:
        run.run(kill_after=kill)
    assert run.run()
    assert all(run.ended[trial_id] == 1 + run.promoted[trial_id] for trial_id in run.store)
    records = {(r.spec.method, r.spec.configuration, r.spec.seed): r for r in run.store.values()}
    for (method, index, seed), record in records.items():
        assert record.status in ("completed", "stopped")
        if seed == 3:
            assert ((method, index, 1) in records) == (record.status == "completed")
        else:
            assert record.status == "completed"
    firsts = Counter(method for method, _, seed in records if seed == 3)
    assert firsts == {"aa-ig": 3, "unirex-dlm-p": 4, "unirex-slm-fp": 4}
    # Whatever the order of events, none that is among the best of its rung in the end has been left behind.
    for method in METHODS:
        for epoch in extent.rungs:
            of_rung = {
                r.spec.trial_id: nrg_metrics(r.history[epoch].dev)
                for r in run.store.values()
                if (r.spec.method, r.spec.seed) == (method, 3) and epoch in r.history
            }
            scored = score_population(of_rung)
            kept = math.ceil(len(of_rung) / extent.reduction)
            best = [trial_id for _, trial_id in sorted(zip(scored.cnrg, scored.members, strict=True))[-kept:]]
            assert all(run.store[trial_id].history.keys() - range(1, epoch + 1) for trial_id in best)


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


def test_other_seeds_wait_for_a_first_seed_that_was_lost_where_there_are_rungs() -> None:
    lost = {("aa-ig", 0)}
    run = world(
        "grid", extent=make_extent(rungs=(2,)), loses=lambda s: (s.method, s.configuration) in lost and s.seed == 0
    )
    assert run.run()
    trials = {(r.spec.method, r.spec.configuration, r.spec.seed): r.status for r in run.store.values()}
    assert trials["aa-ig", 0, 0] == "lost"
    assert ("aa-ig", 0, 1) not in trials
    lost.clear()
    assert run.run()
    trials = {(r.spec.method, r.spec.configuration, r.spec.seed): r.status for r in run.store.values()}
    assert (trials["aa-ig", 0, 0] == "completed") == (("aa-ig", 0, 1) in trials)


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


def test_rung_is_rescored_over_all_first_seeds_of_the_method() -> None:
    schedule = build(make_extent(seeds=(0,), rungs=(2,)), "grid")
    specs = [s for s in (schedule.next() for _ in range(11)) if s.method == "unirex-dlm-p"]

    def report(number: int, value: float) -> TrialRecord:
        dev = {metric.key: value if metric.higher_is_better else 0.5 for metric in NRG_METRICS}
        return schedule.on_report(specs[number].trial_id, 2, TrialMetrics(dev=dev))

    assert report(0, 0.5).status == "running"
    low = report(1, 0.4)
    # of two members, the lower one has comp, AUPRC, TF1 and task at 0, sufficiency constant and so 0
    assert (low.status, low.reason) == ("stopped", "CNRG 0.0000 at epoch 2: rank 2 of 2, the best 1 go on")
    assert low.tags == {"rung.2": low.reason}
    # FNRG (0.75 + 0) / 2, PNRG and TNRG 0.75, relative to [0.4, 0.8] with the third at 0.7; 0.5 drops to 0.25
    assert report(2, 0.8).status == "running"
    middle = report(3, 0.7)
    assert middle.tags["rung.2"] == "CNRG 0.6250 at epoch 2: rank 2 of 4, the best 2 go on"
    again = TrialMetrics(dev={"auprc": 0.0})
    assert schedule.on_report(specs[3].trial_id, 2, again).status == "running"  # judged once
    assert schedule.on_complete(specs[1].trial_id, again).status == "stopped"  # too late


@pytest.mark.parametrize("reported", [1, 2, 3])
def test_a_trial_whose_driver_ended_before_the_verdict_of_a_rung_is_judged_when_it_reports_again(reported: int) -> None:
    """At epoch 2; one that had gone on behind it is not judged twice."""
    extent = make_extent(seeds=(0,), rungs=(2,))
    good, bad = ({m.key: v if m.higher_is_better else 1 - v for m in NRG_METRICS} for v in (0.9, 0.1))
    first = build(extent, "grid")
    specs = [spec for _ in range(4) if isinstance(spec := first.next(), TrialSpec) and spec.method == METHODS[0]]
    history = {epoch: TrialMetrics(dev=bad) for epoch in range(1, reported + 1)}
    loser = TrialRecord(spec=specs[1], status="running", history=history)
    winner = TrialRecord(spec=specs[0], status="completed", history={2: TrialMetrics(dev=good)})
    again = build(extent, "grid", (winner, loser))
    verdict = again.on_report(loser.spec.trial_id, 2, TrialMetrics(dev=bad))
    assert verdict.status == ("running" if reported == 3 else "stopped")
    # One that was told to go on there goes on, whoever has come since.
    survivor = replace(loser, tags={"rung.2": "rank 1 of 1, the best 1 go on"})
    again = build(extent, "grid", (winner, survivor))
    assert again.verdicts(survivor.spec.trial_id) == survivor.tags
    assert again.on_report(survivor.spec.trial_id, 2, TrialMetrics(dev=bad)).status == "running"


def test_a_stopped_trial_goes_on_when_nothing_else_is_left_and_it_is_among_the_best_by_now() -> None:
    extent = SweepExtent(sweep_id="w", budgets={"unirex-dlm-p": 5}, seeds=(0, 1), rungs=(1, 2), reduction=2)
    schedule = build(extent, "grid")

    def report(spec: TrialSpec, epoch: int, value: float) -> str:
        dev = {metric.key: value if metric.higher_is_better else 0.5 for metric in NRG_METRICS}
        return schedule.on_report(spec.trial_id, epoch, TrialMetrics(dev=dev)).status

    first, second = schedule.next(), schedule.next()
    assert (report(first, 1, 0.5), report(second, 1, 0.4)) == ("running", "stopped")
    third, fourth = schedule.next(), schedule.next()  # before anybody is promoted
    assert (report(third, 1, 0.1), report(fourth, 1, 0.2)) == ("stopped", "stopped")
    fifth = schedule.next()
    assert fifth.configuration == 4
    assert schedule.next() == second
    record = next(record for record in schedule.records if record.spec == second)
    assert (record.status, record.reason) == ("running", None)
    # FNRG 0.375 with sufficiency constant, PNRG and TNRG 0.75
    assert record.tags == {"rung.1": "CNRG 0.6250 at epoch 1: rank 2 of 4, the best 2 go on"}
    assert schedule.next() is Signal.WAIT  # the fifth may yet move the scale
    assert report(fifth, 1, 0.0) == "stopped"
    assert schedule.next() == fourth  # three of five
    assert report(second, 1, 0.0) == "running"  # it was judged there, and keeps what it had
    assert (report(first, 2, 0.5), report(fourth, 2, 0.1), report(second, 2, 0.0)) == ("running", "stopped", "stopped")
    assert schedule.next() == fourth  # two of three; the second one stays where it lost last
    schedule.on_complete(first.trial_id, dev_metrics(first, 4))
    assert schedule.next().seed == 1
    again = build(extent, "grid", schedule.records)
    assert {spec.trial_id for spec in (again.next(), again.next())} == {fourth.trial_id, "w-unirex-dlm-p-0000-s1"}
    schedule.on_complete(fourth.trial_id, dev_metrics(fourth, 4))
    assert (schedule.next().trial_id, schedule.next()) == ("w-unirex-dlm-p-0003-s1", Signal.DONE)


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

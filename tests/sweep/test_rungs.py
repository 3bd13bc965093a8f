"""What a schedule decides at rungs."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from helpers.scheduled import (
    KILLS,
    METHODS,
    build,
    dev_metrics,
    make_extent,
    world,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.metrics.nrg import score_population
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics, nrg_metrics
from unirex_ray.sweep.schedule import Signal, SweepExtent
from unirex_ray.tracking.records import TrialRecord, TrialSpec


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

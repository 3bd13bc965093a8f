"""How many go on at a rung: the best ceil(n/reduction) of the n first seeds that have reached it so far."""

import pytest

from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.sweep.schedule import Schedule, SweepExtent
from unirex_ray.tracking.records import TrialRecord, TrialSpec

METHODS, SEEDS = ("aa-ig", "unirex-slm-fp"), (4, 2)


def rung(reduction: int, size: int = 7) -> Schedule:
    """Two methods' trials, all running, with a rung at epoch 1."""
    extent = SweepExtent(
        sweep_id="w", budgets=dict.fromkeys(METHODS, size), seeds=SEEDS, rungs=(1,), reduction=reduction
    )
    running = [
        TrialRecord(
            spec=TrialSpec(
                trial_id=extent.trial_id(method, number, seed),
                method=method,
                configuration=number,
                seed=seed,
                parameters={},
            ),
            status="running",
        )
        for method in METHODS
        for number in range(size)
        for seed in SEEDS
    ]
    return Schedule(extent, {}, running)


def reach(schedule: Schedule, number: int, value: float, *, method: str = "aa-ig", seed: int = SEEDS[0]) -> TrialRecord:
    """A trial reports every metric as good as `value`, in [0, 1]."""
    metrics = TrialMetrics(dev={m.key: value if m.higher_is_better else 1 - value for m in NRG_METRICS})
    return schedule.on_report(f"w-{method}-{number:04d}-s{seed}", 1, metrics)


@pytest.mark.parametrize("reduction", [2, 3])
@pytest.mark.parametrize("reached", range(1, 8))
def test_as_many_go_on_as_the_share_rounded_up(reduction: int, reached: int) -> None:
    share = next(size for size in range(reached + 1) if size * reduction >= reached)
    values = [0.1 * (1 + number) for number in range(reached)]
    for own in values:
        schedule = rung(reduction)
        for number, value in enumerate(v for v in values if v != own):
            reach(schedule, number, value)
        last = reach(schedule, reached - 1, own)
        best_first = sorted(values, reverse=True)
        assert last.status == ("running" if own in best_first[:share] else "stopped")
        rank = 1 + best_first.index(own)
        assert last.tags["rung.1"].endswith(f"rank {rank} of {reached}, the best {share} go on")


def test_trials_that_are_equal_share_the_better_rank() -> None:
    schedule = rung(reduction=3)
    assert [reach(schedule, number, 0.5).status for number in range(7)] == ["running"] * 7
    assert reach(rung(reduction=3), 0, 0.5).status == "running"


def test_other_methods_other_seeds_and_failed_trials_are_not_counted() -> None:
    schedule = rung(reduction=2)
    for number in range(3):
        reach(schedule, number, 0.9, method="unirex-slm-fp")
        assert reach(schedule, number, 0.9, seed=SEEDS[1]).tags == {}
    reach(schedule, 0, 0.9)
    schedule.on_fail("w-aa-ig-0000-s4", "its worker was lost")
    assert reach(schedule, 1, 0.2).status == "running"
    last = reach(schedule, 2, 0.1)
    assert (last.status, last.tags["rung.1"].split(": ")[1]) == ("stopped", "rank 2 of 2, the best 1 go on")


def test_trials_that_were_stopped_or_have_completed_still_count() -> None:
    schedule = rung(reduction=2)
    reach(schedule, 0, 0.5)
    schedule.on_complete("w-aa-ig-0000-s4", TrialMetrics(dev={"auprc": 1.0}))
    assert reach(schedule, 1, 0.1).status == "stopped"
    last = reach(schedule, 2, 0.4)
    assert (last.status, last.tags["rung.1"].split(": ")[1]) == ("running", "rank 2 of 3, the best 2 go on")

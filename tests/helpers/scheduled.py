"""Schedules over a small grid, and a world that runs their trials in any order."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

from hypothesis import strategies as st

from unirex_ray.config import Config
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.sweep.schedule import Schedule, Signal, SweepExtent
from unirex_ray.sweep.searcher import identity, make_searcher
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

"""What a sweep's schedule and searcher cost, at any number of trials."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from unirex_ray.analysis.selection import configurations, rank_variants
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.sweep.schedule import Schedule, SweepExtent
from unirex_ray.sweep.searcher import make_searcher
from unirex_ray.sweep.space import MethodSpace, Parameter
from unirex_ray.tracking.records import TrialRecord, TrialSpec

_METHOD = "unirex-slm-fp"
_KEYS = ("loss.comp_weight", "loss.suff_weight", "loss.plaus_weight")
_RUNG = 2
_RUNS = 5

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class SearchCost:
    """Median milliseconds of a sweep's schedule and searcher, lower is better.

    Attributes:
        trials: that have ended, half of them completed and the others stopped at a rung.
        suggestion_ms: of the next trial where the searcher is asked for a configuration (TPE, three weights).
        next_ms: of the next trial where it is another seed.
        report_ms: of a report at a rung.
        compare_ms: of scoring and ranking all configurations.
    """

    trials: int
    suggestion_ms: float
    next_ms: float
    report_ms: float
    compare_ms: float


def measure_search(trials: int) -> SearchCost:
    """Go on with a sweep of made-up results.

    Args:
        trials: that have ended, an even number.
    """
    draw = random.Random(0)
    seeds = (0, 1)
    extent = SweepExtent(sweep_id="benchmark", budgets={_METHOD: trials + _RUNS}, seeds=seeds, rungs=(_RUNG,))
    parameters = tuple(Parameter(key=key, kind="uniform", values=(0.1, 1.0)) for key in _KEYS)
    searcher = make_searcher("tpe", MethodSpace(method=_METHOD, parameters=parameters), budget=trials + _RUNS)
    schedule = Schedule(extent, {_METHOD: searcher}, list(_ended(extent, trials, draw)))
    seconds: dict[str, list[float]] = {"suggestion": [], "next": [], "report": [], "compare": []}
    for run in range(_RUNS):
        first = _timed(seconds["suggestion"], schedule.next)
        assert isinstance(first, TrialSpec)
        best = _metrics(draw, lift=1.0 + run)
        at_rung = _timed(seconds["report"], partial(schedule.on_report, first.trial_id, _RUNG, best))
        assert at_rung.status == "running"  # so that its other seed is due
        schedule.on_complete(first.trial_id, best)
        second = _timed(seconds["next"], schedule.next)
        assert isinstance(second, TrialSpec)
        assert (first.seed, second.seed) == seeds
        schedule.on_complete(second.trial_id, best)
        _timed(seconds["compare"], lambda: rank_variants(configurations(schedule.records, seeds=seeds)[_METHOD]))
    medians = {f"{name}_ms": 1000 * statistics.median(values) for name, values in seconds.items()}
    return SearchCost(trials=trials, **medians)


def _ended(extent: SweepExtent, trials: int, draw: random.Random) -> Iterator[TrialRecord]:
    """Two seeds of a configuration that completed, two configurations that were stopped, and so on."""
    configuration = -1
    parameters: dict[str, float] = {}
    for index in range(trials):
        seed = int(index % 4 == 1)
        if not seed:
            configuration += 1
            parameters = {key: draw.uniform(0.1, 1.0) for key in _KEYS}
        metrics, completed = _metrics(draw), index % 4 < 2
        yield TrialRecord(
            spec=TrialSpec(
                trial_id=extent.trial_id(_METHOD, configuration, seed),
                method=_METHOD,
                configuration=configuration,
                seed=seed,
                parameters=parameters,
            ),
            status="completed" if completed else "stopped",
            metrics=metrics if completed else TrialMetrics(),
            history={_RUNG: metrics},
        )


def _metrics(draw: random.Random, lift: float = 0.0) -> TrialMetrics:
    dev = {m.key: draw.random() + (lift if m.higher_is_better else -lift) for m in NRG_METRICS}
    return TrialMetrics(dev=dev)


def _timed(seconds: list[float], action: Callable[[], _T]) -> _T:
    begun = time.perf_counter()
    result = action()
    seconds.append(time.perf_counter() - begun)
    return result

"""Every other method beside one of them, by raw metrics: also those that NRG does not count among the competitors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unirex_ray.analysis.certainty import Interval, interval, read_results
from unirex_ray.analysis.references import same_models
from unirex_ray.analysis.selection import Configuration
from unirex_ray.errors import UserError
from unirex_ray.metrics.bootstrap import Results, bootstrap
from unirex_ray.metrics.instances import mean_metrics
from unirex_ray.metrics.nrg import mean_over_seeds
from unirex_ray.metrics.table import NRG_METRICS, Metric
from unirex_ray.tracking.records import TrialRecord

_OTHER = "the other one"
_MINUS = np.array([1.0, -1.0])


@dataclass(frozen=True, kw_only=True)
class Beside:
    """One configuration beside the baseline.

    Attributes:
        differences: its mean on test minus the baseline's, and the 95 % percentile interval of that over instances and
            seeds, by key of the raw metrics that both have.
    """

    configuration: Configuration
    differences: Mapping[str, tuple[float, Interval]]

    @property
    def better(self) -> tuple[Metric, ...]:
        """Metrics whose interval has it ahead of the baseline."""
        return tuple(
            metric for metric, low, high in self._bounds() if (low > 0 if metric.higher_is_better else high < 0)
        )

    @property
    def worse(self) -> tuple[Metric, ...]:
        """Metrics whose interval has it behind the baseline."""
        return tuple(
            metric for metric, low, high in self._bounds() if (high < 0 if metric.higher_is_better else low > 0)
        )

    def _bounds(self) -> Iterator[tuple[Metric, float, float]]:
        known = (metric for metric in NRG_METRICS if metric.key in self.differences)
        yield from ((metric, *self.differences[metric.key][1]) for metric in known)


@dataclass(frozen=True, kw_only=True)
class AgainstBaseline:
    """All methods beside one.

    Attributes:
        baseline: its selected configuration.
        rows: the baseline's other configurations, then the other methods' selected ones.
        instances: of test.
        seeds: of each configuration, increasing; one seed says nothing of how far another one would move it.
        without: methods that cannot be compared, in words why.
    """

    baseline: Configuration
    rows: tuple[Beside, ...]
    instances: int
    seeds: tuple[int, ...]
    without: Mapping[str, str]


def require_compared(baseline: str, methods: Collection[str]) -> None:
    """Refuse a baseline that is not among the compared methods.

    Raises:
        UserError: then.
    """
    if baseline not in methods:
        raise UserError(f"--baseline={baseline}: no complete configuration of it; there are: {', '.join(methods)}")


def against_baseline(
    baseline: str,
    selected: Mapping[str, Configuration],
    variants: Mapping[str, Sequence[Configuration]],
    read: Callable[[TrialRecord], bytes | None],
    *,
    seed: int = 0,
) -> AgainstBaseline:
    """Differences to a method in every raw metric.

    Instances are paired, and so are seeds where both explain the same task models.

    Args:
        baseline: a method.
        selected: each method's configuration, scored or not.
        variants: every complete configuration by method.
        read: see `read_results`.
        seed: of the draws.

    Raises:
        UserError: where the method was not compared, or has no results by instance.
    """
    require_compared(baseline, selected)
    chosen = selected[baseline]
    found, why_none = read_results(read, {baseline: chosen})
    if why_none:
        raise UserError(f"--baseline={baseline}: {why_none}")
    ours = found[baseline]
    own = [each for each in variants[baseline] if each.key != chosen.key]
    rows, without, seeds = list[Beside](), dict[str, str](), {len(ours)}
    for configuration in (*own, *(each for method, each in selected.items() if method != baseline)):
        pair, why_none = read_results(read, {_OTHER: configuration, baseline: chosen})
        if why_none:
            without[configuration.method] = why_none
        else:
            rows.append(Beside(configuration=configuration, differences=_differences(pair, seed)))
            seeds.add(len(configuration.records))
    return AgainstBaseline(
        baseline=chosen, rows=tuple(rows), instances=len(ours[0]), seeds=tuple(sorted(seeds)), without=without
    )


def _differences(pair: Results, seed: int) -> dict[str, tuple[float, Interval]]:
    theirs, ours = (mean_over_seeds([mean_metrics(run) for run in runs]) for runs in pair.values())
    drawn = bootstrap(pair, seed=seed, same_models=same_models(*pair.values())).raw
    return {
        metric.key: (theirs[metric.key] - ours[metric.key], interval(drawn[metric.key] @ _MINUS))
        for metric in NRG_METRICS
        if metric.key in drawn
    }

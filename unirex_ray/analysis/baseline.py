"""Every other method beside one of them, by raw metrics: also those that NRG does not count among the competitors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from unirex_ray.analysis.certainty import Interval, Pair, interval, read_results
from unirex_ray.analysis.construction import by_construction
from unirex_ray.analysis.selection import Configuration
from unirex_ray.errors import UserError, did_you_mean
from unirex_ray.metrics.bootstrap import Results, bootstrap
from unirex_ray.metrics.table import NRG_METRICS, Metric
from unirex_ray.tracking.records import TrialRecord

_OTHER = "the other one"


@dataclass(frozen=True, kw_only=True)
class Beside:
    """One configuration beside the baseline.

    Attributes:
        differences: its mean on test minus the baseline's, and the 95 % percentile interval of that over instances and
            seeds, by key of the raw metrics that both have.
        better, worse: metrics whose interval has it ahead of the baseline, or behind it; without those that the
            construction of one of both decides.
    """

    configuration: Configuration
    differences: Mapping[str, tuple[float, Interval]]
    better: tuple[Metric, ...]
    worse: tuple[Metric, ...]


@dataclass(frozen=True, kw_only=True)
class AgainstBaseline:
    """All methods beside one.

    Attributes:
        baseline: its selected configuration.
        rows: the baseline's other configurations, then the other methods' selected ones.
        instances: of test.
        seeds: numbers of them that configurations have, increasing; one says nothing of how far another would move it.
        without: configurations that cannot be compared, in words why.
    """

    baseline: Configuration
    rows: tuple[Beside, ...]
    instances: int
    seeds: tuple[int, ...]
    without: tuple[tuple[Configuration, str], ...]


def require_compared(baseline: str, corpus: str, methods: Collection[str]) -> None:
    """Refuse a baseline that is not among the compared methods.

    Raises:
        UserError: then.
    """
    if baseline not in methods:
        raise UserError(
            f"--baseline={baseline}: no complete configuration of it on {corpus}{did_you_mean(baseline, methods)}; "
            f"there are: {', '.join(methods)}"
        )


def against_baseline(
    baseline: str,
    selected: Mapping[str, Configuration],
    variants: Mapping[str, Sequence[Configuration]],
    read: Callable[[TrialRecord], bytes | None],
    pairs: Iterable[Pair] = (),
) -> AgainstBaseline:
    """Differences to a method in every raw metric, as `Certainty` has them; instances are paired, seeds are not.

    Args:
        baseline: a method of `selected`.
        selected: each method's configuration, scored or not.
        variants: every complete configuration by method.
        read: see `read_results`.
        pairs: of the scored methods, whose intervals are taken as they are.

    Raises:
        UserError: where the method has no results by instance.
    """
    chosen = selected[baseline]
    found, why_none = read_results(read, {baseline: chosen})
    if why_none:
        raise UserError(f"--baseline={baseline}: {why_none}")
    instances = len(found[baseline][0])
    known = _to_baseline(baseline, pairs)
    own = [each for each in variants[baseline] if each.key != chosen.key]
    others = [each for method, each in selected.items() if method != baseline]
    rows, without = list[Beside](), list[tuple[Configuration, str]]()
    for configuration in (*own, *others):
        intervals = None if configuration in own else known.get(configuration.method)
        if intervals is None:
            pair, why_none = read_results(read, {_OTHER: configuration, baseline: chosen})
            if why_none:
                without.append((configuration, why_none))
                continue
            intervals = _drawn(pair)
        rows.append(_beside(configuration, chosen, intervals))
    seeds = {len(configuration.records) for configuration in (chosen, *(row.configuration for row in rows))}
    return AgainstBaseline(
        baseline=chosen, rows=tuple(rows), instances=instances, seeds=tuple(sorted(seeds)), without=tuple(without)
    )


def _to_baseline(baseline: str, pairs: Iterable[Pair]) -> dict[str, dict[str, Interval]]:
    """Of each other method of a pair with the baseline, intervals of its number minus the baseline's."""
    found = {}
    for pair in pairs:
        if pair.other == baseline:
            found[pair.method] = dict(pair.differences)
        elif pair.method == baseline:
            found[pair.other] = {key: (-high, -low) for key, (low, high) in pair.differences.items()}
    return found


def _drawn(pair: Results) -> dict[str, Interval]:
    return {key: interval(values[:, 0] - values[:, 1]) for key, values in bootstrap(pair).raw.items()}


def _beside(configuration: Configuration, baseline: Configuration, intervals: Mapping[str, Interval]) -> Beside:
    theirs, ours = configuration.mean("test"), baseline.mean("test")
    metrics = [metric for metric in NRG_METRICS if metric.key in intervals]
    decided = by_construction(configuration.method) | by_construction(baseline.method)
    sides: dict[bool, list[Metric]] = {True: [], False: []}
    for metric in metrics:
        low, high = intervals[metric.key]
        if (low > 0 or high < 0) and metric not in decided:
            sides[(low > 0) == metric.higher_is_better].append(metric)
    return Beside(
        configuration=configuration,
        differences={m.key: (theirs[m.key] - ours[m.key], intervals[m.key]) for m in metrics},
        better=tuple(sides[True]),
        worse=tuple(sides[False]),
    )

"""How sure a comparison is: intervals, who may be first, which methods can be told apart, what hangs on one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from unirex_ray.analysis.selection import Configuration, rank_methods
from unirex_ray.errors import UserError
from unirex_ray.metrics.bootstrap import DRAWS, Draws, Results, bootstrap, holm, holm_over_pairs, permutation_p
from unirex_ray.metrics.instance_file import INSTANCES, from_parquet
from unirex_ray.metrics.instances import mean_metrics
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Population, Weights
from unirex_ray.metrics.table import nrg_metrics
from unirex_ray.tracking.records import TrialRecord

LEVEL = 0.95
"""Of the intervals, and of what is said of the first method."""
_FEWEST_RANKED = 5
_AGREES = 1e-3

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two methods, the one that stands higher first.

    Attributes:
        ahead: share of draws in which the first has the higher CNRG, in [0, 1].
        p: two-sided, of the difference in CNRG: twice the share of draws on the rarer side, at least one draw.
        raw_p: of the difference in each raw metric by key, between the trained models (seeds averaged): a sign-flip
            test over instances, corrected for all pairs (Holm).
        differences: 95 % percentile intervals of the first one's number minus the other's by key: raw metrics, `cnrg`,
            `fnrg`, `pnrg`, `tnrg`; over instances and seeds, for this pair alone.
    """

    method: str
    other: str
    ahead: float
    p: float
    raw_p: Mapping[str, float]
    differences: Mapping[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """Of a comparison on test. The selection on dev is not done again, so that its uncertainty is no part of this.

    Attributes:
        draws: of the bootstrap.
        instances: of test.
        seeds: of each method, one of which says nothing of how far another one would move it.
        intervals: 95 % percentile intervals by method and key: raw metrics, `cnrg`, `fnrg`, `pnrg`, `tnrg`.
        ranked: methods that are better than the majority class, the first one first.
        first: how often each method has the highest CNRG of these, in [0, 1]; 0 for the others.
        behind_best: p of the first one being ahead of each other ranked method: twice the share of draws in which it is
            not, corrected for their number (Holm). That it was chosen by the same results is no part of it.
        pairs: all of them, in the order of the table.
        ranks: lowest and highest rank of each method while every other one is left out of Z in turn, keeping its place;
            empty below three methods.
        tau: Kendall's rank correlation of each such ranking with the full one, by the method left out; empty below
            five others.
        drawn: what intervals and shares are taken from.
    """

    draws: int
    instances: int
    seeds: Mapping[str, int]
    intervals: Mapping[str, Mapping[str, Interval]]
    ranked: tuple[str, ...]
    first: Mapping[str, float]
    behind_best: Mapping[str, float]
    pairs: tuple[Pair, ...]
    ranks: Mapping[str, tuple[int, int]]
    tau: Mapping[str, float]
    drawn: Draws = field(repr=False)


def read_results(
    read: Callable[[TrialRecord], bytes | None], selected: Mapping[str, Configuration]
) -> tuple[Results, str]:
    """Results on test of the selected configurations, by method.

    Args:
        read: the file of a trial's results by instance; None where there is none.
        selected: that are scored, by method.

    Returns:
        The results, and an empty text; without results, why there are none.
    """
    results = {}
    for method, configuration in selected.items():
        runs = []
        for record in configuration.records:
            try:
                data = read(record)
                found = None if data is None else from_parquet(data).get("test")
            except UserError as error:
                return {}, f"{record.spec.trial_id}: {error}"
            if found is None:
                return {}, f"{record.spec.trial_id} has no {INSTANCES}: an earlier version left none, or it is gone"
            recorded, again = nrg_metrics(record.metrics.test), mean_metrics(found)
            for key, value in recorded.items():
                if not math.isclose(again.get(key, math.nan), value, rel_tol=_AGREES, abs_tol=_AGREES):
                    return {}, f"{record.spec.trial_id}: test/{key} is {value}, but {again.get(key)} by {INSTANCES}"
            runs.append(found)
        results[method] = runs
    every = [run for of_method in results.values() for run in of_method]
    if len({(run.ids, run.labels.tobytes(), run.gold_rows.tobytes()) for run in every}) > 1:
        return {}, "the methods were tested on unlike instances"
    return results, ""


def certainty(
    selected: Mapping[str, Configuration],
    population: Population,
    results: Results,
    weights: Weights = EQUAL_WEIGHTS,
    *,
    may_be_first: Collection[str],
    draws: int = DRAWS,
    seed: int = 0,
) -> Certainty:
    """Draw instances and seeds anew, and score every draw over the same Z.

    Args:
        selected: one configuration of each scored method, in the order of the table.
        population: their scores; what is constant or noise there gives no gain in any draw.
        results: see `read_results`.
        weights: of FNRG, PNRG and TNRG in CNRG.
        may_be_first: methods that are better than the majority class.
        seed: of the draws; another one for each corpus, so that means over corpora are of independent draws.
    """
    drawn = bootstrap(results, weights, draws=draws, seed=seed, constant={*population.constant, *population.noise})
    ranks, tau = _leave_one_out(selected, weights)
    first, ranked = drawn.first(may_be_first), tuple(method for method in selected if method in may_be_first)
    any_run = next(iter(results.values()))[0]
    return Certainty(
        draws=draws,
        instances=len(any_run),
        seeds={method: len(runs) for method, runs in results.items()},
        intervals=_intervals(drawn),
        ranked=ranked,
        first={method: first.get(method, 0.0) for method in selected},
        behind_best=_behind_best(drawn, ranked),
        pairs=_pairs(drawn, results, list(selected)),
        ranks=ranks,
        tau=tau,
        drawn=drawn,
    )


def _intervals(drawn: Draws) -> dict[str, dict[str, Interval]]:
    return {
        member: {key: interval(values[:, index]) for key, values in drawn.by_key().items()}
        for index, member in enumerate(drawn.members)
    }


def interval(values: NDArray[np.float64]) -> Interval:
    """The percentile interval of one number's draws [B]."""
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def _behind_best(drawn: Draws, ranked: Sequence[str]) -> dict[str, float]:
    if len(ranked) < 2:
        return {}
    best, *others = ranked
    # At least one draw more than there are, as a draw that nobody has seen may well be the other way round.
    draws = len(drawn.cnrg)
    shares = np.array([(1 + draws * (1 - drawn.ahead(best, other))) / (1 + draws) for other in others])
    return dict(zip(others, holm(np.minimum(1.0, 2 * shares)).tolist(), strict=True))


def _pairs(drawn: Draws, results: Results, order: list[str]) -> tuple[Pair, ...]:
    corrected = {key: holm_over_pairs(matrix) for key, matrix in permutation_p(results).items()}
    place = {member: index for index, member in enumerate(drawn.members)}
    draws, drawn_numbers = len(drawn.cnrg), drawn.by_key()

    def pair(method: str, other: str) -> Pair:
        ours, theirs = place[method], place[other]
        ahead = drawn.ahead(method, other)
        return Pair(
            method=method,
            other=other,
            ahead=ahead,
            p=min(1.0, max(1 / draws, 2 * min(ahead, 1 - ahead))),
            raw_p={key: float(matrix[ours, theirs]) for key, matrix in corrected.items()},
            differences={key: interval(values[:, ours] - values[:, theirs]) for key, values in drawn_numbers.items()},
        )

    return tuple(pair(method, other) for method, other in combinations(order, 2))


def _leave_one_out(
    selected: Mapping[str, Configuration], weights: Weights
) -> tuple[dict[str, tuple[int, int]], dict[str, float]]:
    """See `Certainty.ranks` and `Certainty.tau`."""
    if len(selected) < 3:
        return {}, {}
    order = _ranked(selected, weights)
    ranks: dict[str, list[int]] = {method: [index + 1] for index, method in enumerate(order)}
    tau = {}
    for index, left_out in enumerate(order):
        others = {method: configuration for method, configuration in selected.items() if method != left_out}
        again = _ranked(others, weights)
        for place, method in enumerate(again):
            # The one that is left out keeps its place, so that nobody moves up for want of it alone.
            ranks[method].append(place + 1 + (place >= index))
        if len(again) >= _FEWEST_RANKED:
            before = [method for method in order if method != left_out]
            tau[left_out] = float(kendalltau(range(len(again)), [again.index(method) for method in before]).statistic)
    return {method: (min(found), max(found)) for method, found in ranks.items()}, tau


def _ranked(selected: Mapping[str, Configuration], weights: Weights) -> list[str]:
    return [configuration.method for configuration in rank_methods(selected, "test", weights).order]

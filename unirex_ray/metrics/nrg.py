"""Normalised relative gain (paper, section 4.2): raw metrics of a whole set of members become scores in [0, 1].

Every score is relative to the set Z that it is computed over: a new extreme changes every member's score.
So raw metrics are what is stored, and NRG is always computed from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unirex_ray.errors import UserError
from unirex_ray.metrics.table import AUPRC, NRG_METRICS, STANDARD_ERRORS, Desideratum

Array = NDArray[np.float64]

Weights = tuple[float, float, float]
"""Weights of FNRG, PNRG and TNRG in CNRG: at least 0, not all 0."""

EQUAL_WEIGHTS: Weights = (1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One member's scores, all in [0, 1], higher is better.

    Attributes:
        relative: NRG of each raw metric, by metric key.
        fnrg: mean over comprehensiveness and sufficiency.
        pnrg: mean over AUPRC and token F1; None where there are no gold rationales.
        tnrg: NRG of the task score.
        cnrg: weighted mean of the three (of the two that there are, without gold rationales).
    """

    relative: Mapping[str, float]
    fnrg: float
    pnrg: float | None
    tnrg: float
    cnrg: float

    def by_key(self) -> dict[str, float]:
        """`cnrg`, `fnrg`, `pnrg` where there is one, `tnrg`, and one per raw metric."""
        named = {"cnrg": self.cnrg, "fnrg": self.fnrg, "pnrg": self.pnrg, "tnrg": self.tnrg, **self.relative}
        return {key: value for key, value in named.items() if value is not None}


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """Scores of all members of Z.

    Attributes:
        members: names, in the order of the arrays.
        gains: NRG of each raw metric, by its key [members].
        fnrg, pnrg, tnrg, cnrg: as in `Scores` [members]; pnrg is None where it is no part of CNRG.
        constant: keys of the metrics on which all members are equal, so that every member gets 0.0 there.
        noise: of the other metrics, those whose range over the members is below twice their standard error over
            instances, so that every member gets 0.0 there as well: the range and the standard error, by key.
    """

    members: tuple[str, ...]
    gains: Mapping[str, Array]
    fnrg: Array
    pnrg: Array | None
    tnrg: Array
    cnrg: Array
    constant: tuple[str, ...]
    noise: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def plausibility(self) -> bool:
        """Whether PNRG is part of CNRG."""
        return self.pnrg is not None

    @cached_property
    def scores(self) -> Mapping[str, Scores]:
        """Everything by member."""
        return {
            member: Scores(
                relative={key: float(gain[index]) for key, gain in self.gains.items()},
                fnrg=float(self.fnrg[index]),
                pnrg=None if self.pnrg is None else float(self.pnrg[index]),
                tnrg=float(self.tnrg[index]),
                cnrg=float(self.cnrg[index]),
            )
            for index, member in enumerate(self.members)
        }


def relative_gain(values: Array, *, higher_is_better: bool) -> Array:
    """NRG of one raw metric over all members: (z - min)/(max - min), or (max - z)/(max - min) where lower is better.

    Args:
        values: of the members [..., members].

    Returns:
        A value in [0, 1] per member, 1.0 for the best; 0.0 for every member where max = min.
    """
    if values.size == 0:
        return np.zeros_like(values)
    low, high = values.min(-1, keepdims=True), values.max(-1, keepdims=True)
    gain: Array = ((values - low) if higher_is_better else (high - values)) / np.where(high > low, high - low, 1.0)
    return gain


def composite(gains: Mapping[str, Array], weights: Weights) -> tuple[Array, Array | None, Array, Array]:
    """FNRG, PNRG, TNRG and CNRG.

    Args:
        gains: NRG of each raw metric, by its key [..., members].
        weights: see `usable_weights`.

    Returns:
        Four arrays [..., members]; PNRG is None where no gain is a plausibility metric's.
    """

    def desideratum(wanted: Desideratum) -> Array:
        of_wanted: Array = np.mean([gains[m.key] for m in NRG_METRICS if m.desideratum == wanted], axis=0)
        return of_wanted

    fnrg, tnrg = desideratum("faithfulness"), desideratum("task")
    pnrg = desideratum("plausibility") if AUPRC.key in gains else None
    weighted = [weight * part for weight, part in zip(weights, (fnrg, pnrg, tnrg), strict=True) if part is not None]
    # The sum is rounded once, whatever the order of its terms.
    total = np.vectorize(lambda *parts: math.fsum(parts), otypes=[float])(*weighted)
    return fnrg, pnrg, tnrg, total / math.fsum(weights)


def score_population(raw: Mapping[str, Mapping[str, float]], weights: Weights = EQUAL_WEIGHTS) -> Population:
    """Score every member of Z relative to all of them.

    Args:
        raw: raw metrics by member and metric key without split, e.g. `{"aa-ig": {"auprc": 51.2, ...}}`; other keys than
            those of `NRG_METRICS` are ignored, except for standard errors. Where no member has a plausibility metric,
            PNRG is left out. Where members have a metric's standard error (see `STANDARD_ERRORS`), the metric counts
            as constant if its range over Z is below twice the largest of them: NRG would stretch noise to [0, 1].
        weights: of FNRG, PNRG and TNRG in CNRG.

    Raises:
        UserError: if the weights are negative or give no weight to any score that there is.
        ValueError: if a member lacks a metric or has one that is not finite; names both.
    """
    has_gold = any(
        metric.key in metrics
        for metrics in raw.values()
        for metric in NRG_METRICS
        if metric.desideratum == "plausibility"
    )
    table = [metric for metric in NRG_METRICS if has_gold or metric.desideratum != "plausibility"]
    used = usable_weights(weights, has_gold=has_gold) if raw else weights

    columns = {metric.key: _column(raw, metric.key) for metric in table}
    noise = {key: found for key, column in columns.items() if (found := _noise(raw, key, column)) is not None}
    gains = {
        m.key: np.zeros(len(raw))
        if m.key in noise
        else relative_gain(columns[m.key], higher_is_better=m.higher_is_better)
        for m in table
    }

    fnrg, pnrg, tnrg, cnrg = composite(gains, used)
    return Population(
        members=tuple(raw),
        gains=gains,
        fnrg=fnrg,
        pnrg=pnrg,
        tnrg=tnrg,
        cnrg=cnrg,
        constant=tuple(key for key, column in columns.items() if np.ptp(column) == 0) if raw else (),
        noise=noise,
    )


def _column(raw: Mapping[str, Mapping[str, float]], key: str) -> Array:
    """A metric of every member.

    Raises:
        ValueError: naming a member that lacks it or whose value is not finite.
    """
    for member, metrics in raw.items():
        if key not in metrics:
            raise ValueError(f"member {member!r} lacks the metric {key!r}, so it cannot be scored")
    column: Array = np.fromiter((metrics[key] for metrics in raw.values()), dtype=float, count=len(raw))
    if not np.isfinite(column).all():
        member = next(member for member, value in zip(raw, column, strict=True) if not math.isfinite(value))
        raise ValueError(f"metric {key!r} of member {member!r} must be finite, but is {raw[member][key]}")
    return column


def _noise(raw: Mapping[str, Mapping[str, float]], key: str, column: Array) -> tuple[float, float] | None:
    """Range and largest standard error of a metric that varies by less than its noise; else None."""
    error = STANDARD_ERRORS[key].key
    errors = [metrics[error] for metrics in raw.values() if error in metrics]
    spread = float(np.ptp(column)) if errors else 0.0
    if spread == 0:
        return None
    largest = max(errors)
    return (spread, largest) if spread < 2 * largest else None


def usable_weights(weights: Weights, *, has_gold: bool) -> Weights:
    """Weights without PNRG's where there are no gold rationales.

    Raises:
        UserError: if they are negative or give no weight to any score that there is.
    """
    used = (weights[0], weights[1] if has_gold else 0.0, weights[2])
    if min(weights) < 0 or sum(used) <= 0:
        without = "" if has_gold else " (there are no gold rationales, so PNRG is left out)"
        raise UserError(f"NRG weights must be at least 0 and not all 0, but got {list(weights)}{without}")
    return used


def mean_over_seeds(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean over seeds of every metric that all of them have; the order of the seeds does not matter."""
    return {key: math.fsum(column) / len(column) for key, column in _columns(rows).items()}


def std_over_seeds(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Standard deviation over seeds, divided by n - 1, of every metric that all have; nan for one seed."""
    return {key: _std(column) for key, column in _columns(rows).items()}


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    # Some are logged now and then only: by newer versions, or where a stage was not taken over from another trial.
    shared = [key for key in rows[0] if all(key in row for row in rows)] if rows else []
    return {key: [row[key] for row in rows] for key in shared}


def _std(column: Sequence[float]) -> float:
    if len(column) < 2:
        return math.nan
    mean = math.fsum(column) / len(column)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in column) / (len(column) - 1))

"""How far metrics and NRG would move, had other test instances and other seeds been drawn.

Shapes: B draws, M members, N instances, P permutations, C classes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unirex_ray.metrics.instances import AT_EACH_K, PLAUSIBILITY, InstanceResults
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Weights, composite, relative_gain, usable_weights
from unirex_ray.metrics.table import AUPRC, NRG_METRICS, TASK_SCORE
from unirex_ray.metrics.task import TASK_SCORES

Array = NDArray[np.float64]
Results = Mapping[str, Sequence[InstanceResults]]
"""Of each member, one per seed; all on the same instances."""

DRAWS = 2000
PERMUTATIONS = 10_000
_BLOCK = 250
_MEANS = (*AT_EACH_K, *PLAUSIBILITY)
_EQUAL = 1e-9
"""Scores that are equal in exact arithmetic may differ in their last bits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """Everything that a comparison scores, on every draw.

    Attributes:
        members: names, in the order of the arrays.
        raw: metrics of NRG by key, means over the drawn seeds [B, M].
        gains: their NRG by key [B, M].
        fnrg, pnrg, tnrg, cnrg: [B, M]; pnrg is None without gold rationales.
    """

    members: tuple[str, ...]
    raw: Mapping[str, Array]
    gains: Mapping[str, Array]
    fnrg: Array
    pnrg: Array | None
    tnrg: Array
    cnrg: Array

    def by_key(self) -> dict[str, Array]:
        """Raw metrics by key, and NRG's four scores by name [B, M]."""
        scores = {"cnrg": self.cnrg, "fnrg": self.fnrg, "pnrg": self.pnrg, "tnrg": self.tnrg}
        return {**self.raw, **{name: values for name, values in scores.items() if values is not None}}

    def first(self, eligible: Collection[str]) -> dict[str, float]:
        """How often each eligible member has the highest CNRG, in [0, 1]; a tie counts in equal parts."""
        among = np.array([member in eligible for member in self.members])
        if not among.any():
            return {}
        best = self.cnrg[:, among].max(1, keepdims=True)
        on_top = (self.cnrg >= best - _EQUAL) & among
        shares = (on_top / on_top.sum(1, keepdims=True)).mean(0)
        return {member: float(share) for member, share in zip(self.members, shares, strict=True) if member in eligible}

    def ahead(self, member: str, other: str) -> float:
        """How often a member has a higher CNRG than another one, in [0, 1]; a tie counts half."""
        return share_ahead(*(self.cnrg[:, self.members.index(name)] for name in (member, other)))


def share_ahead(ours: Array, theirs: Array) -> float:
    """Share of the draws in which one score is higher than another one, ties by halves [B] each."""
    difference = ours - theirs
    return float(((difference > _EQUAL) + 0.5 * (np.abs(difference) <= _EQUAL)).mean())


def bootstrap(
    results: Results,
    weights: Weights = EQUAL_WEIGHTS,
    *,
    draws: int = DRAWS,
    constant: Collection[str] = (),
    same_models: bool = False,
    seed: int = 0,
) -> Draws:
    """Draw instances, the same for all members, and each member's seeds, with replacement; score every draw anew.

    Of a single seed nothing is known about others. How well 95 % of the draws hold the truth: `benchmarks.certainty`.

    Args:
        results: of at least one member, all with gold rationales or none.
        weights: of FNRG, PNRG and TNRG in CNRG.
        constant: keys of the metrics on which no member gets any gain, such as those whose range is noise.
        same_models: whether members share the model of each seed, so that these are drawn for all of them at once.
        seed: of the draws.
    """
    random, runs = np.random.default_rng(seed), [run for of_member in results.values() for run in of_member]
    has_gold = all(AUPRC.key in run.measured for run in runs)
    by_run = _raw_by_run(runs, draws, random)
    raw = {key: np.empty((draws, len(results))) for key in by_run}
    start = 0
    models = len(runs) // len(results)
    of_all = random.integers(models, size=(draws, models)) if same_models else None
    for index, of_member in enumerate(results.values()):
        seeds = len(of_member)
        drawn = start + (random.integers(seeds, size=(draws, seeds)) if of_all is None else of_all)
        for key, values in by_run.items():
            raw[key][:, index] = np.take_along_axis(values, drawn, axis=1).mean(1)
        start += seeds
    gains = {
        m.key: np.zeros_like(raw[m.key])
        if m.key in constant
        else relative_gain(raw[m.key], higher_is_better=m.higher_is_better)
        for m in NRG_METRICS
        if m.key in raw
    }
    fnrg, pnrg, tnrg, cnrg = composite(gains, usable_weights(weights, has_gold=has_gold))
    return Draws(members=tuple(results), raw=raw, gains=gains, fnrg=fnrg, pnrg=pnrg, tnrg=tnrg, cnrg=cnrg)


def _raw_by_run(runs: Sequence[InstanceResults], draws: int, random: np.random.Generator) -> dict[str, Array]:
    """Raw metrics of every run on the same draws of instances [B, runs]."""
    means = {key: stacked for key in _MEANS if (stacked := _stacked(runs, key)) is not None}
    cells = [_cells(run) for run in runs]
    parts: dict[str, list[Array]] = {key: [] for key in (*means, TASK_SCORE.key)}
    for counts in _counts(runs[0], draws, random):
        for key, (sums, rows) in means.items():
            parts[key].append((counts @ sums) / (counts @ rows)[:, None])
        parts[TASK_SCORE.key].append(
            np.stack([_task_score(run, counts @ cell) for run, cell in zip(runs, cells, strict=True)], axis=1)
        )
    return {key: np.concatenate(values) for key, values in parts.items()}


def _counts(run: InstanceResults, draws: int, random: np.random.Generator) -> Iterator[Array]:
    """How often each draw holds each instance [block, N]; one without any gold rationale is drawn again."""
    count, has_gold = len(run), run.gold_rows > 0
    for start in range(0, draws, _BLOCK):
        wanted = min(_BLOCK, draws - start)
        counts = random.multinomial(count, np.full(count, 1 / count), size=wanted)
        while has_gold.any() and not (usable := counts @ has_gold > 0).all():
            counts[~usable] = random.multinomial(count, np.full(count, 1 / count), size=int((~usable).sum()))
        yield counts.astype(np.float64)


def _stacked(runs: Sequence[InstanceResults], key: str) -> tuple[Array, Array] | None:
    """Each run's sums over an instance's rows [N, runs], and their number [N]."""
    measured = [run.metric(key) for run in runs]
    found = [each for each in measured if each is not None]
    if len(found) < len(runs):
        return None
    return np.stack([sums for sums, _ in found], axis=1), found[0][1].astype(np.float64)


def _cells(run: InstanceResults) -> Array:
    """1 where an instance falls into a cell of the confusion matrix of an input [N, inputs * C * C]."""
    cells = [np.eye(run.classes**2)[run.labels * run.classes + votes] for votes in run.votes]
    return np.concatenate(cells, axis=1)


def _task_score(run: InstanceResults, counts: Array) -> Array:
    """x100, mean over inputs: counts of cells [..., inputs * C * C] to [...]."""
    confusion = counts.reshape(*counts.shape[:-1], -1, run.classes, run.classes)
    scores: Array = 100 * TASK_SCORES[run.task_metric](confusion).mean(-1)
    return scores


def permutation_p(results: Results, *, permutations: int = PERMUTATIONS, seed: int = 0) -> dict[str, Array]:
    """p of every pair of members on every raw metric of NRG: may their results be swapped, instance by instance?

    A two-sided sign-flip test over instances, with seeds averaged. It speaks of the trained models, not of further
    seeds. A task score that is no mean over instances is that of the members' confusion matrices, averaged over seeds.

    Returns:
        By metric key a symmetric matrix [M, M], 1 on its diagonal; not corrected for the number of pairs.
    """
    random = np.random.default_rng(seed)
    members = list(results.values())
    any_run = members[0][0]
    runs = [run for of_member in members for run in of_member]
    starts = np.cumsum([0, *(len(of_member) for of_member in members)])

    def over_seeds(columns: Array) -> Array:
        return np.stack([columns[:, a:b].mean(1) for a, b in pairwise(starts)], axis=1)

    means = {key: over_seeds(stacked[0]) for key in _MEANS if (stacked := _stacked(runs, key)) is not None}
    cells = np.stack([_mean_cells(of_member) for of_member in members])  # [M, N, C * C]
    if any_run.task_metric == "accuracy":
        right = np.eye(any_run.classes).ravel() > 0
        means[TASK_SCORE.key] = cells[:, :, right].sum(2).T
    at_least = {key: np.zeros((len(members),) * 2) for key in (*means, TASK_SCORE.key)}
    for start in range(0, permutations, _BLOCK):
        signs = random.choice([-1.0, 1.0], size=(min(_BLOCK, permutations - start), len(any_run)))
        for key, values in means.items():
            swapped, observed = signs @ values, values.sum(0)
            reached = _apart(swapped) >= _apart(observed) - _EQUAL
            at_least[key] += reached.sum(0)
        if TASK_SCORE.key not in means:
            at_least[TASK_SCORE.key] += _swapped_scores(any_run, cells, signs < 0)
    p = {key: (1 + counts) / (1 + permutations) for key, counts in at_least.items()}
    for matrix in p.values():
        np.fill_diagonal(matrix, 1.0)
    return p


def _apart(values: Array) -> Array:
    """How far members are from each other: [..., M] to [..., M, M]."""
    distances: Array = np.abs(values[..., :, None] - values[..., None, :])
    return distances


def _mean_cells(runs: Sequence[InstanceResults]) -> Array:
    """Share of a member's seeds and inputs that put an instance into each cell of the confusion matrix [N, C * C]."""
    of_runs = [_cells(run).reshape(len(run), -1, run.classes**2).mean(1) for run in runs]
    mean: Array = np.mean(of_runs, axis=0)
    return mean


def _swapped_scores(run: InstanceResults, cells: Array, swapped: NDArray[np.bool_]) -> Array:
    """How many permutations [P, N] move each pair's scores as far apart as they are [M, M]."""
    totals = cells.sum(1)
    moved = np.einsum("pn,mnc->pmc", swapped.astype(np.float64), cells, optimize=True)
    counts = np.zeros((len(cells),) * 2)
    for a in range(len(cells)):
        for b in range(a):
            shift = moved[:, b] - moved[:, a]
            apart = np.abs(_task_score(run, totals[a] + shift) - _task_score(run, totals[b] - shift))
            observed = abs(float(_task_score(run, totals[a]) - _task_score(run, totals[b])))
            counts[a, b] = counts[b, a] = np.count_nonzero(apart >= observed - _EQUAL)
    return counts


def holm(p: Array) -> Array:
    """p values corrected for their number (Holm 1979) [tests]."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def holm_over_pairs(p: Array) -> Array:
    """A symmetric matrix of p values corrected for the number of its pairs [M, M]; 1 on the diagonal."""
    upper = np.triu_indices(len(p), 1)
    corrected = np.ones_like(p)
    corrected[upper] = holm(p[upper])
    return np.minimum(corrected, corrected.T)

"""Do bootstrap intervals and tests keep what they promise? On simulated methods whose true metrics are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unirex_ray.metrics.bootstrap import Results, bootstrap, permutation_p
from unirex_ray.metrics.instances import COMP, PLAUSIBILITY, SUFF, InstanceResults
from unirex_ray.metrics.nrg import score_population
from unirex_ray.metrics.table import AUPRC, COMPREHENSIVENESS, SUFFICIENCY, TASK_SCORE, TOKEN_F1

Array = NDArray[np.float64]

DIFFERENT: Mapping[str, Mapping[str, float]] = {
    "best": {"comprehensiveness": 0.30, "sufficiency": 0.05, "auprc": 70.0, "token_f1": 60.0, "task_score": 85.0},
    "middle": {"comprehensiveness": 0.22, "sufficiency": 0.12, "auprc": 60.0, "token_f1": 52.0, "task_score": 80.0},
    "worst": {"comprehensiveness": 0.10, "sufficiency": 0.25, "auprc": 45.0, "token_f1": 40.0, "task_score": 70.0},
}
"""True metrics of three methods."""

_SPREAD = {COMPREHENSIVENESS.key: 0.2, SUFFICIENCY.key: 0.2, AUPRC.key: 20.0, TOKEN_F1.key: 20.0}
"""Standard deviation over instances."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What was found over all simulated experiments, shares in [0, 1].

    Attributes:
        raw, cnrg: how often 95 % intervals held the true raw metric, and the true CNRG of the method in the middle.
        false_alarms: how often the paired test at 5 % told two equal methods apart.
        first: how often each of three equal methods came out first, mean over the experiments.
    """

    raw: float
    cnrg: float
    false_alarms: float
    first: tuple[float, ...]


def simulate(
    true: Mapping[str, Mapping[str, float]],
    *,
    random: np.random.Generator,
    instances: int,
    seeds: int,
    seed_spread: float,
) -> Results:
    """Methods on the same instances, which are hard or easy for all of them alike in part.

    Args:
        true: metrics by method.
        seed_spread: standard deviation over seeds, as a share of the standard error over instances.
    """
    difficulty, labels = random.normal(size=instances), random.integers(0, 2, instances)

    def column(key: str, mean: float, shared: Array) -> Array:
        spread = _SPREAD[key]
        of_seed = random.normal() * seed_spread * spread / np.sqrt(instances)
        noise: Array = 0.6 * difficulty + 0.6 * shared + np.sqrt(0.28) * random.normal(size=instances)
        values: Array = mean + of_seed + spread * noise
        return values

    def run(metrics: Mapping[str, float], own: Mapping[str, Array], right_by: Array) -> InstanceResults:
        share = metrics[TASK_SCORE.key] / 100
        share += random.normal() * seed_spread * np.sqrt(share * (1 - share) / instances)
        # Some instances are harder, for every seed; the share of right ones is the method's all the same.
        right = np.where(random.uniform(size=instances) < 0.5, right_by, random.uniform(size=instances)) < share
        comp, suff = (column(key, metrics[key], own[key]) for key in (COMPREHENSIVENESS.key, SUFFICIENCY.key))
        measured = dict.fromkeys(COMP, comp * 6 / 5) | dict.fromkeys(SUFF, suff * 6 / 5)
        measured |= {key: column(key, metrics[key], own[key]) for key in PLAUSIBILITY}
        return InstanceResults(
            ids=tuple(map(str, range(instances))),
            labels=labels,
            predicted=np.where(right, labels, 1 - labels),
            probability=np.ones(instances),
            tokens=np.ones(instances, dtype=np.int64),
            gold_rows=np.ones(instances, dtype=np.int64),
            measured=measured,
            classes=2,
            task_metric="accuracy",
        )

    results = {}
    for name, metrics in true.items():
        own = {key: random.normal(size=instances) for key in _SPREAD}
        right_by = random.uniform(size=instances)
        results[name] = [run(metrics, own, right_by) for _ in range(seeds)]
    return results


def study(
    experiments: int, *, seeds: int = 1, seed_spread: float = 0.0, instances: int = 200, draws: int = 2000
) -> Study:
    """Simulate experiments, and count.

    Args:
        seed_spread: see `simulate`.
        draws: of each bootstrap and test.
    """
    random = np.random.default_rng(0)
    truth = score_population(DIFFERENT).scores["middle"].cnrg
    equal = dict.fromkeys(("one", "two", "three"), DIFFERENT["middle"])
    simulated = partial(simulate, random=random, instances=instances, seeds=seeds, seed_spread=seed_spread)
    raw, cnrg, alarms, first = [], [], [], []
    for number in range(experiments):
        found = bootstrap(simulated(DIFFERENT), draws=draws, seed=number)
        for key, values in found.raw.items():
            low, high = np.quantile(values, (0.025, 0.975), axis=0)
            raw += [a <= DIFFERENT[name][key] <= b for name, a, b in zip(found.members, low, high, strict=True)]
        low, high = np.quantile(found.cnrg[:, 1], (0.025, 0.975))
        cnrg.append(low <= truth <= high)
        same = simulated(equal)
        first.append(list(bootstrap(same, draws=draws, seed=number).first(set(same)).values()))
        alarms += [matrix[0, 1] <= 0.05 for matrix in permutation_p(same, permutations=draws, seed=number).values()]
    shares = tuple(float(share) for share in np.mean(first, axis=0))
    return Study(raw=float(np.mean(raw)), cnrg=float(np.mean(cnrg)), false_alarms=float(np.mean(alarms)), first=shares)

"""Draws of instances and seeds against a loop over them, and tests of pairs against all ways to swap."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from helpers.marks import slow
from sklearn.metrics import f1_score

from unirex_ray.benchmarks.certainty import DIFFERENT, simulate, study
from unirex_ray.metrics.bootstrap import bootstrap, holm_over_pairs, permutation_p
from unirex_ray.metrics.instances import PLAUSIBILITY, PREDICTED_AT, InstanceResults, mean_metrics
from unirex_ray.metrics.nrg import score_population
from unirex_ray.metrics.table import nrg_metrics


def simulated(instances: int = 30, seeds: int = 3, spread: float = 1.0):
    return simulate(DIFFERENT, random=np.random.default_rng(5), instances=instances, seeds=seeds, seed_spread=spread)


def picked(run: InstanceResults, numbers) -> InstanceResults:
    """The results of someone who was given these instances, some of them several times."""
    names = ("labels", "predicted", "probability", "tokens", "gold_rows")
    columns = {name: getattr(run, name)[numbers] for name in names}
    measured = {name: values[numbers] for name, values in run.measured.items()}
    return replace(run, ids=tuple(run.ids[number] for number in numbers), measured=measured, **columns)


def variety(kind: str):
    """Results of three methods, with what may be peculiar about them."""
    results, draw = simulated(), np.random.default_rng(9)

    def change(run: InstanceResults) -> InstanceResults:
        measured = dict(run.measured)
        if kind == "some without gold":
            gold_rows = np.arange(30) % 3
            measured |= {name: np.where(gold_rows > 0, measured[name], np.nan) for name in PLAUSIBILITY}
            return replace(run, gold_rows=gold_rows, measured=measured)
        if kind == "no gold":
            return replace(
                run,
                gold_rows=np.zeros(30, dtype=int),
                measured={name: values for name, values in measured.items() if name not in PLAUSIBILITY},
            )
        if kind == "several inputs":
            measured |= {name: draw.integers(0, 2, 30).astype(float) for name in PREDICTED_AT}
        return replace(run, measured=measured, task_metric="accuracy" if kind == "several inputs" else kind)

    return {name: [change(run) for run in runs] for name, runs in results.items()}


@pytest.mark.parametrize(
    "kind", ["accuracy", *slow("macro_f1", "binary_f1", "several inputs"), "some without gold", *slow("no gold")]
)
def test_a_loop_over_draws_gives_the_same(kind):
    results, weights = variety(kind), (1.0, 2.0, 3.0)
    results["middle"] = results["middle"][:2]  # numbers of seeds may differ
    draws = 40
    found = bootstrap(results, weights, draws=draws, constant={"sufficiency"}, seed=3)
    # The same draws, in the same order.
    random = np.random.default_rng(3)
    counts = random.multinomial(30, np.full(30, 1 / 30), size=draws)
    seeds = {name: random.integers(len(runs), size=(draws, len(runs))) for name, runs in results.items()}
    for draw in range(draws):
        numbers = np.repeat(np.arange(30), counts[draw])
        raw = {}
        for name, runs in results.items():
            rows = [nrg_metrics(mean_metrics(picked(runs[seed], numbers))) for seed in seeds[name][draw]]
            raw[name] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        for index, name in enumerate(results):
            for key, values in found.raw.items():
                assert values[draw, index] == pytest.approx(raw[name][key], abs=1e-9), (name, key)
        expected = score_population({name: {**row, "sufficiency": 0.0} for name, row in raw.items()}, weights)
        assert found.cnrg[draw] == pytest.approx(expected.cnrg)
        assert found.fnrg[draw] == pytest.approx(expected.fnrg)
        assert (found.pnrg is None) == (expected.pnrg is None)
        assert list(found.by_key()["tnrg"][draw]) == pytest.approx(expected.tnrg)


def test_draws_by_hand():
    # Two instances, one right: the accuracy is 0, 50 or 100 with chances 1/4, 1/2, 1/4.
    run = simulated(2, 1)["best"][0]
    run = replace(run, labels=np.array([0, 1]), predicted=np.array([0, 0]))
    scores = bootstrap({"one": [run]}, draws=4000).raw["task_score"][:, 0]
    assert {value: np.mean(scores == value) for value in (0.0, 50.0, 100.0)} == pytest.approx(
        {0.0: 0.25, 50.0: 0.5, 100.0: 0.25}, abs=0.03
    )


def test_ties_count_by_halves_and_who_may_not_be_first_is_not():
    results = simulated(200)
    runs = results["best"]
    found = bootstrap({"a": runs[:1], "b": runs[:1], "c": results["worst"][:1]}, draws=50)
    assert found.first({"a", "b", "c"}) == pytest.approx({"a": 0.5, "b": 0.5, "c": 0.0})
    assert found.first({"b", "c"}) == {"b": 1.0, "c": 0.0}
    assert found.first(set()) == {}
    assert found.ahead("a", "b") == 0.5
    assert (found.ahead("a", "c"), found.ahead("c", "a")) == (1.0, 0.0)


def test_a_draw_without_any_gold_rationale_is_drawn_again():
    results = {
        name: [replace(run, gold_rows=np.array([1, 0, 0])) for run in runs] for name, runs in simulated(3, 1).items()
    }
    found = bootstrap(results, draws=300)
    assert np.isfinite(found.raw["auprc"]).all()
    assert np.isfinite(found.cnrg).all()


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_every_way_to_swap_gives_the_same_p(metric):
    results = simulated(9, 1)
    results = {name: [replace(run, task_metric=metric) for run in runs] for name, runs in results.items()}
    (a,), (b,) = results["best"], results["worst"]

    def score(labels, predicted) -> float:
        return f1_score(labels, predicted, average="macro") if metric == "macro_f1" else np.mean(labels == predicted)

    found = permutation_p({"best": [a], "worst": [b]}, permutations=20_000)
    auprc = a.measured["auprc"] - b.measured["auprc"]
    observed = abs(score(a.labels, a.predicted) - score(b.labels, b.predicted))
    at_least = {"auprc": 0, "task_score": 0}
    ways = list(product([False, True], repeat=9))
    for swap in map(np.array, ways):
        at_least["auprc"] += abs(np.where(swap, -auprc, auprc).sum()) >= abs(auprc.sum()) - 1e-9
        one, other = np.where(swap, b.predicted, a.predicted), np.where(swap, a.predicted, b.predicted)
        at_least["task_score"] += abs(score(a.labels, one) - score(a.labels, other)) >= observed - 1e-9
    for key, count in at_least.items():
        assert found[key][0, 1] == pytest.approx(count / len(ways), abs=0.02), key
        assert found[key][1, 0] == found[key][0, 1]
        assert found[key][0, 0] == 1.0


def test_seeds_are_averaged_before_they_are_swapped():
    results = simulated(40, 3)
    found = permutation_p(results, permutations=500)
    averaged = {}
    for name, runs in results.items():
        columns = {key: np.mean([run.measured[key] for run in runs], axis=0) for key in runs[0].measured}
        averaged[name] = [replace(runs[0], measured=columns)]
    assert found["auprc"] == pytest.approx(permutation_p(averaged, permutations=500)["auprc"])


def test_holm_by_hand():
    p = np.array([[1.0, 0.01, 0.04], [0.01, 1.0, 0.03], [0.04, 0.03, 1.0]])
    # 0.01 * 3, 0.03 * 2, and no less than that for the last.
    expected = np.array([[1.0, 0.03, 0.06], [0.03, 1.0, 0.06], [0.06, 0.06, 1.0]])
    assert holm_over_pairs(p) == pytest.approx(expected)
    assert holm_over_pairs(np.full((3, 3), 0.9)).max() == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "spread", "alarms"), [(1, 0.0, 0.05), (3, 1.0, None)])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds, spread, alarms):
    """A small part of `benchmark.py certainty`; at 300 experiments a share of 95 % has a standard error of 1.3 %."""
    found = study(300, seeds=seeds, seed_spread=spread, draws=300)
    assert 0.92 <= found.raw <= 0.975
    assert 0.91 <= found.cnrg <= 0.985
    assert found.first == pytest.approx((1 / 3,) * 3, abs=0.08)
    if alarms is not None:
        assert found.false_alarms == pytest.approx(alarms, abs=0.025)

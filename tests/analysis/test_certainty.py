"""What a comparison says of its own certainty, from recorded results by instance."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.memory_store import MemoryStore
from helpers.recorded_trials import TRIALS, record
from helpers.simulated import TRUE, numbers, reader, record_simulated

from unirex_ray.analysis.certainty import _behind_best, read_results
from unirex_ray.analysis.compare import Comparison, compare, with_certainty
from unirex_ray.benchmarks.certainty import simulate
from unirex_ray.methods import METHODS
from unirex_ray.metrics.bootstrap import bootstrap
from unirex_ray.metrics.instance_file import INSTANCES, from_parquet, to_parquet


def compared(store: MemoryStore, corpus: str = "reviews") -> Comparison:
    return with_certainty(compare(corpus, store.sweeps(corpus)), reader(store))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    store = MemoryStore()
    record_simulated(store)
    return compared(store)


def test_every_score_has_an_interval_around_it(comparison):
    found = comparison.certainty
    assert comparison.no_certainty == ""
    assert (found.draws, found.instances, set(found.seeds.values())) == (2000, 150, {3})
    for row in comparison.rows:
        assert set(found.intervals[row.method]) == {*TRUE["aa-ig"], "cnrg", "fnrg", "pnrg", "tnrg"}
        for key in TRUE["aa-ig"]:
            low, high = found.intervals[row.method][key]
            assert low < row.configuration.mean("test")[key] < high
        low, high = found.intervals[row.method]["cnrg"]
        assert 0 <= low <= high <= 1


def test_equal_methods_cannot_be_told_apart_and_others_can(comparison):
    found = comparison.certainty
    assert sum(found.first.values()) == pytest.approx(1)
    assert found.first["aa-ig"] < 0.02
    assert found.first["aa-grad"] == 0.0
    by_pair = {frozenset((pair.method, pair.other)): pair for pair in found.pairs}
    assert len(by_pair) == 6
    equal = by_pair[frozenset(("unirex-slm-fp", "unirex-dlm-fp"))]
    assert equal.p == pytest.approx(2 * min(equal.ahead, 1 - equal.ahead))
    behind = by_pair[frozenset(("unirex-slm-fp", "aa-grad"))]
    assert behind.method == "unirex-slm-fp"
    assert (behind.ahead, behind.p) == (1.0, 1 / 2000)
    best, second = found.ranked[:2]
    assert {best, second} == {"unirex-slm-fp", "unirex-dlm-fp"}
    # Of four methods, three are beside the first: 0.0005 * 2 * 3, and one draw more than there are.
    assert found.behind_best["aa-grad"] == pytest.approx(3 * 2 / 2001)
    assert found.behind_best[second] > 0.05
    assert max(behind.raw_p["auprc"], behind.raw_p["comprehensiveness"]) < 0.01
    assert min(equal.raw_p.values()) > 0.01


def test_weights_and_constant_metrics_are_those_of_the_comparison():
    store = MemoryStore()
    results = record_simulated(
        store, {"aa-ig": numbers(0.1, 0.1, 50, 50, 80.0), "sgt": numbers(0.3, 0.1, 70, 60, 80.0)}
    )
    weights = (1.0, 0.0, 2.0)
    found = with_certainty(compare("reviews", store.sweeps("reviews"), weights), reader(store), weights)
    assert {"sufficiency", "task_score"} <= {*found.population.noise, *found.population.constant}
    constant = {*found.population.noise, *found.population.constant}
    expected = bootstrap(results, weights, constant=constant)
    low, high = np.quantile(expected.cnrg[:, 1], (0.025, 0.975))
    assert found.certainty.intervals["sgt"]["cnrg"] == pytest.approx((low, high), abs=1e-6)
    assert found.certainty.intervals["sgt"]["tnrg"] == (0.0, 0.0)


def test_a_method_that_learned_nothing_is_never_first():
    store = MemoryStore()
    record_simulated(store, {"aa-ig": numbers(0.1, 0.1, 50, 50, 80.0), "sgt": numbers(0.5, -0.1, 90, 90, 50.0)})
    found = compared(store)
    assert found.unranked == ("sgt",)
    assert found.certainty.first == {"aa-ig": 1.0, "sgt": 0.0}
    assert (found.certainty.ranked, found.certainty.behind_best) == (("aa-ig",), {})


def test_ranks_while_another_method_is_left_out_of_z():
    # Without C nobody else is low on the first metric, so that A and B change places.
    store = MemoryStore()
    true = {
        "aa-ig": numbers(0.20, 0.0, 60.0, 60.0, 80.0),
        "sgt": numbers(0.10, 0.0, 80.0, 80.0, 80.0),
        "fresh": numbers(-2.0, 0.0, 50.0, 50.0, 80.0),
    }
    record_simulated(store, true, seeds=1, instances=400)
    found = compared(store)
    order = [row.method for row in found.rows]
    assert order == ["sgt", "aa-ig", "fresh"]
    assert found.certainty.ranks["fresh"] == (3, 3)
    # Without "fresh", AA (IG) has NRG 1 on Comp and 0 on plausibility, SGT the reverse.
    assert found.certainty.ranks["sgt"][0] == 1
    assert found.certainty.tau == {}  # of two others, nothing


def test_without_results_by_instance_there_is_a_reason():
    store = MemoryStore()
    record(store, TRIALS)
    found = compared(store)
    assert found.certainty is None
    assert found.no_certainty.startswith(
        "s1-unirex-slm-p-0000-s0 has no instances.parquet: an earlier version left none"
    )


@pytest.mark.parametrize("spoilt", ["damaged", "other numbers", "other instances", "other labels", "dev alone"])
def test_results_that_do_not_belong_to_the_runs_are_refused_by_name(spoilt):
    store = MemoryStore()
    record_simulated(store)
    name = "reviews/s1/s1-aa-ig-0000-s1"
    run = from_parquet(store.runs[name]["artifacts"][INSTANCES])["test"]
    data = {
        "damaged": lambda: b"PAR1",
        "other numbers": lambda: to_parquet(
            {"test": replace(run, measured={**run.measured, "auprc": run.measured["auprc"] + 1})}, ("no", "yes"), {}
        ),
        "other instances": lambda: to_parquet({"test": replace(run, ids=run.ids[::-1])}, ("no", "yes"), {}),
        "other labels": lambda: to_parquet(
            {"test": replace(run, labels=1 - run.labels, predicted=1 - run.predicted)}, ("no", "yes"), {}
        ),
        "dev alone": lambda: to_parquet({"dev": run}, ("no", "yes"), {}),
    }[spoilt]()
    store.runs[name]["artifacts"][INSTANCES] = data
    expected = {
        "damaged": "s1-aa-ig-0000-s1: instances.parquet is damaged",
        "other numbers": "s1-aa-ig-0000-s1: test/auprc is",
        "other labels": "the methods were tested on unlike instances",
        "other instances": "the methods were tested on unlike instances",
        "dev alone": "s1-aa-ig-0000-s1 has no instances.parquet",
    }[spoilt]
    found = compared(store)
    assert found.certainty is None
    assert found.no_certainty.startswith(expected)


def test_results_are_read_by_method_and_seed():
    store = MemoryStore()
    written = record_simulated(store)
    read, why_none = read_results(reader(store), compare("reviews", store.sweeps("reviews")).selected)
    assert why_none == ""
    assert set(read) == set(written)
    for method, runs in written.items():
        for run, again in zip(runs, read[method], strict=True):
            assert again.measured["auprc"] == pytest.approx(run.measured["auprc"])


def test_eight_equal_methods_are_rarely_told_apart():
    """Without a correction for their number, and for the first being the best of them, it is every second time."""
    names = [name for name, method in METHODS.items() if method.in_global_nrg][:8]
    random, claims = np.random.default_rng(0), 0
    for _ in range(40):
        runs = simulate(dict.fromkeys(names, TRUE["aa-ig"]), random=random, instances=100, seeds=1, seed_spread=0.0)
        drawn = bootstrap(runs, draws=300)
        order = sorted(names, key=lambda name: -drawn.cnrg.mean(0)[drawn.members.index(name)])
        claims += min(_behind_best(drawn, order).values()) <= 0.05
    assert claims <= 12

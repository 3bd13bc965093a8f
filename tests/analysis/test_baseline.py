"""All methods beside one, in raw metrics."""

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.simulated import numbers
from helpers.with_results import SEEDS, WithResults, moved

from unirex_ray.analysis.baseline import AgainstBaseline, against_baseline, require_compared
from unirex_ray.analysis.certainty import Pair
from unirex_ray.benchmarks.certainty import simulate
from unirex_ray.errors import UserError
from unirex_ray.metrics.instances import InstanceResults, mean_metrics
from unirex_ray.report.baseline import baseline_table

TRUE = {"ours": numbers(0.3, 0.05, 60.0, 50.0, 80.0), "theirs": numbers(0.3, 0.05, 62.0, 50.0, 80.0)}
MODELS, OTHERS = simulate(TRUE, random=np.random.default_rng(1), instances=80, seeds=SEEDS, seed_spread=0.5).values()


@pytest.fixture
def recorded() -> WithResults:
    recorded = WithResults()
    recorded.add("unirex-slm-fp", MODELS)
    recorded.add("refer-slm-fp", [moved(run, 0.1, -0.2) for run in OTHERS])
    recorded.add("unirex-slm-fp", [moved(run, -0.3, 0.0) for run in MODELS], 1, **{"loss.warmup": 0.5})
    recorded.add("reference-gold", OTHERS)
    return recorded


def find(recorded: WithResults, baseline: str = "unirex-slm-fp", **selected: int) -> AgainstBaseline:
    return against_baseline(baseline, recorded.selected(selected), recorded.variants, recorded.read)


def naive_interval(theirs: list[InstanceResults], ours: list[InstanceResults], key: str) -> tuple[float, float]:
    """2,000 draws, one after the other."""
    random, differences = np.random.default_rng(3), []
    for _ in range(2000):
        drawn = random.integers(len(ours[0]), size=len(ours[0]))
        means = []
        for runs in (theirs, ours):
            seeds = random.integers(len(runs), size=len(runs))
            means.append(np.mean([runs[seed].metric(key)[0][drawn].mean() for seed in seeds]))
        differences.append(means[0] - means[1])
    return tuple(np.quantile(differences, [0.025, 0.975]))


def test_differences_are_those_of_a_naive_bootstrap(recorded):
    theirs = [moved(run, 0.1, -0.2) for run in OTHERS]
    row = next(row for row in find(recorded).rows if row.configuration.method == "refer-slm-fp")
    for key in ("comprehensiveness", "sufficiency", "task_score"):
        difference, (low, high) = row.differences[key]
        expected = [np.mean([mean_metrics(run)[key] for run in runs]) for runs in (theirs, MODELS)]
        assert difference == pytest.approx(expected[0] - expected[1], abs=1e-6)
        if key != "task_score":
            assert (low, high) == pytest.approx(naive_interval(theirs, MODELS, key), abs=0.01)
    assert {metric.key for metric in row.better} >= {"comprehensiveness", "sufficiency"}


def test_other_configurations_of_the_baseline_come_first_and_outsiders_are_among_the_others(recorded):
    found = find(recorded)
    assert [(row.configuration.method, row.configuration.index) for row in found.rows] == [
        ("unirex-slm-fp", 1),
        ("refer-slm-fp", 0),
        ("reference-gold", 0),
    ]
    own = found.rows[0]
    # The same models, -0.3 on every instance; of each, seeds are drawn.
    difference, (low, high) = own.differences["comprehensiveness"]
    assert low < difference < high
    assert difference == pytest.approx(-0.3, abs=1e-6)
    assert [metric.label for metric in own.worse] == ["Comp"]
    assert own.better == ()
    table = baseline_table("sst", found)
    assert (table.columns["Config"][0], table.columns["Parameters"][0]) == ("1", "warmup=0.5")
    assert table.remarks[2] == "The baseline is the configuration of UNIREX (SLM-FP) that dev selected: 0."
    assert table.columns["Comp ↑"][0].startswith("-0.300 (")
    assert table.columns["Better / worse in"][:2] == ["- / Comp", "Comp, Suff / -"]
    assert table.records[0]["difference/comprehensiveness_low"] == low
    assert table.records[0]["loss.warmup"] == 0.5
    assert (table.records[0]["baseline"], table.records[0]["baseline_configuration"]) == ("unirex-slm-fp", "0")


def test_another_selected_configuration_is_the_baseline(recorded):
    found = find(recorded, **{"unirex-slm-fp": 1})
    assert found.baseline.index == 1
    assert found.rows[0].configuration.index == 0
    assert found.rows[0].differences["comprehensiveness"][0] == pytest.approx(0.3, abs=1e-6)


def test_a_lower_suff_is_better_and_what_an_interval_does_not_carry_is_not_said(recorded):
    same = next(row for row in find(recorded, "reference-gold").rows if row.configuration.method == "refer-slm-fp")
    assert same.differences["sufficiency"][0] == pytest.approx(-0.2, abs=1e-6)
    assert "Suff" in {metric.label for metric in same.better}
    assert "Task" not in {metric.label for metric in (*same.better, *same.worse)}


def test_what_cannot_be_compared_is_told(recorded):
    recorded.add("aa-ig", [replace(run, ids=run.ids[::-1]) for run in OTHERS])
    recorded.add("l2e", OTHERS)
    recorded.files = {name: data for name, data in recorded.files.items() if "l2e" not in name}
    found = find(recorded)
    assert [row.configuration.method for row in found.rows][1:] == ["refer-slm-fp", "reference-gold"]
    remarks = "\n".join(baseline_table("sst", found).remarks)
    assert "Without AA (IG) 0: the methods were tested on unlike instances." in remarks
    assert re.search(r"Without L2E 0: s-l2e-0-0 has no \S+: an earlier version left none, or it is gone\.", remarks)
    with pytest.raises(UserError, match="--baseline=l2e: s-l2e-0-0 has no"):
        find(recorded, "l2e")


def test_a_baseline_that_was_not_compared_is_refused(recorded):
    with pytest.raises(UserError) as error:
        require_compared("refer-slm", "sst", recorded.selected({}))
    assert str(error.value) == (
        "--baseline=refer-slm: no complete configuration of it on sst (did you mean 'refer-slm-fp'?); there are: "
        "unirex-slm-fp, refer-slm-fp, reference-gold"
    )


def test_one_seed_is_said():
    recorded = WithResults()
    recorded.add("unirex-slm-fp", MODELS[:1])
    recorded.add("l2e", OTHERS[:1])
    remarks = baseline_table("sst", find(recorded)).remarks
    assert remarks[0].startswith(
        "A method's mean minus that of UNIREX (SLM-FP); intervals are of 80 test instances, for"
    )
    assert remarks[1] == "With one seed, how far another seed moves a method is in no interval."


def test_a_method_with_fewer_seeds_is_compared_as_well(recorded):
    recorded.add("l2e", OTHERS[:2])
    recorded.add("aa-ig", MODELS[:2])  # the baseline's models, as far as they go
    found = find(recorded)
    assert [row.configuration.method for row in found.rows][-2:] == ["l2e", "aa-ig"]
    assert found.seeds == (2, 3)
    low, high = found.rows[-1].differences["task_score"][1]
    assert low < 0 < high
    assert "80 test instances and 2 to 3 seeds" in baseline_table("sst", found).remarks[0]


def test_what_is_so_by_construction_is_neither_better_nor_worse(recorded):
    moved_far = [moved(run, 0.3, -0.3) for run in OTHERS]
    recorded.add("fresh", moved_far)
    recorded.add("l2e", moved_far)
    sides = {row.configuration.method: {m.label for m in (*row.better, *row.worse)} for row in find(recorded).rows}
    assert {"Comp", "Suff"} <= sides["l2e"]
    assert not {"Comp", "Suff"} & sides["fresh"]
    assert not {"AUPRC", "TF1"} & sides["reference-gold"]
    far = {
        row.configuration.method: {m.label for m in (*row.better, *row.worse)} for row in find(recorded, "fresh").rows
    }
    assert not {"Comp", "Suff"} & set().union(*far.values())


def test_scored_pairs_have_the_intervals_of_the_comparison(recorded):
    bounds = {"comprehensiveness": (0.125, 0.25), "sufficiency": (-0.5, -0.25), "cnrg": (0.0, 1.0)}
    common = {"ahead": 1.0, "p": 0.01, "raw_p": {}, "differences": bounds}
    for pair, expected in (
        (Pair(method="unirex-slm-fp", other="refer-slm-fp", **common), (-0.25, -0.125)),
        (Pair(method="refer-slm-fp", other="unirex-slm-fp", **common), (0.125, 0.25)),
    ):
        found = against_baseline("unirex-slm-fp", recorded.selected({}), recorded.variants, recorded.read, [pair])
        own, refer, _ = found.rows
        assert refer.differences["comprehensiveness"] == (pytest.approx(0.1, abs=0.05), expected)
        assert refer.differences.keys() == {"comprehensiveness", "sufficiency"}
        assert own.differences["comprehensiveness"][1] not in ((-0.25, -0.125), (0.125, 0.25))

"""Several rationales of one task model, side by side."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from helpers.with_results import SEEDS, WithResults, models, moved

from unirex_ray.analysis.references import OneTaskModel, one_task_model
from unirex_ray.analysis.selection import Configuration
from unirex_ray.metrics.instances import COMP, InstanceResults
from unirex_ray.report.references import references_table

MODELS, OTHERS = models(1), models(2)


class Recorded(WithResults):
    def find(self, selected: Mapping[str, int] | None = None) -> OneTaskModel | None:
        return one_task_model(self.selected(selected or {}), self.variants, self.read)


@pytest.fixture
def recorded() -> Recorded:
    recorded = Recorded()
    recorded.add("reference-inv", [moved(run, -0.2, 0.2) for run in MODELS])
    recorded.add("reference-gold", [moved(run, -0.1, 0.0) for run in MODELS])
    recorded.add("aa-ig", MODELS)
    recorded.add("unirex-dlm-p", OTHERS)
    return recorded


def test_differences_to_gold_are_paired_over_instances_and_seeds(recorded):
    found = recorded.find()
    assert [row.method for row in found.rows] == ["aa-ig", "reference-gold", "reference-inv"]
    assert (found.instances, found.seeds, found.apart) == (80, SEEDS, {})
    ig, gold, inverse = found.rows
    # Every instance and seed has this difference, so that no draw has another one.
    for row, comp, suff in ((ig, 0.1, 0.0), (inverse, -0.1, 0.2)):
        for key, expected in (("comprehensiveness", comp), ("sufficiency", suff)):
            difference, interval = row.above_gold[key]
            assert (difference, *interval) == pytest.approx((expected,) * 3, abs=1e-6)
    assert gold.above_gold == {}
    low, high = ig.intervals["comprehensiveness"]
    assert low < ig.configuration.mean("test")["comprehensiveness"] < high
    assert high - low > 0.01


def test_another_task_model_is_no_row(recorded):
    recorded.add("reference-rand", OTHERS)
    found = recorded.find()
    assert [row.method for row in found.rows] == ["aa-ig", "reference-gold", "reference-inv"]
    assert found.apart == {"reference-rand": "it predicts otherwise"}
    assert "Without Random (reference): it predicts otherwise." in references_table("x", found).remarks


def test_equal_labels_of_unequal_probability_are_of_another_task_model(recorded):
    recorded.add("reference-rand", [replace(run, probability=run.probability * 0.99) for run in MODELS])
    assert recorded.find().apart == {"reference-rand": "it predicts otherwise"}


def test_of_several_task_models_it_is_the_one_that_the_attributions_selected():
    recorded = Recorded()
    for index, (rate, runs) in enumerate(((1e-5, OTHERS), (2e-5, MODELS))):
        recorded.add("aa-ig", runs, index, **{"train.learning_rate": rate, "model.ig_steps": 3})
        recorded.add("reference-gold", runs, index, **{"train.learning_rate": rate})
    found = recorded.find({"aa-ig": 1})
    assert [(row.method, row.configuration.index) for row in found.rows] == [("aa-ig", 1), ("reference-gold", 1)]


def test_another_configuration_than_the_compared_one_is_told():
    recorded = Recorded()
    for index, (rate, runs) in enumerate(((1e-5, OTHERS), (2e-5, MODELS))):
        recorded.add("aa-ig", runs, index, **{"train.learning_rate": rate})
        recorded.add("reference-gold", runs, index, **{"train.learning_rate": rate})
    found = recorded.find({"aa-ig": 1})
    assert [row.selected for row in found.rows] == [True, False]
    told = "By another configuration than in the comparison, for the same task model: Gold (reference)."
    assert told in references_table("x", found).remarks
    assert told not in references_table("x", recorded.find({"aa-ig": 1, "reference-gold": 1})).remarks


def test_the_same_sweep_comes_first_and_other_seeds_do_not_count(recorded):
    (gold,) = recorded.variants["reference-gold"]
    other = Recorded()
    other.add("reference-gold", OTHERS, 5)
    recorded.files |= other.files
    recorded.variants["reference-gold"] = [replace(other.variants["reference-gold"][0], sweep="another"), gold]
    assert [row.configuration for row in recorded.find().rows][1] is gold
    recorded.variants["reference-gold"] = [replace(gold, records=gold.records[:2])]
    assert recorded.find().apart == {"reference-gold": "no configuration has its settings and seeds"}


def test_instances_without_a_gold_rationale_are_no_part_of_it(recorded):
    """Where nothing is marked, the gold extractor's first tokens are nobody's rationale."""

    def partly(run: InstanceResults, value: float) -> InstanceResults:
        gold_rows = np.where(np.arange(len(run)) < 30, run.gold_rows, 0)
        measured = {name: values.copy() for name, values in run.measured.items()}
        for name in COMP:
            measured[name][30:] = value
        for name in ("auprc", "token_f1"):
            measured[name][30:] = np.nan
        return replace(run, gold_rows=gold_rows, measured=measured)

    partial = Recorded()
    partial.add("aa-ig", [partly(run, 0.9) for run in MODELS])
    partial.add("reference-gold", [partly(moved(run, -0.1, 0.0), -0.9) for run in MODELS])
    found = partial.find()
    assert found.instances == 30
    difference, interval = found.rows[0].above_gold["comprehensiveness"]
    assert (difference, *interval) == pytest.approx((0.1,) * 3, abs=1e-6)


def test_nothing_without_a_reference_or_without_results(recorded):
    only = Recorded()
    only.add("aa-ig", MODELS)
    assert only.find() is None
    only.add("reference-gold", MODELS)
    assert only.find() is not None
    only.files = {name: data for name, data in only.files.items() if "gold" not in name}
    assert only.find() is None
    del recorded.files["s-reference-inv-0-1"]
    found = recorded.find()
    assert [*found.apart] == ["reference-inv"]
    assert "has no instances.parquet" in found.apart["reference-inv"]


def test_the_table_says_what_intervals_carry(recorded):
    noise = np.random.default_rng(3).normal(0, 0.3, 80)
    noise -= noise.mean()
    recorded.add(
        "reference-rand",
        [replace(run, measured={n: v + noise * (n in COMP) for n, v in run.measured.items()}) for run in MODELS],
    )
    recorded.variants["reference-gold"].clear()
    recorded.add("reference-gold", MODELS)
    table = references_table("sst", recorded.find())
    assert (
        table.title
        == "sst: the rationales of 3 task models (seeds), mean and 95 % interval on 80 test instances with gold"
    )
    assert table.raw["Comp - gold's"][1] == ""
    said = " ".join(table.remarks)
    assert "Inverse gold (reference): Comp is worse than the gold rationale's; Suff is worse than the gold" in said
    assert "Random (reference): Comp cannot be told from the gold rationale's; " in said
    assert "Gold (reference):" not in said
    csv = table.csv().splitlines()
    assert csv[0].startswith("method,label,configuration,test/comprehensiveness,test/sufficiency,test/auprc,")
    assert len(csv) == 5


def test_rationales_of_models_that_learned_nothing_are_marked_and_not_judged(recorded, monkeypatch):
    monkeypatch.setattr(Configuration, "better_than_majority", lambda self, split: False)
    table = references_table("sst", recorded.find())
    assert table.lead["Method"] == ["AA (IG) †", "Gold (reference) †", "Inverse gold (reference) †"]
    assert any("† not better than the majority class" in remark for remark in table.remarks)
    assert not any("the gold rationale's;" in remark for remark in table.remarks)

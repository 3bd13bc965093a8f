from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.methods.recipe import Criterion
from unirex_ray.metrics.table import LOGGED, METRIC_TOP_K_PERCENTS, METRICS, NRG_METRICS, SUFFICIENCY, TrialMetrics

KEYS = [metric.on(group) for group, metrics in LOGGED.items() for metric in metrics]


def test_keys_are_unique_and_five_metrics_make_cnrg():
    assert len({metric.key for metric in METRICS}) == len(METRICS)
    assert [metric.key for metric in NRG_METRICS] == [
        "comprehensiveness",
        "sufficiency",
        "auprc",
        "token_f1",
        "task_score",
    ]
    assert [metric.desideratum for metric in NRG_METRICS] == [*["faithfulness"] * 2, *["plausibility"] * 2, "task"]


def test_only_sufficiency_is_better_when_lower_among_them():
    assert [metric for metric in NRG_METRICS if not metric.higher_is_better] == [SUFFICIENCY]
    assert SUFFICIENCY.on("dev") == "dev/sufficiency"


def test_thresholds_are_the_papers():
    assert METRIC_TOP_K_PERCENTS == (1, 5, 10, 20, 50)


def test_every_logged_key_is_there_once():
    assert len(set(KEYS)) == len(KEYS)
    assert {f"train/{name}_loss" for name in get_args(Criterion)} | {"train/loss"} <= set(KEYS)


@given(st.dictionaries(st.sampled_from(KEYS), st.floats(allow_nan=False)))
def test_metrics_are_parted_and_put_together_again(flat):
    parted = TrialMetrics.from_flat(flat)
    assert parted.flat() == flat
    assert all(parted.of(group)[key.partition("/")[2]] == flat[key] for key in flat for group in [key.split("/")[0]])


def test_keys_of_earlier_versions_get_their_present_names_and_those_of_others_are_left_out():
    parted = TrialMetrics.from_flat({"dev/own_loss": 1.5, "system/cpu": 3.0, "note": 1.0, "dev/auprc": 0.0})
    assert parted == TrialMetrics(dev={"stage_loss": 1.5, "auprc": 0.0})
